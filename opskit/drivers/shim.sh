# The part of opskit that runs on a host: functions for one POSIX sh per user and connection.
#
# opskit sends this file, then one request a line, as the standard input of that sh. A request is
# `_o MARK FUNCTION WORD...`, each word single-quoted. The mark ends the answer, on standard output
# (mark, 1 when standard error has a mark too, then the answer's own words) and on standard error.
# A mark is random and never used twice, so that no output can pass for an end.
#
# Every name begins with _o_, so that a command meets no variable that it could mistake for its own.
# Forks are counted: what a builtin can do, a builtin does.

# End the answer on both streams.
_o_end() {
  printf '%s' "$_o_m" >&2
  printf '%s 1 %s\n' "$_o_m" "$*"
}

# End the answer where nothing was written to standard error.
_o_out() {
  printf '%s 0 %s\n' "$_o_m" "$*"
}

# Who adopts a process of this shell whose parent has ended: _o_ad; fails when that can't be seen.
# The process that is made to see it stops itself until it has been looked at.
_o_adopter() {
  _o_p=$( (
    cd -P /proc/self && kill -s STOP "${PWD#/proc/}"
  ) >/dev/null & printf '%s' "$!")
  _o_ad=1
  _o_list
  case " $_o_kids " in *" $_o_p "*) ;; *) _o_other ;; esac
  kill -s KILL "$_o_p"
  case " $_o_kids " in *" $_o_p "*) return 0 ;; *) return 1 ;; esac
} 2>/dev/null

# The same where it is not the first process of all.
_o_other() {
  _o_a=''
  read -r _o_a <"/proc/$_o_p/stat"
  # shellcheck disable=SC2086 # fields of numbers
  set -- ${_o_a##*\) }
  _o_ad=${2:-0}
  _o_list
} 2>/dev/null

# The children of whoever that is: _o_kids. Orphans go to its first thread.
_o_list() {
  read -r _o_kids <"/proc/$_o_ad/task/$_o_ad/children" || [ -d "/proc/$_o_ad" ]
} 2>/dev/null

# Does process $1 hold standard output or error of this shell? What closed descriptor 9 did so with
# all above 2, so that 1 and 2 are looked at. Where they can't be seen (another user's process, after
# sudo): yes, unless it is only waiting to be buried.
_o_holds() {
  if [ -r "/proc/$1/fd" ]; then
    # shellcheck disable=SC3013 # dash, bash and busybox all have -ef
    [ "/proc/$1/fd/1" -ef "/proc/$$/fd/3" ] || [ "/proc/$1/fd/2" -ef "/proc/$$/fd/4" ] ||
      [ "/proc/$1/fd/1" -ef "/proc/$$/fd/4" ] || [ "/proc/$1/fd/2" -ef "/proc/$$/fd/3" ]
    return
  fi
  _o_a=''
  read -r _o_a <"/proc/$1/cmdline"
  [ -n "$_o_a" ]
} 2>/dev/null

# Has the read that has just ended left anything that holds this shell's output? Whatever it left
# has been adopted, or descends from what has been: what was adopted since the last look is looked at,
# until two looks see the same.
_o_left() {
  _o_old=$_o_kids
  _o_list || return 0
  while [ "$_o_kids" != "$_o_old" ]; do
    for _o_p in $_o_kids; do
      case " $_o_old " in *" $_o_p "*) continue ;; esac
      _o_holds "$_o_p" && return 0
    done
    _o_old=$_o_kids
    _o_list || return 0
  done
  return 1
}

# Can leftovers be seen here at all?
_o_look() {
  if _o_adopter; then _o_sees=1; else _o_sees=0; fi
}

# The umask, without the fork that $(umask) costs.
_o_umask() {
  _o_um=''
  while read -r _o_a _o_um; do
    [ "$_o_a" != Umask: ] || break
    _o_um=''
  done </proc/self/status
  [ -n "$_o_um" ] || _o_um=$(umask)
}

