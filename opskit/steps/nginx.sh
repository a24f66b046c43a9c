# Change a file of nginx's configuration, and prove that nginx runs with it.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind common.sh and in front of the text that says what is changed (pool.sh or colours.sh). Run by any POSIX sh
# on the balancer, with these set:
#   file              the file that is changed
#   test, reload      commands that check nginx's configuration, and that have it loaded
#   pid, error_log    nginx's pid file; its error log ('' when there is none to read)
#   reload_timeout, lock_timeout     whole seconds
#
# Exit status: 0 done, or it was so already
#   3 refused, nothing changed · 4 failed, the old configuration is back
#   5 failed, and the old configuration could not be proved to be back · 143 interrupted
#
# Why so careful: a reload is asynchronous, and both `nginx -t` and the reload command exit 0 when
# the new configuration can't be applied. Only new workers prove that it was.

changed=no reloaded=no fresh='' old='' master='' serving='' retiring=''

# --- nginx ------------------------------------------------------------------

find_master() {
  { read -r master <"$pid"; } 2>/dev/null || :
  case $master in
    '' | *[!0-9]*) refuse "$pid holds no process number; is nginx running?" ;;
  esac
  [ -d "/proc/$master" ] || refuse "nginx (process $master of $pid) is not running"
  workers
  [ -n "$serving" ] || refuse "process $master has no nginx worker; is $pid the right pid file?"
  if [ -n "$error_log" ] && [ -e "$error_log" ] && [ ! -r "$error_log" ]; then
    refuse "$error_log can't be read; give the balancer's entry a sudo user who may"
  fi
}

# Sets serving and retiring: the master's workers, and those that only finish what they began.
workers() {
  children='' serving='' retiring=''
  if [ -r "/proc/$master/task/$master/children" ]; then
    { read -r children <"/proc/$master/task/$master/children"; } 2>/dev/null || :
  else
    children=$(cat /proc/[0-9]*/stat 2>/dev/null |
      awk -v m="$master" '{ p = $1; sub(/^.*\) /, ""); if ($2 == m) print p }')
  fi
  for child in $children; do
    title=''
    { read -r title <"/proc/$child/cmdline"; } 2>/dev/null || :
    case $title in
      *'worker process is shutting down'*) retiring="$retiring $child" ;;
      *'worker process'*) serving="$serving $child" ;;
    esac
  done
}

# Whether nginx runs what the file says: no change was cut off, and none came after its workers.
loaded() {
  [ ! -e "$old" ] || return 1
  written=$(stat -c %Y "$real")
  # shellcheck disable=SC2046  # one word a worker
  begun=$(awk -v hertz="$(getconf CLK_TCK 2>/dev/null || echo 100)" '
    FILENAME == "/proc/stat" { if ($1 == "btime") boot = $2; next }
    { sub(/^.*\) /, ""); t = boot + $20 / hertz; if (t > newest) newest = t }
    END { printf "%d\n", newest }
  ' /proc/stat $(for w in $serving; do echo "/proc/$w/stat"; done) 2>/dev/null)
  [ "$written" -le $((begun + 2)) ]
}

# Does nginx read this very file? Otherwise a change of it would do nothing, and look well.
is_read() {
  case " $test " in
    *' -t '*) dump=$(printf '%s\n' " $test " | sed 's/ -t / -T /') ;;
    *) return 0 ;;
  esac
  files=$(sh -c "$dump" 2>/dev/null </dev/null 9<&- |
    sed -n 's/^# configuration file \(.*\):$/\1/p') || :
  [ -n "$files" ] || return 0
  printf '%s\n' "$files" | while IFS= read -r each; do
    if [ "${each##*/}" = "${real##*/}" ] || [ "${each##*/}" = "${file##*/}" ] ||
      [ "$(readlink -f -- "$each")" = "$real" ]; then echo yes; fi
  done | grep -q yes
}

valid() { tested=$(sh -c "$test" 2>&1 </dev/null 9<&-); }

# Sets log_was: where the error log ends now.
mark_log() { log_was=$(stat -c '%i %s' "$error_log" 2>/dev/null) || log_was='0 0'; }

