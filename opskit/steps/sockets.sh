# Count the connections that processes have to a member of a pool, by the kernel's own tables.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind common.sh, with these set besides what is listed there:
#   nginx_awk         a program that writes addresses as the kernel does (words.awk, with directive())
#   member            the member's address:port

# Prints an address:port as the kernel's tables of connections write it, a line for each address
# that a name has.
in_kernel() {
  host=${1%:*} port=${1##*:}
  case $host in
    \[*\]) ips=${host#\[} ips=${ips%\]} ;;
    *[!0-9.]*)
      ips=$(getent ahosts "$host" 2>/dev/null | awk '!seen[$1]++ { print $1 }') || ips=''
      [ -n "$ips" ] || refuse "the address of $host can't be found on this balancer"
      ;;
    *) ips=$host ;;
  esac
  little=$(printf '\001\000' | od -An -tu2 | tr -d ' ')
  printf '%s\n' "$ips" |
    awk -v action=remote -v port="$port" -v little="$little" "$nginx_awk"
}

# Sets remote: the member as the kernel's tables of connections write it.
find_remote() { remote=$(in_kernel "$member" | tr '\n' ' '); }

# Sets sockets: those that are connected to the member, in the network of a process.
find_sockets() {
  sockets=$(cat "/proc/$1/net/tcp" "/proc/$1/net/tcp6" 2>/dev/null |
    awk -v remote="$remote" '
      BEGIN { split(remote, r, " "); for (i in r) is[r[i]] = 1 }
      ($3 in is) && $4 !~ /^(06|07|0A)$/ && $10 != "0" { printf "%s ", $10 }')
}

# Sets open: how many of these sockets the processes have. Where their descriptors can't be read all
# of them count: rather too many than too few.
count_held() {
  open=0
  if [ -z "$sockets" ] || [ $# -eq 0 ]; then return 0; fi
  whose=''
  for each in "$@"; do whose="$whose /proc/$each/fd"; done
  # shellcheck disable=SC2012,SC2086  # names under /proc/PID/fd are numbers
  open=$(ls -ln $whose 2>&1 | awk -v sockets="$sockets" '
    BEGIN { n = split(sockets, s, " "); for (i in s) is[s[i]] = 1 }
    /Permission denied/ { blind = 1 }
    match($0, /socket:\[[0-9]+\]/) { if (substr($0, RSTART + 8, RLENGTH - 9) in is) found++ }
    END { print blind ? n : found + 0 }')
}
