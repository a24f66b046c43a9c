# Take one server of a backend of HAProxy out of service, put it back, or ask whether the backend can
# spare it; by its socket, without a reload. The look at a whole backend is in whole.sh.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind common.sh, members.sh, sockets.sh, socket.sh and whole.sh, with these set besides what is listed there:
#   haproxy_awk       the program that reads the socket's answers (haproxy.awk)
#   action            drain | ready | spare | check
#   pool              the pool's name
#   name, member      the member's host name and its address:port ('' for check)
#   members           for check: every member as name=address:port, apart by blanks
#   besides           for check: names of members that are not asked for their health
#   healthy           all | others | none: whose checks count
#   min_up            how many servers must stay (for check: be) in service, or a percentage of all
#   drain_timeout, up_timeout     whole seconds
#
# Exit status: 0 done, or it was so already
#   1 check: not the whole backend is in service
#   3 refused, nothing changed · 4 failed, the server is as it was
#   5 failed, and it could not be proved to be · 6 drain: drained, but sessions are left
#   143 interrupted
#
# A server that comes out of maintenance counts as up before anybody has looked at it, and shows the
# result of a check from before. So it is put back in two steps: drained and said to be down, until
# checks say otherwise; only then ready. A reload keeps a server in maintenance, but not its weight
# where that was not the one it began with; so the weight is put back, too.

changed=no

# --- the server ---------------------------------------------------------------

# Sets servers, a line for each of the backend.
read_servers() {
  hear "show servers state $backend" || return 1
  states=$heard
  hear 'show stat' || return 1
  servers=$(printf '%s\n=\n%s\n' "$states" "$heard" |
    awk -v action=servers -v backend="$backend" "$haproxy_awk")
  case $servers in
    "fault$tab"*) why=${servers#*"$tab"}; return 1 ;;
  esac
}

# Prints an address:port as HAProxy writes it, a line for each address that a name has.
addresses_of() {
  case ${1%:*} in
    \[*\] | *[!0-9.]*) ;;
    *) printf '%s\n' "$1"; return ;;
  esac
  case $1 in
    \[*) printf '%s\n' "$1" ;;
    *) getent ahosts "${1%:*}" | awk -v port="${1##*:}" '!seen[$1]++ { print ($1 ~ /:/ ? "[" $1 "]" : $1) ":" port }' ;;
  esac
}

# Prints the lines of the servers with an address:port.
lines_of() {
  { addresses_of "$1"; echo; printf '%s\n' "$servers"; } | awk -F '\t' '
    !listed { if ($0 == "") listed = 1; else is[$1] = 1; next }
    $9 in is'
}

# Sets server, state, weight, initial, status, checked, current, elsewhere and kind, as HAProxy has them.
find_server() {
  read_servers || return 1
  line=$(lines_of "$member")
  case $line in
    '')
      why="member $name ($member) is not in backend $backend; it has $(printf '%s\n' "$servers" | awk -F '\t' '{ printf "%s%s (%s)", sep, $1, $9; sep = ", " }')"
      return 1
      ;;
    *"
"*) why="member $name ($member) is in backend $backend more than once; give it one server"; return 1 ;;
  esac
  IFS=$tab read -r server state weight initial status checked current elsewhere where kind <<END
$line
END
  [ "$status" != 'no check' ] ||
    { why="server $server has no check, so nobody knows whether it is up; write check behind it"; return 1; }
}

# Whether checks say that the server could take requests.
is_up() {
  case $status in UP* | DRAIN*) ;; *) return 1 ;; esac
  case $checked in L[467]OK* | PROCOK) ;; *) return 1 ;; esac
}

begin() {
  open_dir
  kept=''
  take_socket_lock
  find_haproxy
  find_server || refuse "$why"
  kept=$dir/$at.out-$server
  found_first=$state
}

look() {
  find_haproxy
  read_servers || refuse "$why"
}

# --- the change ---------------------------------------------------------------

