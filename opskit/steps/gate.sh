# Watch the new side of a pool beside the old one until it passes, fails, or nobody can tell.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind common.sh, members.sh and shares.sh, in front of what steers the balancer, with these
# set besides what is listed there:
#   first, second     what names the new and the old side where requests are counted, and one, other,
#                     what they are called
#   alone             1: there is no old side to compare with
#   source            where requests are counted: log | stats | counts
#   log, log_side, log_status, log_time, log_unit     the access log, and which of its words is what
#   counts_at, counts_page      who tells counts as JSON
#   haproxy           1: it is one
#   means             1: mean times stand for the p95
#   upstreams         1: first and second are upstreams, whose servers nginx's configuration names
#   members_of        addresses of the new side's servers ('': see upstreams, or HAProxy)
#   gate_awk, gatelog_awk, counts_awk     the programs that weigh, and that read a log and counts
#   maths_awk         what the first two calculate with
#   for_, window, windows, sample, old_sample, max_errors, error_ratio, hard_limit, p95_ratio,
#   p95_least         see gate.awk
#
# Exit status: 0 passed · 1 failed · 7 inconclusive · 3 refused, which is inconclusive as well
# The last line says why; without it nothing is known.

poor=0 beat=1 ask_within=20 most=$((64 * 1024 * 1024)) nl='
'

inconclusive() {
  say "INCONCLUSIVE: $1"
  exit 7
}

# What can't be looked at is no reason to go back, and none to go on.
refuse() { inconclusive "$1"; }

# --- an access log --------------------------------------------------------------------------------
#
# The file stays open, so that it can be read to its end when it has been renamed (log rotation);
# the one that has come in its place is read beside it, until only that one grows.

inode_of() { stat -Lc %i "$1" 2>/dev/null; }
size_of() { stat -Lc %s "$1" 2>/dev/null; }

open_log() {
  [ -r "$log" ] || inconclusive "$log can't be read"
  exec 8<"$log"
  old_log=/proc/$$/fd/8 old_at=$(size_of /proc/$$/fd/8) new_log='' new_at=0
  is_log=$(inode_of "$old_log")
  old_mark=$(before "$old_log" "$old_at") new_mark=''
}

# Lets nginx write what it was asked before the gate: by opskit itself, which counts who answers. Where
# it keeps lines back (access_log … buffer=), that is written up to flush= later.
await_lines() {
  [ "$upstreams" = 1 ] || return 0
  late=$(printf '%s\n' "$found" | awk -F '\t' -v name="${log##*/}" '
    $1 == "log" { n = split($2, part, "/") }
    $1 == "log" && part[n] == name && ($3 == "" || $3 > most) { most = $3 == "" ? "never" : $3; if ($3 == "") exit }
    END { print most }')
  case $late in
    '') return ;;
    never) inconclusive "nginx keeps lines of $log back until its buffer is full (buffer= without flush=); write flush=5s behind it" ;;
  esac
  [ "$late" -le "$window" ] && [ "$late" -le "$ask_within" ] ||
    inconclusive "nginx keeps lines of $log back for $late s (flush=), longer than a window or $ask_within s; write flush=5s"
  sleep $((late + 1))
}

# Prints what was written to the open file $1 from byte $2 to $3, as counts.
read_log() {
  from=$2 cut=0
  if [ $(($3 - from)) -gt "$most" ]; then from=$(($3 - most)) cut=1; fi
  tail -c "+$((from + 1))" "$1" 2>/dev/null | head -c $(($3 - from)) |
    awk -v first="$first" -v second="$second" -v side="$log_side" -v status="$log_status" \
      -v time="$log_time" -v unit="$log_unit" -v cut="$cut" -v poor="$poor" "$maths_awk$gatelog_awk"
}

# Prints what stands before byte $2 of the open file $1: a file that was cut, and has grown as large
# again, is told by that.
before() {
  if [ "$2" -gt 200 ]; then tail -c "+$(($2 - 199))" "$1" 2>/dev/null | head -c 200; else head -c "$2" "$1"; fi
}