emergency() {
  log_is=$(stat -c '%i %s' "$error_log" 2>/dev/null) || return 1
  [ "$log_is" != "$log_was" ] || return 1
  first=1
  if [ "${log_is% *}" = "${log_was% *}" ] && [ "${log_is#* }" -ge "${log_was#* }" ]; then
    first=$((${log_was#* } + 1))
  fi
  # A worker that retires with connections open says so as an alert: that is no fault.
  tail -c "+$first" "$error_log" 2>/dev/null | grep -E '\[(emerg|alert)\]' |
    grep -v ' open socket #[0-9]* left in connection '
}

# Whether the master is at rest: it holds signals back while it carries out a reload, and lets them
# in only while it waits. Where the kernel does not tell, it counts as at rest.
at_rest() {
  awk '/^(SigPnd|ShdPnd|SigBlk):/ && $2 ~ /[13579bdf]$/ { busy = 1 } END { exit busy }' \
    "/proc/$master/status" 2>/dev/null
}

# Waits for a reload that somebody else has begun: its workers would be taken for ours.
await_rest() {
  tick
  deadline=$((now + reload_timeout * 100))
  until at_rest; do
    tick
    if [ "$now" -ge "$deadline" ]; then
      why="nginx is still busy with another reload after $reload_timeout s"
      return 1
    fi
    sleep 0.05
  done
}

# Has nginx load its configuration and proves it: a worker that was not there before, every one
# that was there has retired, no [emerg] in the log, and no other reload on its way. Otherwise sets
# why.
load() {
  await_rest || return 1
  workers
  before=" $serving " why=''
  mark_log
  reloaded=yes
  if ! answer=$(sh -c "$reload" 2>&1 </dev/null 9<&-); then
    why="the reload command failed ($reload): $answer"
    return 1
  fi
  tick
  deadline=$((now + reload_timeout * 100))
  while :; do
    if cries=$(emergency); then
      why="nginx did not take the configuration: $(printf '%s\n' "$cries" | head -n 1)"
      return 1
    fi
    workers
    new='' stayed=''
    for worker in $serving; do
      case $before in
        *" $worker "*) stayed="$stayed $worker" ;;
        *) new="$new $worker" ;;
      esac
    done
    if [ -n "$new" ] && [ -z "$stayed" ] && at_rest; then return 0; fi
    tick
    if [ "$now" -ge "$deadline" ]; then
      why="nginx has no new workers $reload_timeout s after the reload (still serving:$stayed)"
      return 1
    fi
    sleep 0.05
  done
}

# --- the change -------------------------------------------------------------

# Sets real and old: the file itself where a link was named, and where its old text is kept.
resolve() {
  real=$(readlink -f -- "$file") || real=''
  [ -f "$real" ] || refuse "$file: no such file"
  old="${real%/*}/.${real##*/}.opskit-old"
}

# One change at a time: the lock is on the directory, and goes with this process.
open_file() {
  resolve
  dir=${real%/*}
  fresh="$dir/.${real##*/}.opskit-new"
  take_lock "$dir"
}

# Puts the new text in place in one move, the old one beside it.
replace() {
  make_durable "$fresh"
  rm -f "$old"
  ln "$real" "$old" 2>/dev/null || cp -p "$real" "$old"
  changed=yes
  mv -f "$fresh" "$real" || put_back "$file could not be replaced"
  make_durable "$dir"
}

# Whether what is loaded again also shows; who can measure it has a function of their own.
proven() { :; }
live() { :; }

# Ends with the old file in place, and loaded where the new one may have been.
put_back() {
  problem=$1
  trap '' TERM INT HUP
  if [ "$changed" = no ]; then
    printf 'failed: %s; %s was not changed\n' "$problem" "$file" >&2
    exit 4
  fi
  if ! mv -f "$old" "$real"; then
    printf 'failed: %s; and %s could not be put back; the old text is in %s\n' \
      "$problem" "$file" "$old" >&2
    exit 5
  fi
  changed=no
  make_durable "$dir"
  if [ "$reloaded" = no ]; then
    valid || problem="$problem (the old text is no better: nginx's configuration was broken before)"
    printf 'failed: %s; the old file is back, nginx was not reloaded\n' "$problem" >&2
    exit "${2:-4}"
  fi
  if load && proven; then
    printf 'failed: %s; the old configuration is back and loaded\n' "$problem" >&2
    exit "${2:-4}"
  fi
  unlike=$why
  printf 'failed: %s; the old file is back, but: %s%s\n' "$problem" "$unlike" "$(live)" >&2
  exit 5
}

leave() {
  status=$?
  [ -z "$fresh" ] || rm -f "$fresh"
  exit "$status"
}

trap leave EXIT
