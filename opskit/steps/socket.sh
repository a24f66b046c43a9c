# Talk to a running HAProxy by its socket, and know what a reload of it would do.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind common.sh, in front of the text that says what is changed (haproxy.sh or backend.sh),
# with these set besides:
#   socket            the path of HAProxy's socket (level admin)
#   backend           the backend
#   state_file        where HAProxy reads states from when it is reloaded ('': it reads none)
#   test              command that checks its configuration
#   reloads_awk       the program that knows where it reads states from (reloads.awk)
#   lock_timeout      whole seconds
#
# The socket answers errors as text, and nothing else tells them from success: what a command
# answers must be empty, and what it has done is read back.

find_talker() {
  for talker in socat perl python3; do
    if command -v "$talker" >/dev/null 2>&1; then return; fi
  done
  refuse "this balancer has none of socat, python3 and perl to talk to $socket; install one"
}

# Prints what the socket answers to a command.
talk() {
  # shellcheck disable=SC2016  # perl's own names
  case $talker in
    socat) printf '%s\n' "$1" | timeout 10 socat -t 10 - "UNIX-CONNECT:$socket" 9<&- ;;
    python3) timeout 10 python3 -c 'import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.sendall(sys.argv[2].encode() + b"\n")
peer.shutdown(socket.SHUT_WR)
while data := peer.recv(65536):
    sys.stdout.buffer.write(data)' "$socket" "$1" 9<&- ;;
    perl) timeout 10 perl -MIO::Socket::UNIX -e '
      my $peer = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$!\n";
      print $peer "$ARGV[1]\n";
      shutdown $peer, 1;
      print while <$peer>' "$socket" "$1" 9<&- ;;
  esac
}

# Sets heard, or fails with why.
hear() {
  if heard=$(talk "$1" 2>&1); then
    case $heard in
      *'ermission denied'*) why="$socket does not allow it (its level must be admin): $heard" ;;
      *) return 0 ;;
    esac
  else
    why="$socket does not answer: $(printf '%s\n' "$heard" | tail -n 1)"
  fi
  return 1
}

# Gives an order that is answered by nothing when it is obeyed.
order() {
  hear "$1" || return 1
  [ -z "$heard" ] || { why="HAProxy answers to '$1': $heard"; return 1; }
}

# Sets process, since (how long it runs), many and stopping, as `show info` has told them in heard.
read_info() {
  info=$(printf '%s\n' "$heard" | awk -F ': ' '
    $1 == "Pid" { pid = $2 } $1 == "Uptime_sec" { since = $2 } $1 == "Nbproc" { many = $2 } $1 == "Stopping" { stopping = $2 }
    END { print pid + 0, since + 0, many + 0, stopping + 0 }')
  read -r process since many stopping <<END
$info
END
  [ "$process" -gt 0 ] || { why="$socket does not answer as HAProxy does: $heard"; return 1; }
}

# Sets process: which one answers, and since when.
find_process() { hear 'show info' && read_info; }

# Whether who has just answered (`show info`, in heard) is the process that was found first, and is
# not the one that a reload has left behind. Otherwise process is the one that has answered.
is_same() {
  before_process=$process
  read_info || return 1
  [ "$process" = "$before_process" ] || { why="HAProxy was reloaded meanwhile (process $before_process, now $process)"; return 1; }
  [ "$stopping" -eq 0 ] || { why="HAProxy is being reloaded (process $process is stopping)"; return 1; }
}

# Whether the process still answers that was found first.
same_process() { hear 'show info' && is_same; }

# Finds who is to be told when all is taken back: while a reload is under way, who comes.
find_who_stays() {
  tries=0
  until find_process && [ "$stopping" -eq 0 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 25 ] || return 0
    sleep 0.2
  done
}

# Sets earlier: processes of HAProxy in this network that are not the one that answers, nor its master.
# After a reload they finish what they began, which no socket tells of.
find_earlier() {
  earlier=''
  { read -r called <"/proc/$process/comm"; } 2>/dev/null || return 0
  case $called in haproxy*) ;; *) return 0 ;; esac
  network=$(readlink "/proc/$process/ns/net") || network=''
  master=$(awk '{ sub(/^.*\) /, ""); print $2 }' "/proc/$process/stat" 2>/dev/null) || master=''
  for each in /proc/[0-9]*/comm; do
    title=''
    { read -r title <"$each"; } 2>/dev/null || :
    id=${each#/proc/} id=${id%/comm}
    case $id,$title in "$process",* | "$master",*) continue ;; *,"$called") ;; *) continue ;; esac
    if [ "$(readlink "/proc/$id/ns/net")" = "$network" ]; then earlier="$earlier $id"; fi
  done
}

