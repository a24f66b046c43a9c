# Answers about two upstreams that share a service, behind words.awk, which reads nginx's
# configuration. Set with -v: first, second (names of the upstreams) and action:
#
#   action=shares   of the file with the shares: shares PERCENT KEY VARIABLE, what the second gets
#   action=survey   of the whole configuration (nginx -T); -v variable: the one of the shares
#         refuse MESSAGE                     why the shares must not be changed
#         note MESSAGE                       what a person should know
#         server UPSTREAM ADDRESS up|down    each of their servers
#         log PATH SECONDS                   an access log whose lines are kept back so long ('': until
#                                            there are many)
#         patience WORDS                     what worker_shutdown_timeout says ("" for nothing)
#   action=bounds   of nothing: COUNT LEAST MOST: how many answers to ask for (-v sample: at least)
#         when the second gets -v share percent, and how many of them may come from it by chance.
#         A right share is outside of that about twice in a million times.
#
# The fields of an answer stand apart by tabs.

function directive(how) {
  if (action == "shares") read_shares(how)
  else survey(how)
}

# --- the file with the shares

function read_shares(how) {
  if (depth == 1 && how == "{" && word[1] == "split_clients" && n == 3) {
    if (splits++) fault("it has more than one split_clients")
    key = word[2]; variable = word[3]
  } else if (depth == 1 && how == ";" && block[1] == "split_clients" && n == 2) {
    if (word[1] in share_of) fault("it gives " word[1] " twice")
    if (word[2] != first && word[2] != second)
      fault("it gives a share to " word[2] ", which is neither " first " nor " second)
    if (word[2] in given) fault("it names " word[2] " twice")
    share_of[word[1]] = word[2]; given[word[2]] = word[1]
  } else fault("line " NR " is no part of a split_clients between two pools")
}

function tell_shares(  at, part, rest) {
  if (!splits) fault("it has no split_clients")
  else if (!("*" in share_of)) fault("it has no share for the rest (*)")
  else if (key ~ /["\\]/) fault("its key has a quote or a backslash, which opskit does not write")
  if (failed) return
  for (at in share_of) if (at != "*") {
    if (at !~ /^[1-9][0-9]?%$/) fault("its share " at " is no whole number of percent")
    part = at + 0; rest = at
  }
  if (failed) return
  if (rest == "") part = share_of["*"] == second ? 100 : 0
  else if (share_of[rest] == first) part = 100 - part
  print "shares\t" part "\t" key "\t" variable
}

# --- the whole configuration

function site(  i) {
  for (i = depth; i > 0; i--) if (block[i] == "server") return number[i]
  return 0
}

function survey(how,  i) {
  if (how == "{") {
    if (word[1] == "upstream") names = names ", " word[2]
    if (word[1] == "upstream" && (word[2] == first || word[2] == second)) known[word[2]] = 1
    if (word[1] == "server") number[depth] = ++sites
  } else if (word[1] == "server" && block[depth] == "upstream" && label[depth] in known) {
    keep_server()
  } else if (word[1] == "worker_shutdown_timeout" && depth == 0) {
    patience = word[2]
  } else if (word[1] == "access_log") {
    keep_log()
  } else if (word[1] ~ /^(proxy|fastcgi|uwsgi|scgi|grpc)_next_upstream$/) {
    for (i = 2; i <= n; i++) if (word[i] == "non_idempotent") repeats[site()] = word[1]
  } else if (word[1] ~ /^(proxy|fastcgi|uwsgi|scgi|grpc)_pass$/) {
    keep_pass()
  }
}

function keep_log(  i, late, flush) {
  for (i = 3; i <= n; i++) {
    if (word[i] ~ /^(buffer=|gzip)/) late = 1
    if (word[i] ~ /^flush=/) flush = seconds(substr(word[i], 7))
  }
  if (late) print "log\t" word[2] "\t" flush
}

# A time as nginx writes it (500ms, 5s, 1m30s), in whole seconds and rather too long.
function seconds(text,  part, sum) {
  while (match(text, /^[0-9]+(ms|[smhdwMy])?/)) {
    part = substr(text, 1, RLENGTH); text = substr(text, RLENGTH + 1)
    sum += part ~ /ms$/ ? part / 1000 : part * (part ~ /m$/ ? 60 : part ~ /h$/ ? 3600 : part ~ /[dwMy]$/ ? 86400 : 1)
  }
  return int(sum) + (sum > int(sum))
}

function keep_server(  i, state) {
  state = "up"
  for (i = 3; i <= n; i++) if (word[i] == "down" || word[i] == "backup") state = "down"
  count++
  of[count] = label[depth]; at[count] = address(word[2]); is[count] = state
}

function keep_pass(  rest) {
  rest = word[2]
  sub(/^[a-z]+:\/\//, "", rest)
  if (index(rest, variable) != 1) return
  rest = substr(rest, length(variable) + 1)
  if (rest ~ /^[A-Za-z0-9_]/) return
  used[site()] = 1
  passes++
  if (rest != "") print "note\t" word[1] " has " rest " behind " variable ": with a variable, nginx sends that instead of the path that was asked for"
}

function refuse_it(message) { print "refuse\t" message }

function tell_survey(  i, j, each) {
  if (!(first in known)) refuse_it("nginx has no upstream " first " but " substr(names, 3))
  if (!(second in known)) refuse_it("nginx has no upstream " second " but " substr(names, 3))
  if (!passes) refuse_it("nothing in nginx's configuration passes requests to " variable "; write for example: proxy_pass http://" variable ";")
  for (each in repeats) if (each == 0 || each in used)
    refuse_it(repeats[each] " has non_idempotent: nginx would send a POST a second time, to the other side as well; take that word out")
  for (i = 1; i <= count; i++) {
    for (j = 1; j < i; j++) if (of[i] != of[j] && at[i] == at[j])
      refuse_it(at[i] " is in " first " and in " second "; a server belongs to one of them")
    print "server\t" of[i] "\t" at[i] "\t" is[i]
  }
  print "patience\t" patience
}

# --- how many answers prove a share

# The fewest of size that come from a side with the share p, so that still fewer come less than one
# time in a million. Terms are counted from the likeliest outwards: none is too large, and no
# logarithm is needed, which not every awk has.
function least(size, p,  k, mode, ratio, term, total, below) {
  ratio = p / (1 - p)
  mode = int(size * p)
  term[mode] = total = 1
  for (k = mode; k < size; k++) total += term[k + 1] = term[k] * ratio * (size - k) / (k + 1)
  for (k = mode; k > 0; k--) total += term[k - 1] = term[k] / ratio * k / (size - k + 1)
  for (k = 0; k < size; k++) {
    below += term[k] / total
    if (below >= 0.000001) return k
  }
}

function tell_bounds(  p, rare, size, none, k) {
  size = sample
  if (share == 0 || share == 100) { print size "\t" (share ? size : 0) "\t" (share ? size : 0); return }
  p = share / 100
  rare = p < 0.5 ? p : 1 - p
  none = 1
  for (k = 0; none >= 0.000001; k++) none *= 1 - rare
  if (size < k) size = k
  print size "\t" least(size, p) "\t" (size - least(size, 1 - p))
}

BEGIN { if (action == "bounds") { tell_bounds(); exit } }

END {
  if (failed || action == "remote" || action == "bounds") exit
  if (mode == "quote" || depth || n) fault("a brace, quote or semicolon is missing in it")
  if (failed) exit
  if (action == "shares") tell_shares()
  else tell_survey()
}