# What every session needs to know of the host; descriptors 3 and 4 keep the two streams.
_o_begin() {
  [ -z "$1" ] || cd -- "${HOME:-/}" || cd /
  case :$PATH: in *:/usr/sbin:*) ;; *) PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin ;; esac
  LC_ALL=C.UTF-8
  export LC_ALL PATH
  unset CDPATH ENV BASH_ENV
  _o_told=''
  _o_umask
  _o_w=x # the letter of that limit: dash has another one
  # shellcheck disable=SC3045 # dash, bash and busybox all have -S
  ulimit -S -x >/dev/null || _o_w=w
  _o_sees='' _o_id=-
  read -r _o_id </proc/sys/kernel/random/boot_id
} 2>/dev/null

# The tag of an action: _o_g, a number. Words: its digest, the nonce of its run where there is one.
_o_tagged() {
  _o_g=''
  _o_digits "$1" || return 0
  _o_g=$_o_x
  _o_digits "$2" || _o_x=0
  _o_g=$(((_o_g ^ _o_x) + 1))
}

# The first seven digits of a hexadecimal number as a number: _o_x.
_o_digits() {
  case $1 in *[!0-9a-f]*) return 1 ;; ???????*) _o_x=$((0x${1%"${1#???????}"})) ;; *) return 1 ;; esac
}

# Let all that descends from this shell be known by a tag: the soft limit of file locks, which Linux
# has not looked at since 2.4 and still hands down. It stays with what throws its environment away.
_o_tag() {
  _o_tagged "$@"
  # shellcheck disable=SC3045 # dash, bash and busybox all have -S
  [ -z "$_o_g" ] || ulimit -S "-$_o_w" "$_o_g"
} 2>/dev/null

# Answer a request.
_o() {
  _o_m=$1
  shift
  "$@"
}

# Mark (in two halves, so that an echo of this line is no answer), user that sudo made of us, words
# of _o_mine where the run may write.
_o_hello() {
  _o_m=$1$2
  exec 3>&1 4>&2
  _o_begin "$3"
  shift 3
  if [ "$#" = 0 ]; then _o_r=closed; else _o_mine "$@"; fi
  _o_end "opskit $$ $_o_id $_o_r"
}

# Words of _o_mine.
_o_open() {
  _o_mine "$@"
  _o_end "$_o_r"
}

# state_dir: where that is, in _o_dir.
_o_home() {
  # shellcheck disable=SC2088 # the word itself, as the inventory has it
  case $1 in '~') _o_dir=$HOME ;; '~/'*) _o_dir=$HOME/${1#??} ;; *) _o_dir=$1 ;; esac
}

# state_dir run nonce, words of _o_raise: make the run's directory; what stands in its nonce file is
# the nonce.
_o_mine() {
  umask 077
  _o_home "$1"
  _o_run=$_o_dir/runs/$2 _o_r=closed
  [ -d "$_o_run" ] || mkdir -p -- "$_o_run" || return 0
  # shellcheck disable=SC3067 # dash, bash and busybox all have -O
  if ! [ -O "$_o_dir" ] || ! [ -O "$_o_run" ]; then
    printf '%s belongs to somebody else\n' "$_o_dir" >&2
    return 0
  fi
  _o_a=''
  [ -e "$_o_run/nonce" ] || _o_first "$3"
  read -r _o_a <"$_o_run/nonce" || _o_wait
  [ -n "$_o_a" ] || return 0
  _o_r="open $_o_a $_o_dir" _o_nonce=$_o_a
  shift 3
  _o_raise "$@"
}

# Run whose tokens a person wants taken away or nothing, store, number, what to say of us, locks:
# show our token on each lock, then look at the others'. Whoever has a higher number of the same
# store was later and counts; that of another store is in our way.
_o_raise() {
  _o_locks='' _o_store=${2:-} _o_no=${3:-0} _o_n=${1:-} _o_b=${4:-}
  [ "$#" -lt 5 ] || shift 4
  for _o_l; do
    _o_l=$_o_dir/locks/$_o_l
    [ -d "$_o_l" ] || mkdir -p -- "$_o_l"
    if ! _o_say "$_o_l/$_o_store.$_o_no" "$_o_b"; then
      [ -s "$_o_l/$_o_store.$_o_no" ] || rm -f -- "$_o_l/$_o_store.$_o_no"
      _o_r=closed
      return
    fi
    _o_locks="$_o_locks ${_o_l##*/}"
    _o_tidy
  done
  if _o_fenced; then
    _o_release
    printf '%s\n' "$_o_by" >&2
    _o_r=fenced
  fi
}

