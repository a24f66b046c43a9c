# Look whether a whole backend of HAProxy is in service.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands in front of backend.sh, which reads the servers and begins one action; what is set is listed
# there.

# Prints NAME ADDRESS STATE for every member, and for each other server that is in service.
tell_members() {
  seen=''
  for each in $members; do
    line=$(lines_of "${each#*=}")
    IFS=$tab read -r server state weight initial status checked current elsewhere where kind <<END
$line
END
    case $line in
      '') found=absent ;;
      *"
"*) found='listed more than once' ;;
      *) found=$(as_word "${each%%=*}") ;;
    esac
    seen="$seen $server "
    printf '%s %s %s\n' "${each%%=*}" "${each#*=}" "$found"
  done
  while IFS=$tab read -r server state weight initial status checked current elsewhere where kind; do
    case $seen in
      *" $server "*) ;;
      *) printf -- '- %s %s\n' "$where" "$(as_word '')" ;;
    esac
  done <<END
$servers
END
}

# Whether what checks say of a member counts: its name may be among those that are not asked.
counts() {
  case $healthy," $besides " in
    none,* | others,*" $1 "*) return 1 ;;
  esac
}

as_word() {
  if [ "$state" = ready ] && { is_up || ! counts "$1"; }; then
    printf up
  else
    printf 'down (%s, check %s)' "$status" "$checked"
  fi
}

check() {
  look
  lines=$(tell_members)
  up=$(serving '' | grep -c "${tab}main\$" || :)
  if [ -n "$health" ]; then lines=$(with_health "$lines"); fi
  printf '%s\n' "$lines"
  problem=''
  settle_floor "$(printf '%s\n' "$servers" | grep -c .)"
  [ "$up" -ge "$min_up" ] ||
    problem="backend $backend has $up server$(plural "$up") in service, but at least $min_up must be"
  ill=$(printf '%s\n' "$lines" | awk '/ up, / && !/ up, healthy$/ { printf "; %s", $0 }')
  [ -z "$ill" ] || problem="not every member of backend $backend is healthy (asked for $health): ${ill#; }"
  if [ -n "$members" ]; then others='^- '; else others='^$'; fi
  bad=$(printf '%s\n' "$lines" | grep -v "$others" | grep -Ev '^[^ ]* [^ ]* up(, .*)?$' || :)
  [ -z "$bad" ] || problem="not every member of backend $backend is in service: $(printf '%s\n' "$bad" | tr '\n' ';')"
  unchecked=$(printf '%s\n' "$servers" | awk -F '\t' '$5 == "no check" { printf ", %s", $1 }')
  [ -z "$unchecked" ] || problem="nobody knows whether these servers of backend $backend are up: ${unchecked#, }; write check behind each"
  [ -n "$problem" ] || return 0
  printf '%s\n' "$problem" >&2
  exit 1
}