# Sets end: where the last whole line of the open file $1 ends that began behind $2, and marked, what
# stands before it. Fails where the file was cut since $3 was marked.
whole_lines() {
  end=$(size_of "$1")
  if [ "$end" -lt "$2" ] || [ "$(before "$1" "$2")" != "$3" ]; then return 1; fi
  while [ "$end" -gt "$2" ] && [ -n "$(tail -c "+$end" "$1" | head -c 1 | tr -d '\n')" ]; do
    rest=$(tail -c "+$(($2 + 1))" "$1" | head -c $((end - $2)) | tail -n 1 | wc -c)
    end=$((end - rest))
  done
  marked=$(before "$1" "$end")
}

see_log() {
  if ! whole_lines "$old_log" "$old_at" "$old_mark"; then
    seen="v $log was cut while it was read"
    old_at=0 old_mark=''
    return
  fi
  old_mark=$marked
  grew=$((end - old_at))
  seen=$(read_log "$old_log" "$old_at" "$end")
  old_at=$end
  if [ -z "$new_log" ]; then
    now_is=$(inode_of "$log") || return 0
    [ "$now_is" != "$is_log" ] || return 0
    [ -r "$log" ] || { seen="v $log can't be read any more"; return; }
    exec 7<"$log"
    new_log=/proc/$$/fd/7 new_at=0 new_mark='' is_log=$now_is
  fi
  if ! whole_lines "$new_log" "$new_at" "$new_mark"; then
    seen="v $log was cut while it was read"
    new_at=0 new_mark=''
    return
  fi
  new_mark=$marked
  seen="$seen$nl$(read_log "$new_log" "$new_at" "$end")"
  new_at=$end
  if [ "$grew" -eq 0 ] && [ "$new_at" -gt 0 ]; then
    exec 8<&7 7<&-
    old_at=$new_at old_mark=$new_mark new_log=''
  fi
}

# --- HAProxy's counters ---------------------------------------------------------------------------

# Names of servers, by the fields of `show stat`; a request that was tried in vain counts as an error.
see_stats() {
  if ! hear 'show info;show stat'; then
    seen="v $why"
    return
  fi
  seen=$(printf '%s\n' "$heard" | awk -v backend="$backend" -v first="$first" -v second="$second" '
    BEGIN {
      n = split(first, a, " "); for (i = 1; i <= n; i++) of[a[i]] = 1
      n = split(second, a, " "); for (i = 1; i <= n; i++) if (!(a[i] in of)) of[a[i]] = 2
    }
    /^Pid: / { print "p", $2 }
    /^# pxname,/ { sub(/^# /, ""); FS = ","; $0 = $0; for (i = 1; i <= NF; i++) at[$i] = i; next }
    !("pxname" in at) || $at["pxname"] != backend { next }
    {
      name = $at["svname"]
      side = name in of ? of[name] : ($at["addr"] in of ? of[$at["addr"]] : 0)
      if (!side) next
      found[side]++
      bad = $at["hrsp_5xx"] + $at["econ"] + $at["eresp"] + $at["wretr"]
      all = $at["hrsp_1xx"] + $at["hrsp_2xx"] + $at["hrsp_3xx"] + $at["hrsp_4xx"] + $at["hrsp_other"] + bad
      print "c", name, side, all, bad, ($at["rtime"] == "" ? "-" : $at["rtime"] + $at["ctime"])
      if (side == 1) { print "a", $at["addr"]; if ($at["status"] ~ /^DOWN/) print "f", name " is " $at["status"] " (" $at["check_status"] ")" }
    }
    END {
      if (!("pxname" in at)) print "v the socket does not answer as HAProxy does"
      else if (!found[1]) print "v backend " backend " has no server of the new side (" first ")"
      else if (!found[2] && second != "") print "v backend " backend " has no server of the old side (" second ")"
    }')
  is=$(printf '%s\n' "$seen" | sed -n 's/^p //p')
  members_of=$(printf '%s\n' "$seen" | sed -n 's/^a //p' | tr '\n' ' ')
  if [ -n "${process:-}" ] && [ "$is" != "$process" ]; then
    seen="r${nl}v HAProxy was reloaded, and its counters began anew (process $process, now $is)$nl$seen"
  fi
  process=$is
}

# --- counts from elsewhere ------------------------------------------------------------------------

see_counts() {
  of_members=$scheme scheme=http
  find_asker
  seen=$(answer_of "$counts_at" "$counts_page" | awk -v first="$first" -v second="$second" "$counts_awk")
  scheme=$of_members
  if [ -n "$health" ]; then find_asker; fi
}

# --- health ---------------------------------------------------------------------------------------

# Whether every server of the new side is well. One that is not is asked twice more.
see_health() {
  [ -n "$health" ] || return 0
  set -f
  # shellcheck disable=SC2086  # addresses
  set -- $members_of
  set +f
  tries=0
  while :; do
    ill=$(ask "$@" | awk -F '\t' '$2 != "healthy" { printf "; %s: %s", $1, $2 }')
    [ -n "$ill" ] || return 0
    tries=$((tries + 1))
    if [ "$tries" -ge 3 ]; then break; fi
    sleep 1
  done
  seen="$seen${nl}f not all of $one is healthy (asked for $health three times): ${ill#; }"
}

# --- the gate -------------------------------------------------------------------------------------

must_be_seen() {
  unseen=$(printf '%s\n' "$seen" | sed -n 's/^v //p' | head -n 1)
  [ -z "$unseen" ] || inconclusive "$unseen"
}

prepare() {
  awk 'BEGIN { exit exp(log(8)) < 7 }' 2>/dev/null || poor=1 # see maths.awk
  if [ "$upstreams" = 1 ]; then
    resolve
    read_shares "$real"
    survey
    members_of=$(up_in "$first" | tr '\n' ' ')
    first="$first $members_of" second="$second $(up_in "$second" | tr '\n' ' ')"
  fi
  if [ "$means" = 1 ]; then note="$note; HAProxy tells no p95, so mean times were compared"; fi
  if [ "$haproxy" = 1 ]; then # who its servers are, whoever counts
    find_talker
    see_stats
    must_be_seen
  fi
  case $source in
    log)
      await_lines
      open_log
      seen=''
      ;;
    counts) see_counts ;;
  esac
  must_be_seen
  if [ -n "$health" ]; then
    find_asker
    case $members_of in
      *[!\ ]*) ;;
      *) inconclusive "$one has no server that could be asked for its health" ;;
    esac
  fi
}