# token, line: what is there is written over and not emptied first, so that whoever is killed here,
# or finds no room, leaves it as it was. What a longer line leaves under the new one is not read.
_o_say() {
  printf '%s\n' "$2" 1<>"$1"
}

# Remove tokens of this lock that count no more: older ones of this store, and those to be taken.
_o_tidy() {
  for _o_q in "$_o_l"/*; do
    _o_a='' _o_t=${_o_q##*/}
    read -r _o_a _o_k <"$_o_q"
    if [ "${_o_t%.*}" = "$_o_store" ] && [ "${_o_t##*.}" -lt "$_o_no" ]; then rm -f -- "$_o_q"; fi
    if [ -n "$_o_n" ] && [ "$_o_a" = "$_o_n" ]; then rm -f -- "$_o_q"; fi
  done
} 2>/dev/null

# Does somebody else have one of our locks by now? _o_by: who.
_o_fenced() {
  for _o_l in $_o_locks; do
    for _o_q in "$_o_dir/locks/$_o_l"/*; do
      [ -e "$_o_q" ] || continue
      _o_t=${_o_q##*/}
      [ "${_o_t%.*}" = "$_o_store" ] && [ "${_o_t##*.}" -le "$_o_no" ] && continue
      _o_by=''
      read -r _o_by <"$_o_q"
      # Whoever has written nothing yet holds nothing yet, and will look at our token after that.
      if [ "${_o_by:-free}" = free ]; then
        [ "${_o_t%.*}" = "$_o_store" ] || continue
        _o_by='(another one, which has ended since)'
      fi
      return 0
    done
    _o_by='(another one, which has ended since)'
    [ -e "$_o_dir/locks/$_o_l/$_o_store.$_o_no" ] || return 0
  done
  return 1
} 2>/dev/null

# Say on our tokens that they hold nothing any more. They stay: whoever was overtaken, and comes back
# on a new connection, must find that somebody was later. One that is not the latest is removed.
_o_release() {
  for _o_l in $_o_locks; do
    _o_t=$_o_dir/locks/$_o_l/$_o_store
    [ -e "$_o_t.$_o_no" ] || continue
    _o_say "$_o_t.$_o_no" free
    for _o_q in "$_o_t".*; do
      [ "${_o_q##*.}" -le "$_o_no" ] || rm -f -- "$_o_t.$_o_no"
    done
  done
  _o_locks=''
} 2>/dev/null

# Write the nonce, unless another session does at this moment.
_o_first() {
  set -C
  { printf '%s\n' "$1" >"$_o_run/nonce"; } 2>/dev/null
  set +C
}

# Another session has made the file and not written it yet, or found no room to: wait a moment.
_o_wait() {
  sleep 1
  read -r _o_a <"$_o_run/nonce" && return
  rm -f -- "$_o_run/nonce" # so that it can be tried again
  printf '%s\n' "no room on its disk for $_o_run/nonce" >&2
}

# Run a text: cwd, 1 when there is a standard input, standard input, kind, text, number of
# NAME=value words, these, arguments.
_o_do() {
  unset _o_m
  umask "$_o_um"
  [ -z "$1" ] || cd -- "$1" || exit 1
  _o_f=$2 _o_i=$3 _o_k=$4 _o_t=$5 _o_n=$6
  shift 6
  while [ "$_o_n" -gt 0 ]; do
    export "${1?}"
    shift
    _o_n=$((_o_n - 1))
  done
  _o_tag "${OPSKIT_ACTION##*/}" ''
  if [ "$_o_f" = 1 ]; then
    printf '%s' "$_o_i" 2>/dev/null | { unset _o_i; _o_in "$@"; }
  else
    _o_in "$@"
  fi
}

