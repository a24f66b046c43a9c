# Tell which of two colours has the traffic of a pool, give one of them a share, or put back what
# this run found.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands behind shares.sh and nginx.sh, with these set besides what is listed there:
#   colours_awk       the program that reads shares and configuration (words.awk and colours.awk)
#   first, second     the upstreams of the two colours
#   max_old           how many workers of earlier reloads may be there still
#
# Exit status as nginx.sh has it.

# --- the file ---------------------------------------------------------------

ask_awk() { awk -v first="$first" -v second="$second" "$@"; }

# Sets part (percent of the second), key and variable, as the given file has them.
read_shares() {
  told=$(ask_awk -v action=shares "$colours_awk" "$1") || told=''
  IFS=$tab read -r verdict part key variable <<END
$told
END
  how_named="add_header $header $variable always"
  [ "$verdict" = shares ] ||
    refuse "$file: ${part:-it could not be read}; so which colour is live is not known"
  case $key in
    *http_user_agent* | *request_id*) ;;
    *) refuse "$file splits by \"$key\", which is the same for every request that opskit makes to measure it; let \$http_user_agent or \$request_id be part of it" ;;
  esac
}

# Prints the file's text for a share of the second.
compose() {
  printf '# Who gets which share; written whole by opskit, last in run %s.\n' "${2:-$run}"
  printf 'split_clients "%s" %s {\n' "$key" "$variable"
  case $1 in
    0) printf '    * %s;\n' "$first" ;;
    100) printf '    * %s;\n' "$second" ;;
    *) printf '    %s%% %s;\n    * %s;\n' "$1" "$second" "$first" ;;
  esac
  printf '}\n'
}

# --- nginx ------------------------------------------------------------------

# Refuses what makes a change of shares unsafe or in vain. Sets servers and patience.
survey() {
  case " $test " in
    *' -t '*) ;;
    *) refuse "the command that checks nginx's configuration ($test) has no -t, so opskit can't read it with -T" ;;
  esac
  whole=$(sh -c "$(printf '%s\n' " $test " | sed 's/ -t / -T /')" 2>&1 </dev/null 9<&-) ||
    refuse "nginx's configuration is not valid ($test): $(printf '%s\n' "$whole" | grep -F '[emerg]' | head -n 1)"
  is_read || refuse "nginx does not read $file (see: $test, with -T for -t)"
  found=$(printf '%s\n' "$whole" | grep -v '^nginx: ' |
    ask_awk -v action=survey -v variable="$variable" "$colours_awk")
  bad=$(printf '%s\n' "$found" | awk -F '\t' '
    $1 == "refuse" || $1 == "fault" { printf "%s%s", sep, $2; sep = "; " }')
  [ -z "$bad" ] || refuse "$bad"
  patience=$(printf '%s\n' "$found" | awk -F '\t' '$1 == "patience" { print $2 }')
  servers=$(printf '%s\n' "$found" | awk -F '\t' '$1 == "server" { print $2, $3, $4 }')
  hint=$(printf '%s\n' "$found" | awk -F '\t' '$1 == "note" { print $2 }')
  if [ -n "$hint" ]; then note="$note; $hint"; fi
}

# After the old file is back: what it says must be measured again.
proven() {
  read_shares "$real"
  measure "$part"
}

# What answers when the old file is back, but not loaded.
live() {
  read_shares "$real"
  if measure "$part"; then printf '; what answers is %s all the same: %s' "$(shares "$part")" "$measured"
  else printf '; and what answers is something else: %s' "$why"; fi
}

# A change that was cut off (by a crash of this machine, say) is taken back before anything else.
# The old text stays beside the file until nginx is known to run it: if this is refused before, the
# next one must know that it may still run the new one.
recover() {
  stale=''
  if [ ! -e "$old" ]; then return; fi
  rm -f "$fresh"
  cp -p "$old" "$fresh" || refuse "$dir can't be written"
  cmp -s "$old" "$fresh" || refuse "$dir: no room for a new file"
  make_durable "$fresh"
  mv -f "$fresh" "$real"
  make_durable "$dir"
  stale=yes
  note="$note; a change of this file had been cut off and was taken back first"
}

# Refuses when file and answers differ.
agree() {
  measure "$part" ||
    refuse "$file says $(shares "$part"), but $why; they disagree, so which colour is live is not known"
}

# --- the colours -----------------------------------------------------------

# Prints the addresses of an upstream's servers that take requests.
up_in() { printf '%s\n' "$servers" | awk -v of="$1" '$1 == of && $3 == "up" { print $2 }'; }

# --- connections ------------------------------------------------------------