# Brings the server into a state, and reads back that it is.
set_state() {
  order "set server $backend/$server state $1" || return 1
  find_server || return 1
  same_process || return 1
  [ "$state" = "$1" ] || { why="HAProxy has not done it: $server is $status"; return 1; }
}

# Ends with the server in the state in which it was.
take_back() {
  problem=$1
  trap '' TERM INT HUP
  if [ "$changed" = no ]; then
    printf 'failed: %s; nothing was changed\n' "$problem" >&2
    exit "${2:-4}"
  fi
  find_who_stays
  if set_state "$found_first" && keep_states; then
    printf 'failed: %s; %s is %s, as before\n' "$problem" "$server" "$status" >&2
    exit "${2:-4}"
  fi
  printf 'failed: %s; and %s could not be proved to be %s again: %s\n' "$problem" "$server" "$found_first" "$why" >&2
  exit 5
}

# Prints the addresses of servers that take requests; where checks are not to count, of those that
# would if they were up.
serving() {
  printf '%s\n' "$servers" | awk -F '\t' -v but="$1" -v any="$healthy" '
    $1 != but && $2 == "ready" && $3 > 0 && ($5 ~ /^UP/ || any == "none") { print $9 "\t" $10 }'
}

check_floor() {
  case $healthy,$status in
    none,* | *,UP*) ;;
    *) note="$note; it was not up itself: $status"; return ;;
  esac
  others=$(serving "$server" | cut -f 1)
  left=$(printf '%s\n' "$others" | grep -c . || :)
  total=$(printf '%s\n' "$servers" | grep -c .)
  settle_floor "$total"
  [ "$left" -ge "$min_up" ] ||
    refuse "$name ($member) can't leave pool $pool: $left of $total servers would be up, at least $min_up must be"
  if [ "$min_up" -gt 0 ]; then check_health "$others"; fi
}

# Waits until nothing is left of what the server was given, in whatever backend, by whatever process.
wait_for_none() {
  exec 9<&-
  tick
  began=$now deadline=$((now + drain_timeout * 100))
  while :; do
    if ! find_server || ! same_process; then # in this order: what was read is of that process
      printf 'failed: %s (%s) was drained in backend %s, but what is left of its sessions is not known: %s\n' \
        "$name" "$member" "$backend" "$why" >&2
      exit 6
    fi
    open=0
    find_earlier
    if [ -n "$earlier" ]; then
      find_sockets "$process"
      # shellcheck disable=SC2086  # numbers
      count_held $earlier
    fi
    tick
    [ $((current + elsewhere + open)) -gt 0 ] || return 0
    if [ "$now" -ge "$deadline" ]; then still_open; fi
    sleep 0.2
  done
}

still_open() {
  left=$((current + elsewhere + open)) more=''
  if [ "$elsewhere" -gt 0 ]; then more="; $elsewhere in other backends, which have this address too: drain it there as well"; fi
  if [ "$open" -gt 0 ]; then more="$more; $open of another process of HAProxy, such as one from before a reload (process$earlier)"; fi
  printf 'failed: %s (%s) is drained in backend %s, but after %s s HAProxy still has %s session%s with it%s\n' \
    "$name" "$member" "$backend" "$drain_timeout" "$left" "$(plural "$left")" "$more" >&2
  exit 6
}

# Brings the server out of service by one step, and has a reload remember it.
step_out() {
  trap 'take_back interrupted 143' TERM INT HUP
  changed=yes
  set_state "$1" || take_back "$why"
  keep_states || take_back "$why"
  changed=no
  trap - TERM INT HUP
}

# Whether the server is as opskit left it after it had noted how it found it. Sets was, weighed and
# looked: state, weight and status as they were found.
is_ours() {
  [ -e "$kept" ] || return 1
  read -r was weighed looked left_as <"$kept"
  case $left_as,$state in
    drain,drain | maint,maint | either,drain | either,maint) ;;
    *) return 1 ;;
  esac
}

# Notes how the server was found, and how it is left.
remember() {
  printf '%s %s %s %s\n' "$was" "$weighed" "$looked" "$1" >"$kept.new"
  make_durable "$kept.new"
  mv -f "$kept.new" "$kept"
}

