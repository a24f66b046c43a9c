# Ask the members of a pool how they are, from the balancer, the way nginx itself reaches them.
#
# shellcheck shell=sh disable=SC2154
#
# Stands behind common.sh, with these set besides what is listed there:
#   health        the page to ask for ('' when nobody is to be asked)
#   site          the Host header ('' for the member's own address)
#   scheme        https where the members speak TLS themselves, otherwise http
#   members_awk   the program that judges an answer (members.awk)
#   answer_within how many seconds an answer may take, if not 5
#
# nginx's file says who was taken out, not who works: a member that is dead stands in it as up.
# Needs no program for HTTP: every Linux has bash, which can connect, or busybox's nc.

at_once=8 answer_within=${answer_within:-5}

# Sets asker: what can open a connection here.
find_asker() {
  if [ "$scheme" = https ]; then
    for asker in curl openssl; do
      if command -v "$asker" >/dev/null 2>&1; then return; fi
    done
    refuse "this balancer has neither curl nor openssl to ask the pool's members over https for $health; install one, or write healthy: none"
  fi
  for asker in bash nc; do
    if command -v "$asker" >/dev/null 2>&1; then return; fi
  done
  refuse "this balancer has neither bash nor nc to ask the pool's members for $health; install one, or write healthy: none"
}

# A certificate is not looked at: members have their own, or one for the site and not for themselves.
connect() {
  # shellcheck disable=SC2016  # bash puts its own arguments in
  case $asker in
    bash) timeout "$answer_within" bash -pc \
      'exec 3<>"/dev/tcp/$1/$2" && printf "%s\r\n\r\n" "$3" >&3 && head -c 65536 <&3' bash "$@" ;;
    nc) printf '%s\r\n\r\n' "$3" | timeout "$answer_within" nc "$1" "$2" | head -c 65536 ;;
    openssl) printf '%s\r\n\r\n' "$3" | timeout "$answer_within" openssl s_client -quiet -ign_eof \
      -servername "${site:-$1}" -connect "$4:$2" | head -c 65536 ;;
    curl) curl -qgsik --http1.0 --noproxy '*' -m "$answer_within" -A opskit -H 'X-Forwarded-Proto: https' \
      --connect-to "::$4:$2" "https://${site:-$4:$2}$5" | head -c 65536 ;;
  esac
}

# Prints what the member at an address:port answers when it is asked for the page $2.
answer_of() {
  port=${1##*:}
  case $port in
    "$1" | '' | *[!0-9]*) where=$1 port=80 ;;
    *) where=${1%:*} ;;
  esac
  bare=${where#\[}
  request=$(printf 'GET %s HTTP/1.0\r\nHost: %s\r\nX-Forwarded-Proto: https\r\nUser-Agent: opskit\r\nConnection: close' \
    "$2" "${site:-$where}")
  connect "${bare%\]}" "$port" "$request" "$where" "$2" 2>/dev/null 9<&-
}

# Prints what a member is, by its address:port: `healthy`, or what is wrong with it.
ask_one() { answer_of "$1" "$health" | awk "$members_awk"; }

# Prints a line for each address: the address, a tab, what the member is.
ask() {
  asking=0
  for each in "$@"; do
    { printf '%s\t%s\n' "$each" "$(ask_one "$each")"; } &
    asking=$((asking + 1))
    if [ $((asking % at_once)) -eq 0 ]; then wait; fi
  done
  wait
}

# Turns min_up into a number where it is a percentage of so many servers, rounded up.
settle_floor() {
  case $min_up in *%) min_up=$((($1 * ${min_up%\%} + 99) / 100)) ;; esac
}

# Asks the members whose addresses are given until min_up have said that they are healthy.
# Sets found, how many did, and ill, what the others said.
look_for_healthy() {
  find_asker
  found=0 ill='' size=$min_up
  while [ $# -gt 0 ] && [ "$found" -lt "$min_up" ]; do
    [ "$size" -le "$at_once" ] || size=$at_once
    few='' taken=0
    while [ $# -gt 0 ] && [ "$taken" -lt "$size" ]; do
      few="$few $1" taken=$((taken + 1))
      shift
    done
    # shellcheck disable=SC2086  # an address has no blanks, and nothing is a pattern (set -f)
    answers=$(ask $few)
    found=$((found + $(printf '%s\n' "$answers" | grep -c "${tab}healthy\$" || :)))
    ill=$ill$(printf '%s\n' "$answers" | awk -F '\t' '$2 != "healthy" { printf ", %s: %s", $1, $2 }')
    size=$at_once
  done
}

# Refuses to take the member out when it is healthy and too few of the others (given) are. One that
# is not healthy itself serves nobody: the pool can spare it, or nothing could ever be mended.
check_health() {
  if [ -z "$health" ]; then
    note="$note; nobody was asked for their health"
    return
  fi
  set -f
  # shellcheck disable=SC2086  # as above
  look_for_healthy $1
  set +f
  [ "$found" -lt "$min_up" ] || return 0
  itself=$(ask_one "$member")
  if [ "$itself" != healthy ]; then
    note="$note; it was not healthy itself: $itself"
    return
  fi
  refuse "$name ($member) can't leave pool $pool: it is healthy, and of the others $found would be, at least $min_up must be (${ill#, })"
}

# Prints check's lines again, those of members that are up with what they say of themselves;
# who is named in besides is not asked.
with_health() {
  find_asker
  whom=$(printf '%s\n' "$1" | awk -v besides="$besides" '
    BEGIN { n = split(besides, b, " "); for (i in b) not_asked[b[i]] = 1 }
    $3 == "up" && !($1 in not_asked) { print $2 }')
  set -f
  # shellcheck disable=SC2086  # as above
  answers=$(ask $whom)
  set +f
  printf '%s\n=\n%s\n' "$answers" "$1" | awk -v besides="$besides" '
    BEGIN { n = split(besides, b, " "); for (i in b) not_asked[b[i]] = 1 }
    listed { print $0 (($3 == "up" && !($1 in not_asked)) ? ", " said[$2] : ""); next }
    $0 == "=" { listed = 1; next }
    { at = index($0, "\t"); said[substr($0, 1, at - 1)] = substr($0, at + 1) }'
}