# Prints the inodes of the open connections of the workers in $1: c INODE from a client, u INODE to
# a server. Where nginx's descriptors can't be read, all connections of this network count: rather
# too many than too few.
look_open() {
  # shellcheck disable=SC2086  # numbers
  set -- $1
  for worker in "$@"; do
    shift
    set -- "$@" "/proc/$worker/fd"
  done
  # shellcheck disable=SC2012  # names under /proc/PID/fd are numbers
  held=$(ls -ln "$@" 2>&1 | awk '
    /Permission denied/ { printf "? " }
    match($0, /socket:\[[0-9]+\]/) { printf "%s ", substr($0, RSTART + 8, RLENGTH - 9) }')
  cat "/proc/$master/net/tcp" "/proc/$master/net/tcp6" 2>/dev/null |
    awk -v held="$held" -v remote="$remote" '
      BEGIN {
        n = split(held, h, " "); for (i = 1; i <= n; i++) ours[h[i]] = 1
        blind = "?" in ours
        n = split(remote, r, " "); for (i = 1; i <= n; i++) server[r[i]] = 1
      }
      { port = substr($2, length($2) - 3) }
      $4 == "0A" { listens[port] = 1 }
      !(blind || $10 in ours) || $4 != "01" { next }
      ($3 in server) { print "u", $10; next }
      { client[$10] = port }
      END { for (i in client) if (client[i] in listens) print "c", i }'
}

# Sets long: how many requests may have lasted since the first look. An idle connection that is
# kept counts like one in use, so this is rather too many than too few.
count_long() {
  workers
  long=$(printf '%s\n=\n%s\n' "$1" "$(look_open "$serving $retiring")" | awk '
    $0 == "=" { again = 1; next }
    !again { seen[$0] = 1; next }
    $0 in seen { kept[$1]++ }
    END { print (kept["c"] < kept["u"] ? kept["c"] : kept["u"]) + 0 }')
}

# Sets staying: connections of clients that the workers before the reload still have.
count_staying() {
  workers
  staying=0
  if [ -n "$retiring" ]; then staying=$(look_open "$retiring" | grep -c '^c' || :); fi
}

count_words() { printf %s $#; }

# Refuses a reload that would leave workers behind for ever, or too many of them.
spare_workers() {
  # shellcheck disable=SC2086  # numbers
  older=$(count_words $retiring)
  [ "$older" -le "$max_old" ] ||
    refuse "$older workers of earlier reloads still serve their last connections (at most $max_old may); wait for them to end"
  if [ -z "$patience" ] && { [ "$long" -gt 0 ] || [ "$older" -gt 0 ]; }; then
    refuse "up to $long requests have been open through the whole look, such as WebSockets, and nginx has no worker_shutdown_timeout: its old workers would stay as long as those do; set it in nginx.conf"
  fi
}

# --- the change -------------------------------------------------------------

# Keeps what this run found for `back`, once; and the like of four earlier runs. These are told by
# when they were kept (-c): the copies have the time of the file, which an undo puts back.
keep_first() {
  own=$(named before "$run")
  if [ -e "$own" ]; then return; fi
  releases_of "$first" "$second" >"$(named answered "$run")" || refuse "$dir can't be written"
  cp -p "$real" "$own.new" || refuse "$dir can't be written"
  make_durable "$own.new"
  mv -f "$own.new" "$own"
  # shellcheck disable=SC2012  # names of opskit's own files
  ls -1tc "$(named before '')"* | tail -n +6 | while IFS= read -r each; do
    id=${each##*.before-}
    [ "$id" = "$run" ] || rm -f "$each" "$(named answered "$id")" "$(named left "$id")"
  done
}

# Where something of a run is kept: before (what it found), answered (who was which release then),
# left (what it has put in place, where it did not write that itself).
named() { printf '%s/.%s.%s-%s' "$dir" "${real##*/}" "$1" "$2"; }

# Refuses what the run that is meant has not left like that.
must_be_left() {
  compose "$part" "${of:-$run}" | cmp -s - "$real" || cmp -s "$(named left "${of:-$run}")" "$real" 2>/dev/null ||
    refuse "$file is not as $whose left it; somebody has changed it since. What it found is in $kept"
}

# Sets gains, who gets more when the share of the second goes from $1 to $2.
aim_back() { if [ "$2" -gt "$1" ]; then gains=$second; else gains=$first; fi; }

# Puts the text that lies in fresh in place, and proves the share ($1) that it gives the second.
put_in_place() {
  trap 'put_back interrupted 143' TERM INT HUP
  tick
  began=$now
  replace
  valid || put_back "nginx refuses the configuration ($test): $tested"
  load || put_back "$why"
  tick
  took=$(seconds $((now - began)))
  measure "$1" "${2:-}" || put_back "nginx has loaded it, but $why"
  changed=no
  rm -f "$old"
  make_durable "$dir"
  trap - TERM INT HUP
}

# Sets remote: the servers (of the upstream $1, or all) as the kernel's tables of connections write
# them. With $2 = refuse, one that no table tells of is not passed over.
find_remote() {
  remote=''
  set -f
  for each in $(printf '%s\n' "$servers" | awk -v of="$1" 'of == "" || $1 == of { print $2 }'); do
    case $each in
      unix:*)
        [ "$2" != refuse ] ||
          refuse "nobody can tell whether connections to $each are open; see for yourself (ss -x)"
        ;;
      *)
        found=$(in_kernel "$each") || exit 3 # it has said why
        remote="$remote $(printf '%s\n' "$found" | tr '\n' ' ')"
        ;;
    esac
  done
  set +f
}

begin() {
  open_file
  find_master
  kept=$(named before "${of:-$run}")
  recover
  read_shares "$real"
  survey
  find_remote '' pass
  workers
  looked=$(look_open "$serving $retiring")
}

tell() {
  say "$1"
  if [ -n "$measured" ]; then say "$measured"; fi
  if [ -n "${long:-}" ]; then say "before the reload, up to $long requests had been open through the whole look (WebSockets, or connections that are kept idle)"; fi
  count_staying
  if [ "$staying" -gt 0 ]; then say "$staying connections stay with the workers before, until they end${patience:+, at the longest for $patience (worker_shutdown_timeout)}"; fi
}

to() {
  begin
  was=$part
  aim
  if [ "$part" -eq "$wanted" ] && [ -z "$stale" ] && loaded; then
    agree
    tell "pool $pool has $(shares "$part") already, nginx was not reloaded"
    return
  fi
  if [ -z "$stale" ]; then agree; fi
  must_be_healthy "$gains"
  count_long "$looked"
  spare_workers
  keep_first
  cp -p "$real" "$fresh" || refuse "$dir can't be written"
  compose "$wanted" >"$fresh" || refuse "$dir: no room for a new file"
  digest=$(sha256sum <"$kept")
  put_in_place "$wanted" whole
  tell "pool $pool has $(shares "$wanted") (before: $(shares "$was")): nginx loaded it in $took s$note"
  say "what this run found first is kept in $kept (sha256 ${digest%% *})"
}

back() {
  begin
  if [ ! -e "$kept" ]; then
    [ -z "$of" ] || refuse "what run $of found is not kept in $dir; it has changed nothing here, or five runs came since. Name an earlier one if that is meant (opskit runs lists them)"
    if [ -n "$stale" ]; then
      load || refuse "$why"
      agree
      rm -f "$old"
      make_durable "$dir"
    fi
    say "this run has changed nothing here$note"
    return
  fi
  if cmp -s "$kept" "$real" && [ -z "$stale" ] && loaded; then
    agree
    tell "$file is as $whose found it: $(shares "$part"), nginx was not reloaded"
    return
  fi
  if ! cmp -s "$kept" "$real"; then must_be_left; fi
  was=$part
  read_shares "$kept"
  if [ -n "$of" ]; then
    aim_back "$was" "$part"
    must_be_as_then "$gains" "$(named answered "$of")"
    keep_first
    cp -p "$kept" "$(named left "$run")" || refuse "$dir can't be written"
  fi
  count_long "$looked"
  rm -f "$fresh"
  cp -p "$kept" "$fresh" || refuse "$dir can't be written"
  cmp -s "$kept" "$fresh" || refuse "$dir: no room for a new file"
  put_in_place "$part"
  tell "$file is as $whose found it: $(shares "$part") (before: $(shares "$was")): nginx loaded it in $took s$note"
}

# --- looking ------------------------------------------------------------

look() {
  resolve
  find_master
  [ ! -e "$old" ] || refuse "a change of $file was cut off; put back what was there: opskit undo of that run, or: mv $old $file, and a reload"
  read_shares "$real"
  survey
  agree
}

show() {
  look
  printf '%s%s\n' "$measured" "$note" >&2
  shares "$part"
  echo
}

# Prints what a run has found first, if that could be put back now.
found() {
  look
  dir=${real%/*}
  kept=$(named before "$of")
  [ -e "$kept" ] || refuse "what run $of found is not kept in $dir; it has changed nothing here, or five runs came since. Name an earlier one if that is meant (opskit runs lists them)"
  ! cmp -s "$kept" "$real" || refuse "$file is as run $of found it already: $(shares "$part")"
  must_be_left
  was=$part
  read_shares "$kept"
  aim_back "$was" "$part"
  must_be_as_then "$gains" "$(named answered "$of")"
  printf 'now %s; %s\n' "$(shares "$was")" "$measured" >&2
  shares "$part"
  echo
}

ready() {
  look
  case $to in
    "$one") must_be_healthy "$first" ;;
    "$other") must_be_healthy "$second" ;;
  esac
  say "$to can have traffic of pool $pool, which has $(shares "$part") now$note"
  say "$measured"
}

# Waits until nginx has no connection to the other colour.
alone() {
  resolve
  find_master
  read_shares "$real"
  survey
  case $to in
    "$one") gone=$second leaving=$other all=0 ;;
    *) gone=$first leaving=$one all=100 ;;
  esac
  [ "$part" -eq "$all" ] || refuse "$to has not all traffic of pool $pool, which has $(shares "$part")"
  find_remote "$gone" refuse
  tick
  began=$now
  while :; do
    workers
    count=$(look_open "$serving $retiring" | grep -c '^u' || :)
    tick
    [ "$count" -gt 0 ] || break
    if [ $((now - began)) -ge $((drain_timeout * 100)) ]; then
      printf 'failed: after %s s nginx still has %s connections to %s\n' "$drain_timeout" "$count" "$leaving" >&2
      exit 1
    fi
    sleep 0.2
  done
  say "nginx has no connection to $leaving any more, after $(seconds $((now - began))) s"
}

check_words
"$action"