# Waits until checks have said that the server is up, from now on and not before.
wait_for_up() {
  tick
  began=$now deadline=$((now + up_timeout * 100))
  until find_server && is_up; do
    tick
    [ "$now" -lt "$deadline" ] || { why="after $up_timeout s checks do not say that $server is up: $status, check $checked"; return 1; }
    sleep 0.1
  done
}

# --- the actions ------------------------------------------------------

drain() {
  begin
  before=$state
  if [ "$state" = ready ]; then check_floor; fi
  find_remote
  is_ours || was=$state weighed=$weight looked=${status%% *}
  if [ "$state" = ready ]; then
    remember drain
    step_out drain
  fi
  wait_for_none
  waited=$(seconds $((now - began)))
  if [ "$before" = maint ]; then
    keep_states || refuse "$why" # it may have been cut off before
    remember maint
    say "$name ($member) was out of backend $backend already; no session with it after $waited s"
    return
  fi
  take_socket_lock
  found_first=$state
  case $state in
    maint) ;; # somebody else was quicker
    drain)
      remember either
      step_out maint
      ;;
    ready)
      printf 'failed: somebody has put %s (%s) back in backend %s meanwhile\n' "$name" "$member" "$backend" >&2
      exit 4
      ;;
  esac
  remember maint
  wait_for_none # a persistent client may have come in between
  say "$name ($member) is out of backend $backend, in maintenance: no session with it after $waited s$note"
}

ready() {
  begin
  if is_ours; then
    if [ "$was" != ready ]; then
      stay_out
      return
    fi
  elif [ "$state" = ready ]; then
    is_in
    return
  else
    was=ready weighed=$weight looked=unknown
  fi
  if [ "$weight" != "$initial" ] && [ "$weight" != "$weighed" ]; then # somebody has set it
    note="; its weight is $weight and was $weighed before"
    weighed=$weight
  fi
  [ "$weighed" -gt 0 ] || refuse "server $server has the weight 0, and would get no requests"
  trap 'take_back interrupted 143' TERM INT HUP
  changed=yes
  if [ "$state" = maint ]; then
    set_state drain || take_back "$why"
    order "set server $backend/$server health down" || take_back "$why"
  fi
  if [ "$weight" != "$weighed" ]; then
    order "set server $backend/$server weight $weighed" || take_back "$why"
  fi
  if ! wait_for_up; then
    case $looked in
      DOWN) note="$note; it was down before, too" ;;
      *) take_back "$why" ;;
    esac
  fi
  took=$(seconds $((now - began)))
  set_state ready || take_back "$why"
  [ "$weight" = "$weighed" ] || take_back "HAProxy has not done it: $server has weight $weight"
  keep_states || take_back "$why"
  changed=no
  trap - TERM INT HUP
  rm -f "$kept"
  say "$name ($member) is in backend $backend: $status, check $checked after $took s$note"
}

# It is in already: by a ready that was cut off, by somebody else, or it never was out.
is_in() {
  looked=DOWN # where nothing was noted, opskit has done nothing
  if [ -e "$kept" ]; then read -r was weighed looked left_as <"$kept"; fi
  if [ "$looked" != DOWN ]; then
    wait_for_up || take_back "$why"
  fi
  keep_states || refuse "$why"
  rm -f "$kept"
  say "$name ($member) was in backend $backend already: $status, check $checked"
}

# Somebody had taken it out before opskit did: that is what is put back.
stay_out() {
  found_first=$state
  if [ "$state" != "$was" ]; then step_out "$was"; fi
  keep_states || refuse "$why"
  rm -f "$kept"
  say "$name ($member) stays out of backend $backend, in state $was as it was found; to put it in service, do this again"
}

spare() {
  look
  find_server || refuse "$why"
  if [ "$state" != ready ]; then
    say "$name ($member) is out of backend $backend already"
    return
  fi
  check_floor
  say "backend $backend can spare $name ($member)$note"
}

"$action"
