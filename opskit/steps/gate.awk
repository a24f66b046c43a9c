# Weighs the new side of a service against the old one, look by look; the whole rule of `gate`.
#
# Reads what was kept at the last look (lines of `s`), a line `=`, what was seen since, and `look`:
#   n SIDE REQUESTS ERRORS          requests that ended, and how many of them badly
#   t SIDE BUCKET REQUESTS          how long they took (side 1: new, 2: old; see bucket())
#   c KEY SIDE REQUESTS ERRORS MS   counters of a server since it began; MS is the mean of its last
#                                   requests, at most 1024 ('-': not told)
#   q SIDE MS                       a p95 that the source has found itself ('-': it tells none now)
#   v REASON                        this span could not be seen, or not as a whole
#   r                               forget the counters: they begin anew
#   o LINES                         what a log told of neither side
#   f REASON                        the new side is not well: fails at once
#   look SECONDS                    since the gate began
# Prints what is to be said, `=`, and what is to be kept; what is said last is the verdict:
#   verdict pass|fail|inconclusive REASON
#
# With -v play=1 there is no `=`: a line `begin` is followed by a whole gate, and the next one; for
# each is printed the verdict. So the rule that is measured is the one that judges.
#
# -v for_, window, windows, sample, old_sample, max_errors, error_ratio, hard_limit, p95_ratio,
#    p95_least (ms), alone (1: there is no old side), new, old (what they are called)
#
# The rule. A window lasts until `window` is over and both sides have their sample. It is bad when
# the new side's share of errors is above max_errors and above error_ratio times the old side's, or
# its p95 above p95_ratio times the old side's. As many bad ones as `windows` in a row fail, unless
# their errors may be chance (STREAK): in hours of watching, three bad windows of a good side come.
# So does what chance can't bring about (ALPHA) in all that was seen: small shares, which windows are
# too short for. It passes when nothing is bad in all that was seen, and MARGIN times the limits can be
# ruled out (BETA): otherwise there was too little to see it in. Everything else is inconclusive.

BEGIN {
  ALPHA = 0.0005; STREAK = 0.005; BETA = 0.1; MARGIN = 2
  TOLD = 500; RARELY = 10 # of more windows those that are well are told so rarely: 1 MiB is kept
  OFMT = CONVFMT = "%.15g" # a counter may have ten digits
  fresh()
}

function fresh() {
  split("", kept); split("", last); split("", spots)
  state["start"] = state["streak"] = state["closed"] = state["unseen"] = state["blind"] = state["others"] = 0
  why = why_unseen = why_bad = verdict = reason = ""
  void = ""; now = was = 0
  state["heard1"] = state["heard2"] = 0
}

# --- what is kept: kept[SCOPE, SIDE, WHAT]; scopes: w the window that is open, a all -----

function add(side, what, count) {
  if (what == "n" && count > 0) arrived[side] = 1
  kept["w", side, what] += count
  kept["a", side, what] += count
}
function count(scope, side) { return kept[scope, side, "n"] + 0 }
function errors(scope, side) { return kept[scope, side, "e"] + 0 }
function rate(scope, side) { return count(scope, side) ? errors(scope, side) / count(scope, side) : 0 }
# The windows of a row of bad ones, together: scope s.
function add_to_streak(bad,  side) {
  for (side = 1; side <= 2; side++) {
    kept["s", side, "n"] = bad ? count("s", side) + count("w", side) : 0
    kept["s", side, "e"] = bad ? errors("s", side) + errors("w", side) : 0
  }
}
function forget_window(  key, part) {
  for (key in kept) { split(key, part, SUBSEP); if (part[1] == "w") delete kept[key] }
  state["start"] = now
}

# --- how long requests took -------------------------------------------------------------------

# Times are counted in steps of 2 %.
function bucket(ms) { return ms < 1 ? 0 : int(ln(ms) * 50) + 1 }
function of_bucket(b) { return b == 0 ? 0 : antilog((b - 0.5) / 50) }

