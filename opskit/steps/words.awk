# Reads nginx configuration as nginx does (words, quotes, comments, blocks; a directive may span
# lines). Stands in front of a program that answers about it: for each directive that program's
# directive(how) is called, with its words in word[1..n], how it ended (";" or "{"), and the blocks
# around it in block[1..depth] and label[1..depth]. With how "{" the innermost is its own.
#
# The first thing that is wrong is printed as: fault MESSAGE (apart by a tab), and ends the reading.
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
  if (word[1] ~ /_by_lua_block$/)
    fault("line " NR " begins a block of Lua; keep the pool in a file of its own")
}

function end_directive(how) {
  if (n && how == "{") open_block()
  if (n) directive(how)
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
