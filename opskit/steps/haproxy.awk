# Reads what HAProxy's socket answers, by the names in its headers and not by places.
#
#   action=rows     of `show servers state BACKEND` and, behind it, `show stat`; -v backend, first,
#                   second: names of servers, apart by blanks. Prints for each server of the two
#         NAME SIDE ADMIN WEIGHT INITIAL STATUS CHECK CURRENT ADDRESS     side 1 or 2; current: sessions
#                   and queued requests; or: fault MESSAGE
#   action=servers  of the same, without the names. Prints for each server of the backend
#         NAME STATE WEIGHT INITIAL STATUS CHECK CURRENT ELSEWHERE ADDRESS KIND     state: ready,
#                   drain or maint; elsewhere: sessions that other backends have with the same address; kind:
#                   main or backup; or: fault MESSAGE
#   action=share    of such lines: PERCENT EXACT, the second's share of the weights that count; where
#                   a colour that is to have traffic is down as a whole, its share as it is set, and
#                   behind it: which one (1 or 2), and a message
#   action=weights  of such lines; -v share: what the second is to have. Prints NAME WEIGHT STATE
#                   (ready, drain, or maint: left alone), or: fault MESSAGE
#
# The fields of an answer stand apart by tabs.

function fault(message) {
  if (!failed) print "fault\t" message
  failed = 1
}

# The bits of srv_admin_state: 8 and 16 are drain, 1, 2 and 32 kinds of maintenance; 4 and 64 only
# say that it began in maintenance, and that its name was given by the socket.
function drains(state) { return int(state / 8) % 4 > 0 }
function rests(state) { return state % 4 > 0 || int(state / 32) % 2 > 0 }

BEGIN {
  asked = action == "rows" || action == "servers"
  FS = asked ? " " : "\t"
  n = split(first, a, " "); for (i = 1; i <= n; i++) { side[a[i]] = 1; order[++wanted] = a[i] }
  n = split(second, a, " ")
  for (i = 1; i <= n; i++) {
    if (a[i] in side) fault(a[i] " is of both colours")
    side[a[i]] = 2; order[++wanted] = a[i]
  }
}

!asked {
  if ($1 == "") next
  count++
  name[count] = $1; of[count] = $2; admin[count] = $3; weight[count] = $4; initial[count] = $5
  counts[count] = !drains($3) && !rests($3) && $6 !~ /^(DOWN|MAINT|NOLB)/ ? $4 : 0
  next
}
$0 == "=" { next }
/^# pxname,/ { later = 1; FS = ","; sub(/^# /, ""); $0 = $0; for (i = 1; i <= NF; i++) field[$i] = i; next }
!later && $1 == "#" { for (i = 2; i <= NF; i++) column[$i] = i - 1; next }
!later && NF > 6 {
  if ($column["be_name"] != backend) next
  known[$column["srv_name"]] = 1
  state[$column["srv_name"]] = $column["srv_admin_state"]
  uweight[$column["srv_name"]] = $column["srv_uweight"]
  iweight[$column["srv_name"]] = $column["srv_iweight"]
  next
}
!later && NF > 1 { fault("HAProxy answers: " $0) }
later && ($field["svname"] == "FRONTEND" || $field["svname"] == "BACKEND") { next }
later && $field["pxname"] != backend { elsewhere[$field["addr"]] += $field["scur"] + $field["qcur"] }
later && $field["pxname"] == backend {
  one = $field["svname"]
  found[++seen] = one; backup[one] = $field["bck"]
  listed[one] = 1
  status[one] = $field["status"]; checked[one] = $field["check_status"]; sub(/^\* /, "", checked[one]); address[one] = $field["addr"]
  current[one] = $field["scur"] + $field["qcur"]
  if (!(one in side) && $field["bck"] == 0 && status[one] !~ /^MAINT/) stranger = one
}