# The p95 in ms, or what stands for it; below 0 where nothing tells. Means are told in whole ms, so
# what is quicker than it was may come out below 0: of the new side that is quick, of the old one
# nothing to compare with.
function latency(scope, side,  b, most, sum, all) {
  if ((scope, side, "q") in kept) return kept[scope, side, "q"]
  if (kept[scope, side, "weight"] > 0) {
    sum = kept[scope, side, "sum"] / kept[scope, side, "weight"]
    return sum < 0 && side == 1 ? 0 : sum
  }
  all = kept[scope, side, "t"]
  if (!all) return -1
  for (b = 0; b < 2000; b++) {
    sum += kept[scope, side, "b" b]
    if (sum >= 0.95 * all) return of_bucket(b)
  }
  return -1
}

function slow(scope,  ours, theirs) {
  if (p95_ratio == 0 || alone) return 0
  ours = latency(scope, 1); theirs = latency(scope, 2)
  return ours > p95_ratio * theirs && theirs >= 0 && ours > p95_least
}

# --- counters of a server -----------------------------------------------------------------------

# What a mean of at most 1024 requests says of those since the last look: HAProxy adds a request
# with the weight of 1/1024, or less while there were fewer of them.
function since(key, side, total, ms,  before, carry, full) {
  before = last[key, "n"]
  if (ms == "-" || last[key, "ms"] == "-" || total <= before) return
  full = total < 1024 ? total : 1024
  carry = before < 1024 ? before / full : 1
  if (total > 1024) carry *= antilog(-(total - (before > 1024 ? before : 1024)) / 1024)
  if (carry > 0.95) return 0 # too little of it is new
  kept["w", side, "sum"] += (total - before) * (ms - last[key, "ms"] * carry) / (1 - carry)
  kept["w", side, "weight"] += total - before
  kept["a", side, "sum"] += (total - before) * (ms - last[key, "ms"] * carry) / (1 - carry)
  kept["a", side, "weight"] += total - before
  return 1
}

function counter(key, side, total, bad, ms) {
  if (!((key, "n") in last)) { mark(key, total, bad); mark_mean(key, total, ms); return }
  if (total < last[key, "total"] || bad < last[key, "bad"]) {
    void = "the counters of " key " began anew"
    mark(key, total, bad); mark_mean(key, total, ms)
    return
  }
  add(side, "n", total - last[key, "total"])
  add(side, "e", bad - last[key, "bad"])
  if (since(key, side, total, ms)) mark_mean(key, total, ms)
  mark(key, total, bad)
}
function mark(key, total, bad) { spots[key] = 1; last[key, "total"] = total; last[key, "bad"] = bad }
function mark_mean(key, total, ms) { last[key, "n"] = total; last[key, "ms"] = ms }

# --- chance ---------------------------------------------------------------------------------------

function lgamma(x,  shift) {
  for (shift = 0; x < 12; x++) shift += ln(x)
  return (x - 0.5) * ln(x) - x + 0.918938533204673 + 1 / (12 * x) - 1 / (360 * x * x * x) - shift
}
function point(k, n, p) {
  return antilog(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * ln(p) + (n - k) * ln(1 - p))
}
# How likely k or more of n are, when each has the chance p; 1 where that is half or more.
function upper(k, n, p,  term, sum) {
  if (k <= n * p || p <= 0 || p >= 1) return k > 0 && p <= 0 ? 0 : 1
  for (term = point(k, n, p); k <= n && term > sum * 1e-9; k++) {
    sum += term
    term *= (n - k) / (k + 1) * p / (1 - p)
  }
  return sum
}
# How likely k or fewer are.
function lower(k, n, p,  term, sum) {
  if (p >= 1) return k < n ? 0 : 1
  if (k >= n * p) return 1
  for (term = point(k, n, p); k >= 0 && term > sum * 1e-9; k--) {
    sum += term
    term *= k / (n - k + 1) * (1 - p) / p
  }
  return sum
}
# The chance that an error is one of the new side, if that has `ratio` times the old one's share.
function portion(scope, ratio) {
  return ratio * count(scope, 1) / (ratio * count(scope, 1) + count(scope, 2))
}

