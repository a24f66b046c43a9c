# What two colours are, whatever balancer has them: their shares, who answers, who is well.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind common.sh, members.sh and answers.sh, in front of colours.sh (nginx) or haproxy.sh,
# with these set besides what is listed there:
#   action            show | ready | warm | alone | found | to | back
#   run               the run's id
#   of                back and found: the run whose find is meant; '' (or not set) for this one
#   one, other        the two colours; first, second: what answers name them by (several: apart by
#                     blanks)
#   to, share         the colour to give a share, and how many percent of the traffic
#   smoke, release    pages that the colour that gains must answer well, and the release it must be
#   backwards         true: it may get less than it has
#   sample            how many answers to ask for, at least
#   colours_awk       the program that knows how many answers prove a share (colours.awk)
#
# What they stand in front of has up_in, which prints the addresses of a colour's servers.
#
# What is so is what the balancer says and what answers are measured to be; where the two differ
# nothing is done.

of=${of:-}

colour_of() {
  case $1 in
    "$first") printf %s "$one" ;;
    "$second") printf %s "$other" ;;
  esac
}

# Prints the shares when the second has $1 percent, the larger one first.
shares() {
  case $1 in
    0) printf '%s 100' "$one" ;;
    100) printf '%s 100' "$other" ;;
    *)
      if [ "$1" -gt 50 ]; then
        printf '%s %s %s %s' "$other" "$1" "$one" $((100 - $1))
      else
        printf '%s %s %s %s' "$one" $((100 - $1)) "$other" "$1"
      fi
      ;;
  esac
}

# Measures the share of the second ($1 percent). Sets measured, what was seen; otherwise why.
# With $2 = whole, an answer that says that nobody is behind it fails as well.
measure() {
  bounds=$(awk -v action=bounds -v share="$1" -v sample="$sample" "$colours_awk" </dev/null)
  IFS=$tab read -r size fewest most <<END
$bounds
END
  count_answers "$size"
  range="$fewest to $most expected"
  if [ "$fewest" -eq "$most" ]; then range="$fewest expected"; fi
  measured="of $size fresh connections $got_second came to $other ($range) and $got_first to $one"
  told_of=$((got_first + got_second + got_other))
  if [ "$told_of" -ne "$size" ]; then
    why="$told_of of $size fresh connections were told of within $asking_may_take s"
    return 1
  fi
  if [ "$got_other" -gt 0 ]; then
    why="$got_other of $size answers of $at_scheme://$at_host:$at_port$page were given by neither (header $header must tell, as by: $how_named): $strange"
    return 1
  fi
  if [ "$got_second" -lt "$fewest" ] || [ "$got_second" -gt "$most" ]; then
    why="$measured"
    return 1
  fi
  if [ "${2:-}" = whole ] && [ "$got_broken" -gt 0 ]; then
    why="$got_broken of $size fresh connections were answered by 502, 503 or 504, or not at all"
    return 1
  fi
}

# Refuses unless every server of the upstream answers as healthy, on its health page and on those of
# smoke, and as the release.
must_be_healthy() {
  set -f
  # shellcheck disable=SC2046  # neither address nor page has blanks; nothing is a pattern (set -f)
  set -- "$1" $(up_in "$1")
  colour=$(colour_of "$1")
  shift
  [ $# -gt 0 ] || refuse "$colour has no server that is up, so it can't have traffic"
  find_asker
  own_page=$health
  if [ -z "$health" ]; then note="$note; nobody was asked for their health"; fi
  for health in $own_page $smoke; do
    ill=$(ask "$@" | awk -F '\t' '$2 != "healthy" { printf "; %s: %s", $1, $2 }')
    [ -z "$ill" ] ||
      refuse "$colour can't have traffic: not all of it is healthy (asked for $health): ${ill#; }"
  done
  if [ -n "$smoke" ]; then
    # shellcheck disable=SC2086  # as above
    many=$(printf '%s\n' $smoke | wc -l)
    note="$note; each of its servers ($#) answered $many page$(plural "$many") well"
  fi
  health=$own_page
  set +f
  if [ -n "$release" ]; then must_be_release "$@"; fi
}

# Asks for pages as ready does, which is all that it takes.
warm() { ready; }

# Prints the release that a server says it is.
release_of() {
  answer_of "$1" "${health:-/}" | awk '
    { sub(/\r$/, "") }
    $0 == "" { exit }
    tolower($1) == "x-release:" { print $2; exit }'
}

# Prints ADDRESS RELEASE of every server of the upstreams, as they answer now.
releases_of() {
  set -f
  find_asker
  for side in "$@"; do
    for each in $(up_in "$side"); do
      { is=$(release_of "$each"); printf '%s %s\n' "$each" "${is:--}"; } &
    done
  done
  wait
  set +f
}

# Refuses to go back to a colour that is ill, or is not what it was when $2, a list of releases, was
# made. Undo does not ask: it takes back what its own run has begun, to whatever was.
must_be_as_then() {
  must_be_healthy "$1"
  [ -e "$2" ] || refuse "$2 is gone, so nobody knows which release $(colour_of "$1") was"
  unlike=$(releases_of "$1" | awk '
    FNR == NR { then[$1] = $2; next }
    !($1 in then) { printf "; %s was not there", $1; next }
    $2 != then[$1] { printf "; %s was release %s, and is %s", $1, then[$1], $2 }' "$2" -)
  [ -z "$unlike" ] || refuse "$(colour_of "$1") is not what it was when the traffic left it: ${unlike#; }"
}

# Refuses unless every server says that it is the release.
must_be_release() {
  for each in "$@"; do
    is=$(release_of "$each")
    [ "$is" = "$release" ] ||
      refuse "$colour can't have traffic: $each answers as release ${is:-(none)}, not as $release"
  done
}

# Sets wanted, the percent of the second that are asked for, and gains, the upstream that gets more.
aim() {
  case $to in
    "$one") wanted=$((100 - share)) mine=$((100 - part)) gains=$first loses=$second ;;
    "$other") wanted=$share mine=$part gains=$second loses=$first ;;
  esac
  if [ "$share" -ge "$mine" ]; then return; fi
  [ "$backwards" = true ] ||
    refuse "$to has $mine % and would go back to $share %; if that is meant: backwards: true"
  gains=$loses
}

check_words() {
  whose='this run'
  if [ -n "$of" ]; then whose="run $of"; fi
  case $to in
    '' | "$one" | "$other") ;;
    *) refuse "$to is no colour of pool $pool; it has $one and $other" ;;
  esac
  for each in "$run" "${of:-of}"; do
    case $each in
      '' | *[!0-9A-Za-z_.-]*) refuse "the run's id can't be part of a file's name: $each" ;;
    esac
  done
}
