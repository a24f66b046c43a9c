# Reads nginx configuration as nginx does (words, quotes, comments, blocks; a directive may span
# lines), and answers about one pool. Set with -v: action, pool, upstream, name, member, alias,
# members (see nginx.sh). The fields of an answer stand apart by tabs:
#
#   fault MESSAGE
#   found up|down FROM UPTO UP TOTAL BACKUP OTHERS   drain, ready, spare: the member's server line.
#         Its word `down` is the bytes from FROM to UPTO; where there is none yet, both say where to
#         put it. Then a line for each other server that is up: its address
#   pool good|bad UP, then a line for each member    check; UP servers are in service
#
# With action=remote each line is an IP address, and the answer is the address as the kernel's
# tables of connections write it (-v port; -v little: 1 on a little-endian machine).

# --- addresses: one text for each, however it was written

function short(digits) {
  sub(/^0+/, "", digits)
  return digits == "" ? "0" : digits
}

function expand(ip,  half, group, halves, left, right, i, out) {
  halves = split(ip, half, "::")
  left = split(half[1], group, ":")
  for (i = 1; i <= left; i++) out = out ":" short(group[i])
  if (halves > 1) {
    right = split(half[2], group, ":")
    for (i = left + right; i < 8; i++) out = out ":0"
    for (i = 1; i <= right; i++) out = out ":" short(group[i])
  }
  return substr(out, 2)
}

function address(text,  end, rest) {
  text = tolower(text)
  if (text ~ /^unix:/) return text
  if (text !~ /^\[/) return text ~ /:[0-9]+$/ ? text : text ":80"
  end = index(text, "]")
  rest = substr(text, end + 1)
  return "[" expand(substr(text, 2, end - 2)) "]" (rest == "" ? ":80" : rest)
}

function turned(eight) {
  if (little != 1) return eight
  return substr(eight, 7, 2) substr(eight, 5, 2) substr(eight, 3, 2) substr(eight, 1, 2)
}

function kernel(ip,  part, i, out) {
  if (ip !~ /:/) {
    split(ip, part, ".")
    return turned(sprintf("%02X%02X%02X%02X", part[1], part[2], part[3], part[4]))
  }
  split(toupper(expand(tolower(ip))), part, ":")
  for (i = 1; i <= 8; i++) part[i] = substr("0000", 1, 4 - length(part[i])) part[i]
  for (i = 1; i < 8; i += 2) out = out turned(part[i] part[i + 1])
  return out
}

# --- the words of the file

function fault(message) {
  if (!failed) print "fault\t" message
  failed = 1
}

# Positions count the file's bytes from 0; gap is how many blanks stand before the word.
function open_word(i) {
  n++
  word[n] = ""; start[n] = base + i - 1; gap[n] = blanks; mode = "word"
}

function close_word(last) {
  stop[n] = base + last; mode = ""; blanks = 0
}

function open_block() {
  depth++
  block[depth] = word[1]
  label[depth] = n > 1 ? word[2] : ""
  if (word[1] == "upstream") { known[word[2]] = 1; blocks++; names = names ", " word[2] }
  if (word[1] ~ /_by_lua_block$/)
    fault("line " NR " begins a block of Lua; keep the pool in a file of its own")
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

function end_directive(how) {
  if (n && how == "{") open_block()
  else if (n > 1 && word[1] == "server" && (depth == 0 || block[depth] == "upstream")) keep_server()
  n = blanks = 0
}

function scan(text,  i, c, size) {
  size = length(text)
  for (i = 1; i <= size && !failed; i++) {
    c = substr(text, i, 1)
    if (mode == "quote") {
      if (c == "\\" && i < size) word[n] = word[n] substr(text, ++i, 1)
      else if (c == quote) close_word(i)
      else word[n] = word[n] c
    } else if (c == " " || c == "\t" || c == "\r") {
      if (mode == "word") close_word(i - 1)
      blanks++
    } else if (c == ";" || (c == "{" && !(mode == "word" && word[n] ~ /\$$/))) {
      if (mode == "word") close_word(i - 1)
      end_directive(c)
    } else if (mode == "" && c == "}") {
      if (--depth < 0) fault("line " NR " has a } too many")
      blanks = 0
    } else if (mode == "" && c == "#") {
      return
    } else if (mode == "" && (c == "\"" || c == "\047")) {
      open_word(i); mode = "quote"; quote = c
    } else {
      if (mode == "") open_word(i)
      if (c == "\\" && i < size) { word[n] = word[n] c; c = substr(text, ++i, 1) }
      word[n] = word[n] c
    }
  }
}

action == "remote" { print kernel($0) ":" sprintf("%04X", port); next }
failed { next }
{
  scan($0)
  if (mode == "word") close_word(length($0))
  if (mode == "quote") word[n] = word[n] "\n"
  base += length($0) + 1
  blanks = 0
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
