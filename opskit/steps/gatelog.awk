# Counts the lines of an access log by side: how many requests ended, badly, and how long they took.
#
# -v first, second: what names the new and the old side, apart by blanks; side, status, time: which
#    word of a line it is (1 is the first, -1 the last), or the name before it, as in status=200 and
#    "status":200; unit: s or ms; cut=1: the first line is no whole one
# Prints lines for gate.awk (n, t, v), and `o LINES`: those of neither side.
#
# A side stands there by its name, whole or after the last `/`. Where a request was tried at several
# servers (`10.0.1.10:8000, 10.0.1.11:8000`), all but the last have failed it.

BEGIN {
  n = split(first, a, " "); for (i = 1; i <= n; i++) of[a[i]] = 1
  n = split(second, a, " "); for (i = 1; i <= n; i++) if (!(a[i] in of)) of[a[i]] = 2
}

# The word, and in `place` where it stands in the line; where it was found by a name that is 0, and
# `behind` what begins with it.
function word(field,  k, text) {
  place = 0
  if (field ~ /^-?[0-9]+$/) {
    k = field > 0 ? field + 0 : NF + 1 + field
    place = k
    return k > 0 && k <= NF ? $k : ""
  }
  k = match($0, "(^|[ ,{\t])\"?" field "\"?[=:] *\"?")
  if (!k) return ""
  behind = text = substr($0, k + RLENGTH)
  sub(/[ "}\t].*$/, "", text)
  return text
}
function bare(text) { gsub(/^["\[]+|[]",]+$/, "", text); return text }
function side_of(text,  part, n) {
  if (text in of) return of[text]
  n = split(text, part, "/")
  return n > 1 && part[n] in of ? of[part[n]] : 0
}

# A try that came to nothing.
function missed(who,  one) {
  one = side_of(bare(who))
  if (one) { count[one]++; bad[one]++ }
}
# What of the text is a further server that was tried: behind a comma only a server is meant, as the
# next field may stand there as well.
function further(text) {
  if (!match(text, /^[^ "}\t]+, +/)) return ""
  text = substr(text, RLENGTH + 1)
  return match(text, /^[^ "}\t]+/) && (side_of(bare(substr(text, 1, RLENGTH))) || substr(text, 1, RLENGTH) ~ /^[^=]*:[0-9]+,?$/) ? text : ""
}

cut && NR == 1 { next }
{
  who = word(side); at = place
  if (!at) while ((behind = further(behind)) != "") {
    missed(who)
    who = behind
    sub(/[ "}\t].*$/, "", who)
  }
  while (at && who ~ /,$/ && at < NF) { # tried there in vain, and then elsewhere
    missed(who)
    who = $(++at)
  }
  one = side_of(bare(who))
  if (!one) { others++; next }
  ended = bare(word(status))
  took = bare(word(time))
  k = split(took, part, "/"); took = part[k]; sub(/^\+/, "", took)
  if (ended !~ /^[1-5][0-9][0-9]$/ || took !~ /^[0-9]+(\.[0-9]+)?$/) {
    if (!unread++) example = substr($0, 1, 120)
    next
  }
  count[one]++
  if (ended >= 500) bad[one]++
  if (ended == 101) next # a WebSocket: how long it was open is no fault
  ms = unit == "ms" ? took : took * 1000
  times[one, ms < 1 ? 0 : int(ln(ms) * 50) + 1]++
}
END {
  for (one = 1; one <= 2; one++) if (count[one]) print "n", one, count[one], bad[one] + 0
  for (key in times) { split(key, part, SUBSEP); print "t", part[1], part[2], times[key] }
  if (others) print "o", others
  if (unread) {
    gsub(/[^ -~]/, "?", example)
    print "v", unread " lines of the log can't be read (see log_fields of the balancer), such as: " example
  }
}