# Kinds: `exec` is a text that is one program with its arguments, which needs no fork of its own;
# `sh` any text; `script` one that says by its first line what it is for. That one comes through a
# pipe, for a read must write nothing on the host, not even for a moment.
_o_in() {
  if [ "$_o_k" = exec ]; then
    eval "exec $_o_t"
  elif [ "$_o_k" = sh ]; then
    set -eu
    eval "$_o_t"
  else
    # Not by 8<&0: bash dies of a copy of what it reads its own commands from.
    exec 8</proc/self/fd/0
    printf '%s' "$_o_t" 2>/dev/null 8<&- | _o_by "$@"
  fi
}

# Run a script that comes on standard input by the interpreter that it names: with at most one
# argument, as the kernel has it. Its own standard input is descriptor 8.
_o_by() {
  exec 7</proc/self/fd/0 </proc/self/fd/8 8<&-
  _o_i=$(printf '%.256s' "$_o_t") # matching in a long text would be the end of bash
  _o_i=${_o_i%%"$_o_nl"*}
  case $_o_i in '#!'*) ;; *) exec sh /dev/fd/7 "$@" ;; esac
  _o_i=${_o_i#??}
  _o_i=${_o_i#"${_o_i%%[![:blank:]]*}"}
  _o_i=${_o_i%"${_o_i##*[![:blank:]]}"}
  _o_t=${_o_i%%[[:blank:]]*}
  _o_i=${_o_i#"$_o_t"}
  _o_i=${_o_i#"${_o_i%%[![:blank:]]*}"}
  exec "$_o_t" ${_o_i:+"$_o_i"} /dev/fd/7 "$@"
}

_o_nl='
'

# Words of _o_do: a read, in a subshell of this sh. Descriptor 9 is a pipe that is read here until
# every process that inherited it has closed it. With something left that closed it and can still
# write here, the answer says that this channel must not be used again.
_o_read() {
  [ -n "$_o_sees" ] || _o_look
  _o_x=$(exec 9>&1 1>&3 3>&- 4>&- </dev/null; _o_do "$@")
  _o_r=$?
  _o_x=''
  if [ "$_o_sees" = 0 ] || _o_left; then _o_end "$_o_r dirty"; else _o_end "$_o_r clean"; fi
}

# What runs a change in a session of its own: makes the output file, which can be made once only and
# so claims the change; notes its pid, and at the end the status, in the room that was kept for them in
# rc. The prefix among its words tells it from others that may get its pid. Words: files' prefix, kind, umask, LC_ALL, cwd, text, arguments.
# shellcheck disable=SC2016 # for the other sh
_o_runner='
set -C
printf "" >"$1.out" || exit 1
set +C
p=$1 k=$2 u=$3 c=$5 x=$6
{ LC_ALL=$4; } 2>/dev/null
shift 6
echo "p$$ ?" 1<>"$p.rc"
exec >>"$p.out" 2>>"$p.err"
umask "$u"
(
  [ -z "$c" ] || cd -- "$c" || exit 1
  case $k in
    exec) eval "exec $x" ;;
    sh) exec sh -eu "$p.script" "$@" ;;
    *) exec "$p.script" "$@" ;;
  esac
)
printf "%s .\n" "$?" 1<>"$p.rc"
'

# The fence: the file rc can be made once only. It keeps room for what will stand in it. A program
# alone needs no script. To make a file is what costs a host most, so there are few.
_o_claim() {
  _o_had=1
  umask 077
  set -C
  [ ! -e "$1.rc" ] && { _o_had=0 && printf '\n%16383s' ' '; } >"$1.rc" &&
    { [ "$2" = exec ] || printf '%s' "$3" >"$1.script"; }
  _o_r=$?
  set +C
  return "$_o_r"
}

