# Reads an HTTP answer and says in a line what the one is who gave it: `healthy`, or what is wrong.
#
# Healthy is a status of 2xx; and where the body is a JSON object with a `status` of its own (not
# one further inside), that must be a good word, too: many a page answers 200 and says "unhealthy".

function good(word) {
  return tolower(word) ~ /^(healthy|ok|up|pass|ready|alive)$/
}

# The text of `status` at the top of the JSON object; "" when there is none.
function own_status(text,  i, c, depth, size, inside, word, key, value) {
  size = length(text)
  for (i = 1; i <= size; i++) {
    c = substr(text, i, 1)
    if (inside) {
      if (c == "\\") word = word substr(text, ++i, 1)
      else if (c != "\"") word = word c
      else if (value) { if (key == "status") return word; inside = value = 0 }
      else { key = word; inside = 0 }
    } else if (c == "\"") {
      if (depth == 1) { inside = 1; word = "" }
      else for (i++; i <= size && substr(text, i, 1) != "\""; i++)
        if (substr(text, i, 1) == "\\") i++
    } else if (c == "{" || c == "[") { depth++; value = 0 }
    else if (c == "}" || c == "]") depth--
    else if (depth == 1 && c == ":") value = 1
    else if (depth == 1 && c == ",") value = 0
    else if (depth == 1 && value && key == "status" && c ~ /[a-z0-9-]/) return "no text"
  }
  return ""
}

{ sub(/\r$/, "") }
NR == 1 { protocol = $1; status = $2; next }
head_over { body = body $0 "\n"; next }
$0 == "" { head_over = 1 }
END {
  if (protocol !~ /^HTTP\/[0-9.]+$/) { print (NR ? "no HTTP answer" : "no answer"); exit }
  if (status !~ /^2[0-9][0-9]$/) { print "status " substr(status, 1, 3); exit }
  if (!head_over) { print "half an answer"; exit }
  word = body ~ /^[ \t\n]*\{/ ? own_status(body) : ""
  gsub(/[^A-Za-z0-9 ._-]/, "?", word)
  print ((word == "" || good(word)) ? "healthy" : "status is " substr(word, 1, 40))
}
