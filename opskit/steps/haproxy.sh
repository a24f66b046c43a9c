# Tell which of two colours has the traffic of a backend of HAProxy, give one of them a share, or put
# back what this run found; by its socket, without a reload.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind shares.sh, sockets.sh, socket.sh and states.sh, with these set besides what is listed there:
#   first, second     names of the servers of the two colours, apart by blanks
#   haproxy_awk       the program that reads the socket's answers (haproxy.awk)
#   drain_timeout     whole seconds
#
# Exit status: 0 done, or it was so already · 1 alone: connections are left
#   3 refused, nothing changed · 4 failed, states and weights are as before
#   5 failed, and they could not be proved to be · 143 interrupted

changed=no going_back='' half='' dead='' dead_side='' measured=''

# --- the servers --------------------------------------------------------------

ask_awk() { awk -v backend="$backend" -v first="$first" -v second="$second" "$@"; }

# Sets rows, a line for each server, and part, the share of the second; otherwise why. Who goes back, or is
# half way (half), needs no share to begin with: then part is '' and why says the reason. Where all servers of one
# colour that is to have traffic are down, dead says so, and dead_side which colour that is.
read_rows() {
  hear "show info;show servers state $backend;show stat" || return 1 # in one, so that one process tells all
  is_same || return 1
  rows=$(printf '%s\n' "$heard" | sed '1,/^$/d' | ask_awk -v action=rows "$haproxy_awk")
  case $rows in
    "fault$tab"*) why=${rows#*"$tab"}; return 1 ;;
  esac
  share_now=$(printf '%s\n' "$rows" | ask_awk -v action=share "$haproxy_awk")
  IFS=$tab read -r part why dead_side dead <<END
$share_now
END
  if [ "$part" != fault ]; then return; fi
  part=''
  # There is no share to tell in the middle of a change, nor where nobody answers, which is a reason to go back.
  [ -n "$half$going_back" ]
}

shares_now() {
  if [ -n "$part" ]; then shares "$part"; else printf '%s' "$why"; fi
}

# Prints the addresses of a colour's servers that take requests, or would.
up_in() { printf '%s\n' "$rows" | awk -F '\t' -v of="$1" -v first="$first" '($2 == 1) == (of == first) { print $9 }'; }

# --- what must be so ----------------------------------------------------------

survey() {
  if [ -n "$going_back" ]; then find_who_stays; fi # the way back waits for a reload to be over
  find_haproxy
  read_rows || { [ -n "$going_back" ] && find_who_stays && read_rows; } || refuse "$why"
  how_named='http-response set-header '$header' %s'
  case $action in show | ready) must_be_kept ;; esac # what is put back is kept, too
  cookie=$(printf '%s\n' "$heard" | awk -F , -v backend="$backend" '
    sub(/^# /, "") { for (i = 1; i <= NF; i++) at[$i] = i; next }
    $1 == backend && $2 == "BACKEND" && ("cookie" in at) { print $at["cookie"] }')
  if [ -n "$cookie" ]; then
    note="$note; clients that have the cookie $cookie stay with a drained colour, whatever its share, until it is in maintenance or down"
  fi
}

# Refuses unless checks say that every server of a colour is up, and it is where it should be.
must_be_up() {
  must_be_where_said "$1"
  ill=$(printf '%s\n' "$rows" | awk -F '\t' -v of="$1" -v first="$first" '
    ($2 == 1) == (of == first) && !($6 ~ /^(UP|DRAIN)/ && $7 ~ /^L[467]OK/) { printf "; %s: %s, check %s", $1, $6, $7 }')
  [ -z "$ill" ] || refuse "$(colour_of "$1") can't have traffic: not all of it is up: ${ill#; }"
}

# Whether the colour that is down is the only one that is to have traffic.
only_dead() { case $part,$dead_side in 0,1 | 100,2) ;; *) return 1 ;; esac; }

# Refuses where a colour is down and it is not asked to be left.
must_live() { [ -z "$dead" ] || refuse "$dead${1:-}"; }

agree() {
  must_live
  measure "$part" ||
    refuse "HAProxy's weights say $(shares "$part"), but $why; they disagree, so which colour is live is not known"
}

# --- the change ---------------------------------------------------------------

