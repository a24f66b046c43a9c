# Answers about one pool, behind words.awk, which reads nginx's configuration. Set with -v: action,
# pool, upstream, name, member, alias, members (see pool.sh). The fields of an answer stand apart by
# tabs:
#
#   found up|down FROM UPTO UP TOTAL BACKUP OTHERS   drain, ready, spare: the member's server line.
#         Its word `down` is the bytes from FROM to UPTO; where there is none yet, both say where to
#         put it. Then a line for each other server that is up: its address
#   pool good|bad UP, then a line for each member    check; UP servers are in service

function directive(how) {
  if (how == "{") {
    if (word[1] == "upstream") { known[word[2]] = 1; blocks++; names = names ", " word[2] }
  } else if (n > 1 && word[1] == "server" && (depth == 0 || block[depth] == "upstream")) keep_server()
}

function keep_server(  i) {
  count++
  of[count] = depth ? label[depth] : ""
  raw[count] = word[2]; at[count] = address(word[2]); row[count] = NR
  from[count] = upto[count] = stop[n]
  for (i = 3; i <= n; i++) {
    if (word[i] == "backup") backup[count] = 1
    if (word[i] == "down") { downs[count]++; from[count] = start[i] - gap[i]; upto[count] = stop[i] }
  }
}

# --- the answers

function choose_upstream(  i) {
  chosen = pool
  if (upstream != "") {
    chosen = upstream
    if (!(upstream in known))
      fault("it has no upstream " upstream (blocks ? " but " substr(names, 3) : ""))
  } else if (!(pool in known)) {
    chosen = ""
    if (blocks > 1) fault("none of its upstreams (" substr(names, 3) ") is called " pool "; name the one to use in the inventory, as upstream:")
    else for (i in known) chosen = i
  }
}

function listed(  i, out) {
  for (i = 1; i <= count; i++)
    if (of[i] == chosen) out = out ", " raw[i] " (line " row[i] (downs[i] ? ", down)" : ")")
  return out == "" ? "no server" : substr(out, 3)
}

# The number of the server line with one of these addresses; 0 when there is none, -1 for several.
function find(addresses,  i, j, size, each, hit) {
  size = split(addresses, each, " ")
  for (i = 1; i <= count; i++)
    for (j = 1; j <= size; j++)
      if (of[i] == chosen && at[i] == address(each[j])) { hit = hit ? -1 : i; break }
  return hit + 0
}

function answer_member(  hit, i, up, total, others) {
  hit = find(member " " alias)
  if (hit < 0) fault("member " name " (" member ") stands in it more than once; give it one line")
  else if (hit == 0) fault("member " name " (" member ") is not in it; it has " listed())
  else if (downs[hit] > 1) fault("line " row[hit] " says down more than once")
  if (failed) return
  for (i = 1; i <= count; i++)
    if (of[i] == chosen) { total++; if (!downs[i] && !backup[i]) up++ }
    else if (at[i] == at[hit]) others = others "," of[i]
  print "found\t" (downs[hit] ? "down" : "up") "\t" from[hit] "\t" upto[hit] "\t" (up + 0) "\t" total "\t" (backup[hit] + 0) "\t" (others == "" ? "-" : substr(others, 2))
  for (i = 1; i <= count; i++)
    if (of[i] == chosen && i != hit && !downs[i] && !backup[i]) print at[i]
}

function answer_pool(  each, size, i, equals, hit, state, good, up, seen, out) {
  size = split(members, each, " ")
  good = count > 0
  for (i = 1; i <= size; i++) {
    equals = index(each[i], "=")
    hit = find(substr(each[i], equals + 1) " " substr(each[i], 1, equals - 1) ":" port_of(each[i]))
    state = hit == 0 ? "absent" : hit < 0 ? "listed more than once" : downs[hit] ? "down" : "up"
    if (hit > 0) seen[hit] = 1
    if (state != "up") good = 0
    out = out "\n" substr(each[i], 1, equals - 1) " " substr(each[i], equals + 1) " " state
  }
  for (i = 1; i <= count; i++) {
    if (of[i] == chosen && !downs[i] && !backup[i]) up++
    if (of[i] == chosen && !(i in seen)) {
      if (downs[i] && !size) good = 0
      out = out "\n- " raw[i] " " (downs[i] ? "down" : "up")
    }
  }
  print "pool\t" (good ? "good" : "bad") "\t" (up + 0) out
}

function port_of(text) {
  sub(/^.*:/, "", text)
  return text
}

END {
  if (failed || action == "remote") exit
  if (mode == "quote" || depth || n) fault("a brace, quote or semicolon is missing in it")
  if (!failed) choose_upstream()
  if (failed) exit
  if (action == "check") answer_pool()
  else answer_member()
}