# State of the action with files' prefix $1 in _o_r: none, claimed, barred (it never began and never
# will), running PID, gone PID, done RC.
# It may end while rc is read, byte by byte: what begins with p is never an end, and is read again.
_o_state() {
  _o_r=none
  [ -e "$1.rc" ] || return 0
  _o_r=barred
  [ ! -e "$1.bar" ] || return 0
  _o_r=claimed
  _o_noted "$1" || return 0
  [ "$_o_b" != . ] || return 0
  if _o_lives "${_o_a#p}" "${1##*/runs/}"; then
    _o_r="running ${_o_a#p}"
  else
    _o_r="gone ${_o_a#p}"
    _o_noted "$1"
  fi
} 2>/dev/null

# What rc says: _o_a is the process; or the status, _o_b a dot, and _o_r is that it is done. Fails
# where nothing is said yet.
_o_noted() {
  _o_a='' _o_b=''
  read -r _o_a _o_b <"$1.rc"
  case $_o_a in
    '') return 1 ;;
    p*) [ "$_o_b" != . ] || _o_b='' ;;
    *[!0-9]*) _o_a='?' _o_b='' ;; # a disk that fails, or a person
    *) [ "$_o_b" != . ] || _o_r="done $_o_a" ;;
  esac
}

# Is process $1 what runs the change with files RUN/NAME ($2)? Its words are told line by line, and
# one that waits to be buried has none. What is no process id may be the name of another file there.
_o_lives() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
  while _o_t='' && { read -r _o_t || [ -n "$_o_t" ]; }; do # an error leaves it as it was
    case $_o_t in *"$2"*) return 0 ;; esac
  done <"/proc/$1/cmdline"
  return 1
} 2>/dev/null

# digest inline, words of _o_do: a change, in a session of its own that outlives this one.
# Answers when it has ended, with the first bytes of its output.
_o_change() {
  [ -z "$_o_told" ] || _o_empty "$_o_told" # it is recorded: nothing is sent before that
  _o_p=$_o_run/$1 _o_h=$2 _o_told=''
  shift 2
  if ! _o_claim "$_o_p" "$4" "$5"; then
    if [ "$_o_had" = 1 ] && [ -e "$_o_p.rc" ]; then
      _o_state "$_o_p"
      _o_end "exists $_o_r"
    else
      [ "$_o_had" = 1 ] || rm -f -- "$_o_p".*
      _o_end "refused"
    fi
    return
  fi
  if _o_fenced; then # looked at only now: whoever comes later looks at what we have claimed
    printf '' >"$_o_p.bar"
    printf '%s\n' "$_o_by" >&2
    _o_end fenced
    return
  fi
  [ "$4" != script ] || chmod 700 -- "$_o_p.script"
  _o_launch "$@"
  _o_state "$_o_p"
  case $_o_r in done*) _o_e=0 _o_told=$_o_p ;; *) _o_e=1 ;; esac
  [ ! -s "$_o_p.out" ] || head -c "$_o_h" "$_o_p.out"
  [ ! -s "$_o_p.err" ] || { _o_e=1; head -c "$_o_h" "$_o_p.err" >&2; }
  if [ "$_o_e" = 1 ]; then _o_end "$_o_r"; else _o_out "$_o_r"; fi
}

# In the foreground: a background command would have SIGINT and SIGQUIT ignored.
_o_launch() {
  if [ "$2" = 1 ]; then
    printf '%s' "$3" 2>/dev/null | _o_setsid "$@" >/dev/null 3>&- 4>&-
  else
    (_o_setsid "$@") </dev/null >/dev/null 3>&- 4>&-
  fi
}