function tell_rows(  i, one) {
  for (i = 1; i <= wanted && !failed; i++) {
    one = order[i]
    if (!(one in known) || !(one in listed)) fault("backend " backend " has no server " one)
    else if (status[one] == "no check") fault("server " one " has no check, so nobody knows whether it is up; write check behind it")
    else if (address[one] in who && side[who[address[one]]] != side[one]) fault(address[one] " is " who[address[one]] " and " one ", one of each colour")
    who[address[one]] = one
  }
  if (stranger != "") fault("server " stranger " of backend " backend " is of neither colour")
  for (i = 1; i <= wanted && !failed; i++) {
    one = order[i]
    print one "\t" side[one] "\t" state[one] "\t" uweight[one] "\t" iweight[one] "\t" status[one] "\t" (checked[one] == "" ? "-" : checked[one]) "\t" current[one] "\t" address[one]
  }
}

function tell_servers(  i, one) {
  if (seen == 0) fault("backend " backend " has no server")
  for (i = 1; i <= seen && !failed; i++) {
    one = found[i]
    print one "\t" (rests(state[one]) ? "maint" : drains(state[one]) ? "drain" : "ready") "\t" uweight[one] "\t" iweight[one] "\t" status[one] "\t" (checked[one] == "" ? "-" : checked[one]) "\t" current[one] "\t" (elsewhere[address[one]] + 0) "\t" (address[one] == "" ? "-" : address[one]) "\t" (backup[one] ? "backup" : "main")
  }
}

function tell_share(  i, sum, meant, who, exact, part, dead, down) {
  for (i = 1; i <= count; i++) {
    sum[of[i]] += counts[i]
    if (drains(admin[i]) || rests(admin[i])) continue
    meant[of[i]] += weight[i]
    who[of[i]] = who[of[i]] (who[of[i]] == "" ? "" : ", ") name[i]
  }
  for (i = 1; i <= 2; i++) if (sum[i] == 0 && meant[i] > 0) { dead = dead + i; down = who[i] ": down, and not drained" }
  if (dead == 3 || meant[1] + meant[2] == 0) { fault("no server of backend " backend " takes requests"); return }
  if (dead) for (i = 1; i <= 2; i++) sum[i] = meant[i]
  exact = 100 * sum[2] / (sum[1] + sum[2])
  part = int(exact + 0.5)
  if ((part == 0 || part == 100) && exact != part)
    fault("the weights give " exact " % to " second ": neither none nor a whole percent")
  if (!failed) print part "\t" exact (dead ? "\t" dead "\t" down : "")
}

# Weights may be 0 to 256. Within a colour they stand to each other as they did at first. Who is in
# maintenance stays there, and counts for nothing.
function tell_weights(  i, sum, part, most, given, total) {
  part[1] = 100 - share; part[2] = share
  for (i = 1; i <= count; i++) if (!rests(admin[i])) sum[of[i]] += initial[i]
  for (i = 1; i <= count; i++) {
    if (rests(admin[i])) continue
    if (initial[i] == 0) { fault("server " name[i] " begins with the weight 0; give it another one"); return }
    given[i] = part[of[i]] * initial[i] / sum[of[i]]
    if (given[i] > most) most = given[i]
  }
  for (i = 1; i <= count; i++) {
    if (rests(admin[i])) { out = out name[i] "\t" weight[i] "\tmaint\n"; continue }
    if (part[of[i]] == 0) { out = out name[i] "\t" weight[i] "\tdrain\n"; continue }
    given[i] = share == 0 || share == 100 ? initial[i] : int(given[i] * 256 / most + 0.5)
    if (given[i] == 0) { fault("server " name[i] " would get the weight 0, and no traffic; ask for a larger share"); return }
    total[of[i]] += given[i]
    out = out name[i] "\t" given[i] "\tready\n"
  }
  if (total[1] + total[2] == 0) { fault("all servers of the colour that is to have the traffic are in maintenance"); return }
  got = 100 * total[2] / (total[1] + total[2])
  if (got - share > 0.5 || share - got > 0.5) fault("weights of 1 to 256 come to " got " % and not to " share " %")
  if (!failed) printf "%s", out
}

END {
  if (failed) exit
  if (action == "rows") tell_rows()
  else if (action == "servers") tell_servers()
  else if (action == "share") tell_share()
  else tell_weights()
}