function failing(scope) {
  return rate(scope, 1) > max_errors && (alone || rate(scope, 1) > error_ratio * rate(scope, 2))
}
# More errors than chance brings about in a side that keeps one of the two limits.
function no_chance(scope, alpha,  e) {
  if (!failing(scope)) return 0
  e = errors(scope, 1)
  if (upper(e, count(scope, 1), max_errors) >= alpha) return 0
  return alone || upper(e, e + errors(scope, 2), portion(scope, error_ratio)) < alpha
}
# Fewer than a side would have that keeps neither, by far.
function ruled_out(scope,  e) {
  e = errors(scope, 1)
  if (lower(e, count(scope, 1), MARGIN * max_errors) <= BETA) return 1
  return !alone && count(scope, 2) > 0 && lower(e, e + errors(scope, 2), portion(scope, MARGIN * error_ratio)) <= BETA
}
function too_hard(scope,  n) {
  n = count(scope, 1)
  if (!n || rate(scope, 1) <= hard_limit) return 0
  return n >= sample || upper(errors(scope, 1), n, hard_limit) < ALPHA
}

# --- words ----------------------------------------------------------------------------------------

function percent(share) { return sprintf("%.2f %%", 100 * share) }
function of_side(scope, side,  ms, text) {
  text = (side == 1 ? new : old) " " count(scope, side) " requests, " percent(rate(scope, side)) " failed"
  ms = latency(scope, side)
  if (ms >= 0) text = text ", " ((scope, side, "q") in kept || kept[scope, side, "weight"] == "" ? "p95" : "mean") " " sprintf("%.0f", ms) " ms"
  return text
}
function sides(scope) { return of_side(scope, 1) (alone ? "" : "; " of_side(scope, 2)) }
function what_is_bad(scope) { return failing(scope) ? (slow(scope) ? "errors and slow" : "errors") : "slow" }
function end(word, text) { if (verdict == "") { verdict = word; reason = text } }
function say(text) { if (!play) print "say " text }

# --- a look ---------------------------------------------------------------------------------------

function look(at,  full, side) {
  now = at
  if (void != "") {
    if (why_unseen == "") why_unseen = void " (" sprintf("%.0f", now) " s after the beginning)"
    if (!state["blind"]) { state["blind"] = was + 0.001; say("not seen: " void) }
    state["unseen"]++
    forget_window()
  } else state["blind"] = 0
  void = ""
  was = now
  for (side in arrived) state["heard" side] = now
  split("", arrived)
  if (why != "") end("fail", why)
  else if (too_hard("w")) end("fail", "above the hard limit of " percent(hard_limit) ": " sides("w"))
  else if (too_hard("a")) end("fail", "above the hard limit of " percent(hard_limit) ": " sides("a"))
  else if (state["blind"] && now - state["blind"] >= windows * window) {
    end("inconclusive", why_unseen "; nothing has been seen since")
  }
  full = count("w", 1) >= sample && (alone || count("w", 2) >= old_sample)
  if (full && now - state["start"] >= window - 0.01) close_window()
  if (verdict == "" && now >= for_ - 0.01) finish()
}

function close_window(  bad) {
  bad = failing("w") || slow("w")
  state["closed"]++
  state["streak"] = bad ? state["streak"] + 1 : 0
  add_to_streak(bad)
  if (bad || state["closed"] <= TOLD || state["closed"] % RARELY == 0) {
    say(sprintf("%.0f", now) " s: " sides("w") ": " (bad ? what_is_bad("w") ", " state["streak"] " of " windows " in a row" : "well"))
  }
  if (state["streak"] >= windows && (slow("w") || no_chance("s", STREAK))) {
    end("fail", what_is_bad("w") " in " state["streak"] " windows in a row; the last: " sides("w"))
  } else if (no_chance("a", ALPHA)) end("fail", "more errors than chance brings about: " sides("a"))
  forget_window()
}