_o_setsid() {
  _o_c=$1 _o_k=$4 _o_t='' _o_n=$6
  [ "$4" != exec ] || _o_t=$5
  shift 6
  while [ "$_o_n" -gt 0 ]; do
    export "${1?}"
    shift
    _o_n=$((_o_n - 1))
  done
  OPSKIT_ACTION=${_o_run##*/}/${_o_p##*/}
  export OPSKIT_ACTION
  _o_tag "${_o_p##*/}" "$_o_nonce"
  _o_l=$LC_ALL
  LC_ALL=C # for setsid, which would load a locale of which it makes no use
  exec setsid sh -c "$_o_runner" sh "$_o_p" "$_o_k" "$_o_um" "$_o_l" "$_o_c" "$_o_t" "$@"
}

# digest: state.
_o_ask() {
  _o_state "$_o_run/$1"
  _o_out "$_o_r"
}

# state_dir run digest: the nonce that the run's directory has (- where it has none), and the state of
# an action, for who only looks: nothing is made.
_o_tell() {
  _o_home "$1"
  _o_p=$_o_dir/runs/$2 _o_a=''
  read -r _o_a <"$_o_p/nonce"
  _o_q=${_o_a:--}
  _o_state "$_o_p/$3"
  _o_out "$_o_q $_o_r"
} 2>/dev/null

# digest: keep an action that has not begun from ever beginning; state. Whoever makes its files first
# decides that, whatever is still on its way here.
_o_bar() {
  _o_p=$_o_run/$1
  umask 077
  set -C
  _o_state "$_o_p"
  case $_o_r in
    none) printf '' >"$_o_p.rc" && printf '' >"$_o_p.bar" ;;
    claimed) printf '' >"$_o_p.out" && printf '' >"$_o_p.bar" ;;
  esac
  set +C
  _o_state "$_o_p"
  _o_out "$_o_r"
} 2>/dev/null

# digest offset-of-out offset-of-err bytes: state, and output from these offsets (from 1).
_o_peek() {
  _o_p=$_o_run/$1
  _o_state "$_o_p"
  tail -c "+$2" "$_o_p.out" 2>/dev/null | head -c "$4"
  tail -c "+$3" "$_o_p.err" 2>/dev/null | head -c "$4" >&2
  _o_end "$_o_r"
}

# digest out|err: throw away what is there; the writer goes on at the beginning.
_o_cut() {
  printf '' >|"$_o_run/$1.$2"
  _o_out cut
} 2>/dev/null

# mark size path: take `size` raw bytes into a new file. They must not be sent before the answer
# "ready", which has a mark of its own, for this sh may have read ahead; and where the reader fails
# this sh ends, for it would take the rest of the bytes for requests.
_o_take() {
  rm -f -- "$3"
  umask 077
  set -C
  _o_a=''
  {
    _o_a=ready
    _o_out ready >&3 && head -c "$2"
  } >"$3" || {
    [ -z "$_o_a" ] || exit 1
    set +C
    _o_end failed
    return 0
  }
  set +C
  _o_m=$1
  _o_out taken
}

# path: remove what was taken.
_o_drop() {
  rm -f -- "$1" 2>/dev/null
  _o_out drop
}

# Every process of this machine, as /proc has it.
_o_ps() {
  cat /proc/[0-9]*/stat 2>/dev/null
  _o_out ps
}

# RUN/DIGEST and nonce or nothing: processes that carry this action's mark or tag.
_o_kin() {
  _o_tagged "${1#*/}" "$2"
  {
    grep -lsF "OPSKIT_ACTION=$1" /proc/[0-9]*/environ
    [ -z "$_o_g" ] || grep -ls "^Max file locks  *$_o_g " /proc/[0-9]*/limits
  } 2>/dev/null
  _o_out kin
}

# signal pid...
_o_kill() {
  _o_a=$1
  shift
  for _o_b; do kill -s "$_o_a" "$_o_b" 2>/dev/null; done
  _o_out kill
}

# Throw away what an action has printed.
_o_empty() {
  printf '' >"$1.out"
  printf '' >"$1.err"
} 2>/dev/null

# Throw away what all actions have printed that have ended: it is recorded. What runs is left alone.
_o_forget() {
  for _o_p in "$_o_run"/*.rc; do
    _o_state "${_o_p%.rc}"
    case $_o_r in done*) _o_empty "${_o_p%.rc}" ;; esac
  done
  _o_out forget
} 2>/dev/null

# The run has come to its end: its locks are free.
_o_free() {
  _o_release
  _o_out free
}

# Forget this run's directory on the host, and what undo would have needed a month ago.
_o_clean() {
  _o_release
  rm -rf -- "${_o_run:?}" 2>/dev/null
  [ ! -d "$_o_dir/undo" ] ||
    find "$_o_dir/undo" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf -- {} + 2>/dev/null
  _o_out clean
}