# Refuses for what only a reload would do. The way back needs none: there it is told.
hinder() {
  case $action in
    back | found) note="$note; $1" ;;
    *) refuse "$1" ;;
  esac
}

# Refuses an HAProxy in which a change would not last, or would be one of several.
find_haproxy() {
  find_talker
  find_process || refuse "$why"
  [ "$many" -le 1 ] || refuse "HAProxy runs as $many processes, of which $socket is one; use threads (nbthread)"
  [ "$stopping" -eq 0 ] || refuse "the HAProxy that answers on $socket is stopping: a reload is under way"
  tested=$(sh -c "$test" 2>&1 </dev/null 9<&-) ||
    hinder "HAProxy's configuration is not valid ($test): $(printf '%s\n' "$tested" | grep -F ALERT | head -n 1)"
  if [ -n "$state_file" ]; then check_reloads; fi
}

# Refuses where a reload would undo what is done here, or bring in what nobody has loaded yet.
check_reloads() {
  set -f
  # shellcheck disable=SC2046  # the words of a command
  set -- $(printf '%s\n' "$test" | awk '{ for (i = 1; i < NF; i++) if ($i == "-f") print $(i + 1) }')
  set +f
  for each in "$@"; do
    shift
    if [ -d "$each" ]; then set -- "$@" "$each"/*.cfg; else set -- "$@" "$each"; fi
  done
  for each in "$@"; do
    [ -r "$each" ] || refuse "$each can't be read; give the balancer's entry a sudo user who may"
    if [ $(($(date +%s) - since + 2)) -lt "$(stat -c %Y "$each")" ]; then
      hinder "$each was changed after HAProxy loaded it; a reload would bring that in. Load it or take it back first"
    fi
  done
  [ $# -gt 0 ] || return 0
  said_servers=$(cat "$@" | awk -v backend="$backend" -v want=servers "$reloads_awk")
  loads=$(cat "$@" | awk -v backend="$backend" "$reloads_awk")
  case $loads in
    "fault$tab"*) hinder "${loads#*"$tab"}, so a reload would undo what is set here; write it (and server-state-file $state_file), or state_file: null" ;;
    "file$tab"*)
      loads=${loads#*"$tab"}
      [ "$(readlink -f -- "$loads")" = "$(readlink -f -- "$state_file")" ] ||
        hinder "after a reload HAProxy reads the states of backend $backend from $loads and not from $state_file, so it would undo what is set here; write that as state_file of the inventory"
      ;;
  esac
}

# Keeps the states where HAProxy finds them when it is reloaded.
keep_states() {
  [ -n "$state_file" ] || return 0
  hear 'show servers state' || return 1
  case $heard in
    1*) ;;
    *) why="HAProxy answers to 'show servers state': $heard"; return 1 ;;
  esac
  why="$state_file can't be written, so a reload would undo what is set here"
  { printf '%s\n' "$heard" >"$state_file.opskit-new"; } 2>/dev/null || return 1
  make_durable "$state_file.opskit-new"
  mv -f "$state_file.opskit-new" "$state_file"
}

# Sets dir, where what is kept lies, and at, how names in it begin. Beside the states, so that
# another login finds it; where none are kept it is the login's own.
open_dir() {
  if [ -n "$state_file" ]; then
    dir=$(dirname "$(readlink -f -- "$state_file" || printf '%s' "$state_file")")
    [ -w "$dir" ] || refuse "$dir can't be written, where $state_file is; give the balancer's entry a sudo user who may"
  else
    dir=${XDG_STATE_HOME:-$HOME/.local/state}/opskit-haproxy
    mkdir -p "$dir" || refuse "$dir can't be made"
  fi
  at=.opskit-$(printf '%s' "$socket-$backend" | tr -c '0-9A-Za-z\n' _)
}

# One change at a time of whatever this socket steers, also by different users.
take_socket_lock() {
  place=$(dirname "$(readlink -f -- "$socket" || printf '%s' "$socket")")
  [ -d "$place" ] || refuse "$socket does not answer: there is no $place"
  take_lock "$place"
}
