# Take one member of an nginx pool out of service, put it back, ask whether the pool can spare it,
# or look at the whole pool.
#
# shellcheck shell=sh disable=SC2154
#
# Run by any POSIX sh on the balancer, with these set in front of this text:
#   nginx_awk         the program that reads nginx's configuration (nginx.awk)
#   action            drain | ready | spare | check
#   pool, upstream    the pool's name; the name of its upstream block ('' to find it)
#   name, member      the member's host name and its address:port ('' for check)
#   members           for check: every member as name=address:port, apart by blanks
#   besides           for check: names of members that are not asked for their health
#   file              the file with the pool's server lines
#   test, reload      commands that check nginx's configuration, and that have it loaded
#   pid, error_log    nginx's pid file; its error log ('' when there is none to read)
#   min_up            how many servers must stay (for check: be) in service
#   health, site, members_awk     see members.sh, which stands between these and this text
#   drain_timeout, reload_timeout, lock_timeout     whole seconds
#
# Exit status: 0 done, or it was so already · 1 check: not the whole pool is in service
#   3 refused, nothing changed · 4 failed, the old configuration is back
#   5 failed, and the old configuration could not be proved to be back
#   6 drain: marked down, but connections to the member are still open · 143 interrupted
#
# Why so careful: a reload is asynchronous, and both `nginx -t` and the reload command exit 0 when
# the new configuration can't be applied. Only new workers prove that it was.

export LC_ALL=C
tab=$(printf '\t')
changed=no reloaded=no fresh='' old='' master='' serving='' retiring='' why='' now=0 note=''

refuse() {
  printf 'refused, nothing changed: %s\n' "$1" >&2
  exit 3
}

say() { printf '%s\n' "$1"; }

# Sets now: hundredths of a second since boot, without a fork.
tick() {
  read -r now _ </proc/uptime
  now=$((${now%.*} * 100 + 1${now#*.} - 100))
}

seconds() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }

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
  tail -c "+$first" "$error_log" 2>/dev/null | grep -F '[emerg]'
}

# Has nginx load its configuration and proves it: a worker that was not there before, every one
# that was there has retired, and no [emerg] in the log. Otherwise sets why.
load() {
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
    if [ -n "$new" ] && [ -z "$stayed" ]; then return 0; fi
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
  command -v flock >/dev/null || refuse "this host has no flock (package util-linux)"
  resolve
  dir=${real%/*}
  fresh="$dir/.${real##*/}.opskit-new"
  tick
  deadline=$((now + lock_timeout * 100))
  exec 9<"$dir/."
  until flock -n 9; do
    tick
    [ "$now" -lt "$deadline" ] || refuse "another change of $dir has held its lock for $lock_timeout s"
    sleep 0.1
  done
}

make_durable() { sync "$@" 2>/dev/null || sync; }

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
  make_durable "$fresh"
  ln "$real" "$old" 2>/dev/null || cp -p "$real" "$old"
  changed=yes
  mv -f "$fresh" "$real" || put_back "$file could not be replaced"
  make_durable "$dir"
}

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
  if load; then
    printf 'failed: %s; the old configuration is back and loaded\n' "$problem" >&2
    exit "${2:-4}"
  fi
  printf 'failed: %s; the old file is back, but: %s\n' "$problem" "$why" >&2
  exit 5
}

leave() {
  status=$?
  [ -z "$fresh" ] || rm -f "$fresh"
  exit "$status"
}

check_floor() {
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

# Sets remote: the member as the kernel's tables of connections write it.
find_remote() {
  host=${member%:*} port=${member##*:}
  case $host in
    \[*\]) ips=${host#\[} ips=${ips%\]} ;;
    *[!0-9.]*)
      ips=$(getent ahosts "$host" 2>/dev/null | awk '!seen[$1]++ { print $1 }') || ips=''
      [ -n "$ips" ] || refuse "the address of $host can't be found on this balancer"
      ;;
    *) ips=$host ;;
  esac
  little=$(printf '\001\000' | od -An -tu2 | tr -d ' ')
  remote=$(printf '%s\n' "$ips" |
    awk -v action=remote -v port="$port" -v little="$little" "$nginx_awk" | tr '\n' ' ')
}

# Sets open: how many connections nginx has to the member. Where nginx's descriptors can't be
# read, all connections of this network to the member count: rather too many than too few.
count_open() {
  open=0
  sockets=$(cat "/proc/$master/net/tcp" "/proc/$master/net/tcp6" 2>/dev/null |
    awk -v remote="$remote" '
      BEGIN { split(remote, r, " "); for (i in r) is[r[i]] = 1 }
      ($3 in is) && $4 !~ /^(06|07|0A)$/ && $10 != "0" { printf "%s ", $10 }')
  [ -n "$sockets" ] || return 0
  workers
  set --
  for worker in $serving $retiring; do set -- "$@" "/proc/$worker/fd"; done
  # shellcheck disable=SC2012  # names under /proc/PID/fd are numbers
  open=$(ls -ln "$@" 2>&1 | awk -v sockets="$sockets" '
    BEGIN { n = split(sockets, s, " "); for (i in s) is[s[i]] = 1 }
    /Permission denied/ { blind = 1 }
    match($0, /socket:\[[0-9]+\]/) { if (substr($0, RSTART + 8, RLENGTH - 9) in is) found++ }
    END { print blind ? n : found + 0 }')
}

# Waits until nginx has no connection to the member. While old workers live, one that still reads
# a request may yet open another: then none must be seen for a whole second.
wait_for_none() {
  exec 9<&-
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

plural() { if [ "$1" -ne 1 ]; then printf s; fi; }

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
  [ "$up" -ge "$min_up" ] ||
    problem="pool $pool has $up server$(plural "$up") in service, but at least $min_up must be"
  ill=$(printf '%s\n' "$lines" | awk '/ up, / && !/ up, healthy$/ { printf "; %s", $0 }')
  [ -z "$ill" ] || problem="not every member of pool $pool is healthy (asked for $health): ${ill#; }"
  [ "$state" = good ] || problem="not every member of pool $pool is in service"
  [ -n "$problem" ] || return 0
  printf '%s\n' "$problem" >&2
  exit 1
}

trap leave EXIT
already='' took='' alias=''
if [ -n "$member" ]; then alias="$name:${member##*:}"; fi
"$action"
