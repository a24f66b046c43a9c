# Reads HAProxy's configuration, all of its files one after another, and says from where it takes the
# states of the servers of a backend (-v backend) when it is loaded: file PATH; fault MESSAGE where it
# takes none; nothing where that can't be told from the text, as with variables.
#
# With -v want=servers it says instead what its servers are, as it is written: NAME ADDRESS ASKS, where
# asks is 1 if HAProxy asks for the address of a name itself, and while it runs (resolvers).
#
# The fields of an answer stand apart by tabs.

# Splits a line into words as HAProxy does; sets word and n.
function split_line(line,  i, c, quote, text, open) {
  n = 0
  for (i = 1; i <= length(line); i++) {
    c = substr(line, i, 1)
    if (quote == "\047") { if (c == quote) quote = ""; else text = text c }
    else if (c == "\\") { text = text substr(line, ++i, 1); open = 1 }
    else if (quote == "\"") { if (c == quote) quote = ""; else text = text c }
    else if (c == "\"" || c == "\047") { quote = c; open = 1 }
    else if (c == "#") break
    else if (c ~ /[ \t\r]/) { if (open || text != "") word[++n] = text; text = ""; open = 0 }
    else text = text c
  }
  if (open || text != "") word[++n] = text
}

# The mode that a section begins with: that of the defaults it names, or of the last ones.
function inherited(  i) {
  for (i = 2; i < n; i++) if (word[i] == "from") return mode_of[word[i + 1]]
  return word[1] == "defaults" ? "" : mode_of[last_defaults]
}

{
  split_line($0)
  if (n == 0) next
  if (word[1] ~ /^(global|defaults|frontend|backend|listen|peers|resolvers|userlist|mailers|cache|program|ring|http-errors|fcgi-app|log-forward|crt-store|traces)$/) {
    section = word[1]; title = word[2]
    if (section == "defaults") {
      last_defaults = n > 1 && title != "from" ? title : "\001" ++unnamed
      mode_of[last_defaults] = inherited()
    }
    ours = (section == "backend" || section == "listen") && title == backend
    if (ours) { found = 1; mode = inherited() }
    next
  }
  if (section == "global" && word[1] == "server-state-file") file = word[2]
  if (section == "global" && word[1] == "server-state-base") base = word[2]
  if (word[1] == "load-server-state-from-file") {
    if (section == "defaults") mode_of[last_defaults] = word[2]
    if (ours) mode = word[2]
  }
  if (word[1] == "default-server" && (ours || section == "defaults")) for (i = 2; i <= n; i++) if (word[i] == "resolvers") asks_itself = 1
  if (ours && word[1] == "server" && n > 2 && want == "servers") {
    asks = asks_itself + 0
    for (i = 4; i <= n; i++) if (word[i] == "resolvers") asks = 1
    print word[2] "\t" word[3] "\t" asks
  }
  if (ours && word[1] == "server-state-file-name") own = word[2] == "use-backend-name" ? backend : word[2]
}

END {
  if (!found || want == "servers") exit
  if (mode == "" || mode == "none") { print "fault\tHAProxy\047s configuration has no load-server-state-from-file for backend " backend; exit }
  if (mode == "local") file = own == "" ? backend : own
  if (file == "") { print "fault\tHAProxy\047s configuration has no server-state-file"; exit }
  if (file !~ /^\//) file = base "/" file
  if (file !~ /\$/ && file ~ /^\//) print "file\t" file
}