# Does what lines of NAME WEIGHT STATE say, and reads it back. Nobody is drained before those that
# gain are read to take requests: otherwise nobody would, for a moment. Who takes some keeps its weight
# until the others are drained: beside theirs its last one may be next to nothing.
apply() {
  half=yes
  if printf '%s\n' "$1" | grep -q "${tab}drain\$"; then
    plan=$(printf '%s\n=\n%s\n' "$rows" "$1" | awk -F '\t' '
      $0 == "=" { later = 1; next }
      !later { weight[$1] = $4; takes[$1] = int($3 / 8) % 2 == 0; next }
      $3 != "drain" { print $1 "\t" ($1 in weight && takes[$1] ? weight[$1] : $2) "\t" $3 }')
    [ -z "$plan" ] || obey || return 1
    plan=$(printf '%s\n' "$1" | grep "${tab}drain\$")
    obey || return 1
  fi
  half='' plan=$1
  obey
}

# Who is in maintenance, or was, is left there or out of it: that is somebody's who knows why.
obey() {
  while IFS=$tab read -r name weight state; do
    has=$(printf '%s\n' "$rows" | awk -F '\t' -v name="$name" '$1 == name { print $4, ($6 ~ /^MAINT/ ? "maint" : $3) }')
    if [ "$weight" != "${has% *}" ]; then
      order "set server $backend/$name weight $weight" || return 1
    fi
    case $state,${has#* } in
      maint,* | *,maint) continue ;;
    esac
    case $state,$((${has#* } & 8)) in
      ready,0 | drain,8) ;;
      *) order "set server $backend/$name state $state" || return 1 ;;
    esac
  done <<END
$plan
END
  read_rows || return 1
  unlike=$(printf '%s\n=\n%s\n' "$plan" "$rows" | awk -F '\t' '
    $0 == "=" { later = 1; next }
    !later { weight[$1] = $2; state[$1] = $3; next }
    !($1 in weight) { next }
    $4 == weight[$1] && (state[$1] == "maint" || $6 ~ /^MAINT/) { next }
    $4 != weight[$1] || (int($3 / 8) % 2 == 1) != (state[$1] == "drain") { printf "; %s has weight %s and state %s", $1, $4, $6 }')
  [ -z "$unlike" ] || { why="HAProxy has not done it: ${unlike#; }"; return 1; }
}

# Prints the rows as lines of NAME WEIGHT STATE.
as_orders() {
  printf '%s\n' "$rows" | awk -F '\t' '{ print $1 "\t" $4 "\t" ($6 ~ /^MAINT/ ? "maint" : int($3 / 8) % 2 ? "drain" : "ready") }'
}

take_back() {
  problem=$1
  trap '' TERM INT HUP
  if [ "$changed" = no ]; then
    printf 'failed: %s; nothing was changed\n' "$problem" >&2
    exit "${2:-4}"
  fi
  going_back=yes
  find_who_stays
  if read_rows && apply "$found_first" && keep_states && [ -n "$part" ] && as_found; then
    printf 'failed: %s; states and weights are as before: %s%s\n' "$problem" "$(shares "$part")" "${dead:+, of which $dead}" >&2
    exit "${2:-4}"
  fi
  printf 'failed: %s; and what was before could not be put back: %s\n' "$problem" "$why" >&2
  exit 5
}

# Whether it answers as it did when it was found.
as_found() {
  if [ -z "$dead" ]; then measure "$part"
  else
    why=$dead
    [ -n "$found_dead" ]
  fi
}

# Puts lines of NAME WEIGHT STATE in place and proves the share ($2) that they give the second.
put_in_place() {
  trap 'take_back interrupted 143' TERM INT HUP
  printf '%s\n' "$1" >>"$set"
  make_durable "$set"
  tick
  began=$now
  changed=yes
  apply "$1" || take_back "$why"
  [ -z "$dead" ] || take_back "$dead"
  [ "$part" -eq "$2" ] || take_back "the weights come to $(shares "$part")"
  keep_states || take_back "$why"
  tick
  took=$(seconds $((now - began)))
  measure "$2" "${3:-}" || take_back "HAProxy has it, but $why"
  changed=no
  trap - TERM INT HUP
}

begin() {
  open_dir
  not_kept="what run $of found is not kept in $dir; it has changed nothing here, or five runs came since. Name an earlier one if that is meant (opskit runs lists them)"
  kept=$dir/$at.before-${of:-$run} set=$dir/$at.set-${of:-$run}
  take_socket_lock
  survey
  found_first=$(as_orders) found_dead=$dead
}

tell() {
  say "$1"
  if [ -n "$measured" ]; then say "$measured"; fi
}

# Keeps what this run found for `back`, once; and the like of four earlier runs.
keep_first() {
  set=$dir/$at.set-$run
  own=$dir/$at.before-$run
  if [ -e "$own" ]; then return; fi
  releases_of "$first" "$second" >"$dir/$at.answered-$run" || refuse "$dir can't be written"
  printf '%s\n' "$found_first" >"$own.new"
  printf '%s\n' "$found_first" >"$set"
  make_durable "$own.new"
  mv -f "$own.new" "$own"
  # shellcheck disable=SC2012  # names of opskit's own files
  ls -1t "$dir/$at.before-"* | tail -n +6 | while IFS= read -r each; do
    id=${each##*.before-}
    rm -f "$each" "$dir/$at.set-$id" "$dir/$at.answered-$id"
  done
}

# Refuses unless the colours that would get traffic by lines of NAME WEIGHT STATE are as they were.
must_go_back() {
  for gains in "$first" "$second"; do
    if printf '%s\n' "$1" | awk -F '\t' -v of="$gains" '
      BEGIN { n = split(of, o, " "); for (i = 1; i <= n; i++) ours[o[i]] = 1 }
      ($1 in ours) && $3 == "ready" { some = 1 }
      END { exit !some }'; then
      must_be_up "$gains"
      must_be_as_then "$gains" "$dir/$at.answered-$of"
    fi
  done
}

# A colour that is down is left as a whole or not at all: nobody gets a share of it.
leave_dead() {
  case $dead_side,$wanted in
    1,100 | 2,0) say "$dead: left" ;;
    *) must_live "; it can be left for the other colour with a share of 100" ;;
  esac
}

to() {
  begin
  was=$part
  aim
  if [ -n "$dead" ]; then leave_dead; else agree; fi
  if [ "$part" -eq "$wanted" ]; then
    keep_states || refuse "$why" # it may have been cut off before
    tell "backend $backend has $(shares "$part") already"
    return
  fi
  must_be_up "$gains"
  must_be_healthy "$gains"
  new=$(printf '%s\n' "$rows" | ask_awk -v action=weights -v share="$wanted" "$haproxy_awk")
  case $new in
    "fault$tab"*) refuse "${new#*"$tab"}" ;;
  esac
  keep_first
  put_in_place "$new" "$wanted" whole
  tell "backend $backend has $(shares "$wanted") (before: $(shares "$was")) after $took s$note"
}

# Names servers that are neither as this run has set them at any time nor as HAProxy begins; or, where
# they are not as it has set them last, a run that has set them since.
strangers() {
  [ "$(tail -n "$(printf '%s\n' "$rows" | grep -c '')" "$set")" != "$(as_orders)" ] || return 0
  printf '%s\n' "$rows" | awk -F '\t' '
    FNR == NR { weight[$1 FS $2] = 1; state[$1 FS $3] = 1; next }
    {
      drain = int($3 / 8) % 2 ? "drain" : "ready"
      if ((($1 FS $4) in weight || $4 == $5) && (($1 FS drain) in state || drain == "ready" || $6 ~ /^MAINT/)) next
      printf "; %s has weight %s and is %s", $1, $4, drain
    }' "$set" -
  find "$dir" -maxdepth 1 -name "$at.set-*" -newer "$set" ! -name "$at.set-$run" |
    sed -n 's/.*[.]set-/; run /p' | head -n 1 | tr -d '\n'
}

back() {
  going_back=yes
  begin
  if [ ! -e "$kept" ]; then
    [ -z "$of" ] || refuse "$not_kept"
    say "this run has changed nothing here"
    return
  fi
  was=$(shares_now)
  old=$(cat "$kept")
  if [ "$(as_orders)" = "$old" ]; then
    [ -n "$part" ] || refuse "$why"
    if [ -z "$dead" ]; then agree; fi
    keep_states || refuse "$why"
    tell "backend $backend is as $whose found it: $(shares "$part")${dead:+, of which $dead}"
    return
  fi
  other_hand=$(strangers)
  [ -z "$other_hand" ] ||
    refuse "backend $backend is not as $whose left it; somebody has changed it since: ${other_hand#; }. What it found is in $kept"
  if [ -n "$of" ]; then
    must_go_back "$old"
    keep_first
    printf '%s\n' "$old" >>"$set"
    make_durable "$set"
  fi
  touch "$set" 2>/dev/null || : # older than the states again once these are kept
  trap 'take_back interrupted 143' TERM INT HUP
  tick
  began=$now
  changed=yes
  apply "$old" || take_back "$why"
  unkept=''
  keep_states || unkept=$why
  [ -n "$part" ] || take_back "$why"
  [ -z "$dead" ] || take_back "$dead"
  measure "$part" || take_back "$why"
  changed=no
  trap - TERM INT HUP
  tick
  tell "backend $backend is as $whose found it: $(shares "$part") (before: $was) after $(seconds $((now - began))) s$note"
  [ -z "$unkept" ] || { printf 'failed: the traffic is back, but %s; then do this again\n' "$unkept" >&2; exit 5; }
}

# --- looking ------------------------------------------------------------------

show() {
  survey
  must_be_where_said "$first $second"
  if only_dead; then printf '%s\n' "$dead" >&2
  else
    agree
    printf '%s%s\n' "$measured" "$note" >&2
  fi
  shares "$part"
  echo
}

# Prints what a run has found first, if that could be put back now.
found() {
  survey
  only_dead || agree
  open_dir
  kept=$dir/$at.before-$of set=$dir/$at.set-$of
  [ -e "$kept" ] || refuse "what run $of found is not kept in $dir; it has changed nothing here, or five runs came since. Name an earlier one if that is meant (opskit runs lists them)"
  old=$(cat "$kept")
  [ "$(as_orders)" != "$old" ] || refuse "backend $backend is as run $of found it already: $(shares "$part")"
  other_hand=$(strangers)
  [ -z "$other_hand" ] ||
    refuse "backend $backend is not as run $of left it; somebody has changed it since: ${other_hand#; }. What it found is in $kept"
  must_go_back "$old"
  printf 'now %s; %s\n' "$(shares "$part")" "$measured$dead$note" >&2
  printf '%s\n' "$old" | awk -F '\t' -v first="$first" -v one="$one" -v other="$other" '
    BEGIN { n = split(first, f, " "); for (i = 1; i <= n; i++) is[f[i]] = 1 }
    $3 == "ready" { if ($1 in is) a = 1; else b = 1 }
    END { print (a && b ? one " and " other : (a ? one : other) " 100") }'
}

ready() {
  survey
  case $to in
    "$one") gains=$first ;;
    *) gains=$second ;;
  esac
  only_dead || agree
  must_be_up "$gains"
  must_be_healthy "$gains"
  tell "$to can have traffic of backend $backend, which has $(shares "$part") now${dead:+, of which $dead}$note"
}