weigh() {
  printf '%s\n=\n%s\nlook %s\n' "$kept_state" "$seen" "$1" |
    awk -v for_="$for_" -v window="$window" -v windows="$windows" -v sample="$sample" \
      -v old_sample="$old_sample" -v max_errors="$max_errors" -v error_ratio="$error_ratio" \
      -v hard_limit="$hard_limit" -v p95_ratio="$p95_ratio" -v p95_least="$p95_least" \
      -v alone="$alone" -v new="$one" -v old="$other" -v poor="$poor" "$maths_awk$gate_awk"
}

# Says what a look has brought, and ends with the verdict where it has brought one.
conclude() {
  printf '%s\n' "${1%%"$nl=$nl"*}" | sed -n 's/^say //p'
  verdict=$(printf '%s\n' "$1" | sed -n 's/^verdict //p')
  case $verdict in
    'pass '*) say "PASS: ${verdict#* }$note"; exit 0 ;;
    'fail '*) say "FAIL: ${verdict#* }"; exit 1 ;;
    'inconclusive '*) inconclusive "${verdict#* }" ;;
  esac
  case $1 in
    *"$nl=$nl"*) kept_state=${1#*"$nl=$nl"} ;;
    *) inconclusive 'what was seen could not be weighed: awk does not work here' ;;
  esac
}

gate() {
  seen='' kept_state=''
  if [ -z "$health" ]; then note="$note; nobody was asked for their health"; fi
  prepare
  asks=$window # in seconds
  [ "$asks" -le "$ask_within" ] || asks=$ask_within
  tick
  began=$now asked=$((now - asks * 100))
  while :; do
    if [ $((now - asked)) -ge $((asks * 100)) ] || [ $((now - began)) -ge $((for_ * 100)) ]; then
      asked=$now
      see_health
    fi
    result=$(weigh "$(seconds $((now - began)))") || result=''
    conclude "$nl$result"
    sleep "$beat"
    tick
    "see_$source"
  done
}