function few() {
  return "too few requests: " sides("a") (state["others"] ? "; " state["others"] " lines of neither side" : "")
}

# Its time is over. What is bad now is looked at a while longer.
function finish(  open, side) {
  open = state["streak"] > 0 || (errors("w", 1) > 1 && failing("w"))
  if (!state["closed"] && !state["unseen"] && count("a", 1) > 0 && (alone || count("a", 2) > 0)) open = 1
  if (open && now < for_ + windows * window - 0.01) return
  if (state["unseen"]) end("inconclusive", why_unseen ", so not all of it was seen; " sides("a"))
  for (side = 1; side <= (alone ? 1 : 2); side++) {
    if (count("a", side) && now - state["heard" side] > window) {
      end("inconclusive", "no request of " (side == 1 ? new : old) " for " sprintf("%.0f", now - state["heard" side]) " s; " sides("a"))
    }
  }
  if (count("a", 1) < sample) end("inconclusive", few() "; " sample " of " new " are needed")
  else if (!alone && count("a", 2) < old_sample) end("inconclusive", few() "; " old_sample " of " old " are needed")
  else if (!state["closed"]) end("inconclusive", few())
  else if (state["streak"]) end("inconclusive", "the last window was bad, and no more than " state["streak"] " in a row; " sides("a"))
  else if (failing("a")) end("inconclusive", "errors above the limits, which may be chance; " sides("a"))
  else if (!ruled_out("a")) end("inconclusive", "too few requests to rule " percent(MARGIN * max_errors) " out; " sides("a"))
  # what is never too slow needs nothing to be compared with
  else if (p95_ratio > 0 && !alone && (latency("a", 1) < 0 || latency("a", 2) < 0 && latency("a", 1) > p95_least)) end("inconclusive", "nothing tells how long requests take; " sides("a"))
  else if (slow("a")) end("inconclusive", "slow on the whole, but not in " windows " windows in a row; " sides("a"))
  else end("pass", sides("a") " in " sprintf("%.0f", now) " s")
}

# --- in and out -----------------------------------------------------------------------------------

function conclude() { print "verdict " (verdict == "" ? "none" : verdict " " reason) }

function keep(  key, part) {
  print "="
  for (key in kept) { split(key, part, SUBSEP); print "s k", part[1], part[2], part[3], kept[key] }
  for (key in spots) print "s c", key, last[key, "total"], last[key, "bad"], last[key, "n"], last[key, "ms"]
  for (key in state) print "s v", key, state[key]
  print "s t", now
  print "s u", why_unseen
}

function rest(from,  i, text) {
  for (i = from; i <= NF; i++) text = text (i > from ? " " : "") $i
  return text
}

function restore() {
  if ($2 == "k") kept[$3, $4, $5] = $6
  else if ($2 == "c") { mark($3, $4, $5); mark_mean($3, $6, $7) }
  else if ($2 == "v") state[$3] = $4
  else if ($2 == "t") was = $3
  else if ($2 == "u") why_unseen = rest(3)
}

verdict != "" && $1 != "begin" { next }
$1 == "begin" { if (NR > 1) conclude(); fresh(); next }
$1 == "s" { restore(); next }
$1 == "n" { add($2, "n", $3); add($2, "e", $4); next }
$1 == "t" { add($2, "t", $4); add($2, "b" $3, $4); next }
$1 == "c" { counter($2, $3, $4, $5, $6); next }
$1 == "q" && $3 == "-" { delete kept["w", $2, "q"]; delete kept["a", $2, "q"]; next }
$1 == "q" { kept["w", $2, "q"] = kept["a", $2, "q"] = $3; next }
$1 == "v" { void = rest(2); next }
$1 == "r" { split("", last); split("", spots); next }
$1 == "o" { state["others"] += $2; next }
$1 == "f" { why = rest(2); next }
$1 == "look" { look($2) }
END {
  if (play || verdict != "") conclude()
  else keep()
}
