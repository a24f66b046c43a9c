# Take one member of an nginx pool out of service, put it back, ask whether the pool can spare it,
# or look at the whole pool.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind common.sh, members.sh and nginx.sh, with these set besides what is listed there:
#   nginx_awk         the program that reads nginx's configuration (words.awk and nginx.awk)
#   action            drain | ready | spare | check
#   pool, upstream    the pool's name; the name of its upstream block ('' to find it)
#   name, member      the member's host name and its address:port ('' for check)
#   members           for check: every member as name=address:port, apart by blanks
#   besides           for check: names of members that are not asked for their health
#   min_up            how many servers must stay (for check: be) in service, or a percentage of all
#   drain_timeout     whole seconds
#
# Exit status as nginx.sh has it, and besides: 1 check: not the whole pool is in service
#   6 drain: marked down, but connections to the member are still open

already='' took='' alias=''

# --- the file ---------------------------------------------------------------

read_pool() {
  awk -v action="$action" -v pool="$pool" -v upstream="$upstream" -v name="$name" \
    -v member="$member" -v alias="$alias" -v members="$members" "$nginx_awk" "$1"
}

# Sets state from upto up total backup others for the member, as the given file has it; the lines
# of serves after the first are the addresses of the other servers that are up.
find_member() {
  serves=$(read_pool "$1")
  IFS=$tab read -r verdict state from upto up total backup others <<END
$serves
END
  [ "$verdict" = found ] || refuse "$file: ${state:-it could not be read}"
}

# --- the change -------------------------------------------------------------

# Writes the new text aside, every byte but ours as it was, and puts it in place in one move.
write_file() {
  rm -f "$old" "$fresh"
  cp -p "$real" "$fresh" || refuse "$dir can't be written"
  {
    head -c "$from" "$real"
    if [ "$wanted" = down ]; then printf ' down'; fi
    tail -c "+$((upto + 1))" "$real"
  } >"$fresh" || refuse "$dir: no room for a new file"
  must=$(($(stat -c %s "$real") - upto + from))
  if [ "$wanted" = down ]; then must=$((must + 5)); fi
  find_member "$fresh"
  if [ "$state" != "$wanted" ] || [ "$(stat -c %s "$fresh")" -ne "$must" ]; then
    refuse "$file: its new text does not read as it should; this is a bug of opskit"
  fi
  replace
}

check_floor() {
  settle_floor "$total"
  left=$((up - 1 + backup))
  [ "$left" -ge "$min_up" ] ||
    refuse "$name ($member) can't leave pool $pool: $left of $total servers would be up, at least $min_up must be"
  if [ "$min_up" -gt 0 ] && [ "$backup" -eq 0 ]; then check_health "$(printf '%s\n' "$serves" | tail -n +2)"; fi
}

# Marks the member as wanted (up or down), and proves that nginx runs with it.
mark() {
  wanted=$1
  open_file
  find_master
  find_member "$real"
  others_with=$others
  if [ "$state" = "$wanted" ] && loaded; then
    already=yes
    return
  fi
  is_read || refuse "nginx does not read $file (see: $test, with -T for -t)"
  trap 'put_back interrupted 143' TERM INT HUP
  tick
  began=$now
  if [ "$state" = "$wanted" ]; then
    note='; the file said so already, but nginx had not loaded it'
  else
    if [ "$wanted" = down ]; then check_floor; fi
    loaded || note="$note; nginx had not loaded the file's last change, now it has"
    write_file
  fi
  valid || put_back "nginx refuses the configuration ($test): $tested"
  load || put_back "$why"
  changed=no
  rm -f "$old"
  trap - TERM INT HUP
  tick
  took=$(seconds $((now - began)))
}

# --- connections ------------------------------------------------------------

# Sets open: how many connections nginx has to the member.
count_open() {
  find_sockets "$master"
  workers
  # shellcheck disable=SC2086  # numbers
  count_held $serving $retiring
}

# Waits until nginx has no connection to the member. While old workers live, one that still reads
# a request may yet open another: then none must be seen for a whole second.
wait_for_none() {
  exec 9<&-
  fresh='' # what lies there from now on is that of another, who has the lock
  tick
  began=$now deadline=$((now + drain_timeout * 100)) quiet=''
  while :; do
    count_open
    workers
    tick
    if [ "$open" -eq 0 ]; then
      [ -n "$retiring" ] || return 0
      [ -n "$quiet" ] || quiet=$now
      [ $((now - quiet)) -lt 100 ] || return 0
    else
      quiet=''
      if [ "$now" -ge "$deadline" ]; then still_open; fi
    fi
    sleep 0.1
  done
}

still_open() {
  more=''
  if [ "$others_with" != - ]; then more="; upstream $others_with has this member too: drain it there as well"; fi
  printf 'failed: %s (%s) is marked down in pool %s, but after %s s nginx still has %s connection%s to it%s\n' \
    "$name" "$member" "$pool" "$drain_timeout" "$open" "$(plural "$open")" "$more" >&2
  exit 6
}

# --- the actions ------------------------------------------------------

drain() {
  find_remote
  mark down
  wait_for_none
  waited=$(seconds $((now - began)))
  if [ -n "$already" ]; then
    say "$name ($member) was out of pool $pool already, nginx was not reloaded; no connection to it after $waited s"
  else
    say "$name ($member) is out of pool $pool: nginx loaded it in $took s, no connection to it after $waited s more$note"
  fi
}

ready() {
  mark up
  if [ -n "$already" ]; then
    say "$name ($member) was in pool $pool already, nginx was not reloaded"
  else
    say "$name ($member) is in pool $pool: nginx loaded it in $took s$note"
  fi
}

spare() {
  resolve
  find_member "$real"
  if [ "$state" = down ]; then
    say "$name ($member) is out of pool $pool already"
  else
    check_floor
    say "pool $pool can spare $name ($member)$note"
  fi
}

check() {
  resolve
  find_master
  valid || refuse "nginx's configuration is not valid ($test): $tested"
  is_read || refuse "nginx does not read $file (see: $test, with -T for -t)"
  loaded || refuse "$file was changed after nginx loaded it; a reload would bring that in. Load it ($reload) or take it back first"
  found=$(read_pool "$real")
  IFS=$tab read -r verdict state up <<END
$found
END
  [ "$verdict" = pool ] || refuse "$file: ${state:-it could not be read}"
  lines=$(printf '%s\n' "$found" | tail -n +2)
  if [ -n "$health" ]; then lines=$(with_health "$lines"); fi
  printf '%s\n' "$lines"
  problem=''
  settle_floor "$(printf '%s\n' "$lines" | grep -c .)"
  [ "$up" -ge "$min_up" ] ||
    problem="pool $pool has $up server$(plural "$up") in service, but at least $min_up must be"
  ill=$(printf '%s\n' "$lines" | awk '/ up, / && !/ up, healthy$/ { printf "; %s", $0 }')
  [ -z "$ill" ] || problem="not every member of pool $pool is healthy (asked for $health): ${ill#; }"
  [ "$state" = good ] || problem="not every member of pool $pool is in service"
  [ -n "$problem" ] || return 0
  printf '%s\n' "$problem" >&2
  exit 1
}

if [ -n "$member" ]; then alias="$name:${member##*:}"; fi
"$action"
