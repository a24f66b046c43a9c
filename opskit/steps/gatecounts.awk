# Reads an HTTP answer that tells in JSON how many requests each side has had so far:
#
#   {"app_green": {"requests": 1200, "errors": 3, "p95_ms": 34}, "app_blue": {…}}
#
# requests and errors are counted since somebody began to; p95_ms is that of the last while.
# -v first, second: what names the new and the old side, apart by blanks; what else there is, is
# passed over. Prints lines for gate.awk (c, q), or: v REASON

function read(text,  i, c, size, depth, key, name, word, value) {
  size = length(text)
  for (i = 1; i <= size; i++) {
    c = substr(text, i, 1)
    if (c == "\"") {
      word = ""
      for (i++; i <= size && (c = substr(text, i, 1)) != "\""; i++) word = word (c == "\\" ? substr(text, ++i, 1) : c)
      if (!value) key[depth] = word
    } else if (c == "{" || c == "[") { depth++; value = 0 }
    else if (c == "}" || c == "]") { depth--; value = 0 }
    else if (c == ",") value = 0
    else if (c == ":") value = 1
    else if (value && depth == 2 && c ~ /[-0-9]/) {
      word = ""
      while (substr(text, i, 1) ~ /[-+.eE0-9]/) word = word substr(text, i++, 1)
      i--
      told[key[1], key[2]] = word
    }
  }
  return depth == 0
}

function tell(name, side,  all, bad) {
  all = told[name, "requests"]; bad = told[name, "errors"]
  if (all !~ /^[0-9]+$/ || bad !~ /^[0-9]+$/) return
  found[side]++
  print "c", name, side, all, bad, "-"
  if (told[name, "p95_ms"] ~ /^[0-9.]+$/ && told[name, "p95_ms"] > p95[side] + 0) p95[side] = told[name, "p95_ms"]
}

{ sub(/\r$/, "") }
NR == 1 { protocol = $1; status = $2; next }
head_over { body = body $0 "\n"; next }
$0 == "" { head_over = 1 }
END {
  if (protocol !~ /^HTTP\/[0-9.]+$/) { print "v " (NR ? "no HTTP answer" : "no answer") " where counts are told"; exit }
  if (status !~ /^2[0-9][0-9]$/) { print "v status " substr(status, 1, 3) " where counts are told"; exit }
  if (!read(body)) { print "v what tells counts is no whole JSON"; exit }
  n = split(first, a, " "); for (i = 1; i <= n; i++) tell(a[i], 1)
  n = split(second, a, " "); for (i = 1; i <= n; i++) tell(a[i], 2)
  if (!found[1]) print "v no requests and errors are told of the new side (" first ")"
  if (!found[2] && second != "") print "v no requests and errors are told of the old side (" second ")"
  for (i = 1; i <= 2; i++) if (found[i]) print "q", i, (i in p95 ? p95[i] : "-")
}