# Sets count: sessions and waiting requests of the other colour, and open: those of processes from
# before a reload, which finish what they began and are not in what the socket tells.
count_left() {
  count=$(printf '%s\n' "$rows" | awk -F '\t' -v side="$side" '$2 == side { n += $8 } END { print n + 0 }')
  open=0
  find_earlier
  [ -n "$earlier" ] || return 0
  find_sockets "$process"
  # shellcheck disable=SC2086  # numbers
  count_held $earlier
}

# Waits until the other colour has neither a session nor a request that waits.
alone() {
  survey
  case $to in
    "$one") side=2 gone=$second leaving=$other all=0 ;;
    *) side=1 gone=$first leaving=$one all=100 ;;
  esac
  [ "$part" -eq "$all" ] || refuse "$to has not all traffic of backend $backend, which has $(shares "$part")"
  remote=$(for each in $(up_in "$gone"); do in_kernel "$each"; done | tr '\n' ' ')
  tick
  began=$now
  while :; do
    count_left
    tick
    [ $((count + open)) -gt 0 ] || break
    if [ $((now - began)) -ge $((drain_timeout * 100)) ]; then
      printf 'failed: after %s s HAProxy still has %s sessions with %s%s\n' "$drain_timeout" $((count + open)) "$leaving" \
        "$([ "$open" -eq 0 ] || printf '; %s of another process of HAProxy, such as one from before a reload (process%s)' "$open" "$earlier")" >&2
      exit 1
    fi
    sleep 0.2
    read_rows || refuse "$why"
  done
  say "HAProxy has no session with $leaving any more, after $(seconds $((now - began))) s"
}

check_words
"$action"
