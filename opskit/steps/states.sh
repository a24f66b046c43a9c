# What a reload of HAProxy brings in from its file of states: shares from before a change that was cut
# off, and addresses that its configuration has no more.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind socket.sh, in front of haproxy.sh, with these set besides what is listed there:
#   rows              the servers of the two colours, as haproxy.awk writes them
#
# HAProxy takes from that file, besides states and weights, the address of a server that has a name,
# and the port of any server: the file's and not the configuration's. opskit writes the file, so it
# must notice where that has brought an old one back.

# Prints what a reload would make of the colours' servers, where that is not what they are.
after_a_reload() {
  {
    if [ -r "$state_file" ]; then cat "$state_file"; fi
    printf '\n=\n%s\n' "$rows"
  } | awk -v backend="$backend" '
    function called(state) { return state % 2 ? "in maintenance" : int(state / 8) % 2 ? "drained" : "ready" }
    $0 == "=" { later = 1; FS = "\t"; next }
    !later && $1 == "#" { for (i = 2; i <= NF; i++) at[$i] = i - 1; next }
    !later {
      if (NF < 7 || $at["be_name"] != backend) next
      one = $at["srv_name"]
      known[one] = 1; state[one] = $at["srv_admin_state"]; weight[one] = $at["srv_uweight"]; initial[one] = $at["srv_iweight"]
      next
    }
    # A weight counts only where the configuration begins with the same one as it did then. Who is
    # not in the file begins in maintenance where the configuration says `disabled` (the bit of 4).
    {
      is = called($3) " with weight " $4
      would = called($1 in known ? state[$1] : int($3 / 4) % 2) " with weight " ($1 in known && initial[$1] == $5 ? weight[$1] : $5)
      if (would != is) printf "; %s is %s and would be %s", $1, is, would
    }'
}

# Refuses where a change of opskit was cut off before a reload would know of it. What somebody else has
# set, and not kept, is told.
must_be_kept() {
  [ -n "$state_file" ] || return 0
  lost=$(after_a_reload)
  [ -n "$lost" ] || return 0
  dir=$(dirname "$(readlink -f -- "$state_file" || printf '%s' "$state_file")")
  set --
  if [ -e "$state_file" ]; then set -- -newer "$state_file"; fi
  at=.opskit-$(printf '%s' "$socket-$backend" | tr -c '0-9A-Za-z\n' _)
  cut=$(find "$dir" -maxdepth 1 -name "$at.set-*" "$@" 2>/dev/null | sed -n 's/.*[.]set-//p' | tail -n 1)
  [ -z "$cut" ] ||
    refuse "a change of backend $backend was cut off before $state_file was written, so a reload would undo it: ${lost#; }. Let run $cut come to its end (opskit resume $cut), or take it back (opskit undo $cut)"
  note="$note; $state_file does not have all that is set, so after a reload ${lost#; }"
}

# Prints whether a server is where the configuration says (there it has the words $1, and it is at $2):
# nothing, or what is wrong. Who a name is can't be known where HAProxy asks for it itself.
unlike_said() {
  said_host=${1%:*} said_port=${1##*:} is_host=${2%:*} is_port=${2##*:}
  case $1 in
    *'$'* | */* | *@* | [!0-9A-Za-z[]* ) return ;; # a variable, a socket, a port that is added to
    *:*) ;;
    *) said_host=$1 said_port=$is_port ;; # the port that the client asked for
  esac
  case $said_port in *[!0-9]* | '') return ;; esac
  said_host=${said_host#\[} said_host=${said_host%\]} is_host=${is_host#\[} is_host=${is_host%\]}
  if [ "$said_port" = "$is_port" ]; then
    [ "$said_host" != "$is_host" ] || return 0
    [ "$3" = 0 ] || return 0
    found_at=$(getent ahosts "$said_host" 2>/dev/null | awk '!seen[$1]++ { print $1 }') || found_at=''
    [ -n "$found_at" ] || return 0
    ! printf '%s\n' "$found_at" | grep -qxF -e "$is_host" || return 0
  fi
  printf 'at %s, and the configuration says %s' "$2" "$1"
}

# Refuses to give traffic to servers (names, apart by blanks) that HAProxy has at another place than its
# configuration. It is only told where nothing is given, and on the way back: there who answers is
# compared with who did when the traffic left.
must_be_where_said() {
  [ -n "${said_servers:-}" ] || return 0
  moved=$(printf '%s\n=\n%s\n' "$said_servers" "$rows" | awk -F '\t' -v of="$1" '
    BEGIN { n = split(of, o, " "); for (i = 1; i <= n; i++) ours[o[i]] = 1 }
    $0 == "=" { later = 1; next }
    !later { place[$1] = $2; asks[$1] = $3; next }
    ($1 in ours) && ($1 in place) { print $1 "\t" place[$1] "\t" $9 "\t" asks[$1] }' |
    while IFS=$tab read -r name place is asks; do
      wrong=$(unlike_said "$place" "$is" "$asks")
      if [ -n "$wrong" ]; then printf '; server %s is %s' "$name" "$wrong"; fi
    done)
  [ -n "$moved" ] || return 0
  case $action in
    show | found | back) note="$note; ${moved#; }" ;;
    *) refuse "${moved#; }. A reload takes ports, and the addresses of names, from $state_file (see init-addr). Tell HAProxy by its socket (set server $backend/NAME addr ADDRESS port PORT), write the file anew (show servers state), and do this again" ;;
  esac
}
