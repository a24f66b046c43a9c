# Ask an HTTP server for many answers, each over a connection of its own, and tell who gave them.
#
# shellcheck shell=sh disable=SC2034,SC2154
#
# Stands in front of shares.sh, with these set besides:
#   at_scheme                  http or https
#   at_url                     at_host as it stands in a URL
#   at_host, at_port, page, at_site     where requests go: address, port, path, Host header
#   header                     the header that says who answered, in lower case
#
# Each request has a User-Agent of its own, so that a split by that (or by chance) is tried as many
# times as requests are made.

asking_may_take=120

# Prints a line for each of $1 answers: STATUS VALUE; "- -" where there was none.
answers() {
  if [ "$at_scheme" = https ]; then
    command -v curl >/dev/null 2>&1 || refuse "this balancer has no curl to measure who answers over https; install it"
    many_with_curl "$1"
  elif command -v bash >/dev/null 2>&1; then
    many_with_bash "$1"
  elif command -v curl >/dev/null 2>&1; then
    many_with_curl "$1"
  else
    refuse "this balancer has neither bash nor curl to measure who answers; install one"
  fi
}

user_agent() { printf 'opskit/%s' "$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')"; }

head_of() {
  printf 'GET %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Proto: https\r\nConnection: close\r\nUser-Agent: %s' \
    "$page" "$at_site" "$1"
}

# One process for all: 200 answers in a fraction of a second. A request goes in one piece, by cat:
# bash itself would write it line by line, and the kernel would hold all but the first for 40 ms. Every answer is read to its end, as
# a connection that is closed before would stand in the service's log as broken off.
many_with_bash() {
  # shellcheck disable=SC2016  # bash puts its own arguments in
  timeout "$asking_may_take" bash -pc '
    at=$1 port=$2 count=$3 request=$4 header=$5
    printf -v end "\r\n\r" # and the end of line that <<< adds
    for ((i = 0; i < count; i++)); do
      status=- value=-
      if { exec 3<>"/dev/tcp/$at/$port"; } 2>/dev/null; then
        cat <<<"$request-$i$end" >&3
        if IFS=" " read -r -t 10 _ status _ <&3; then
          while IFS= read -r -t 10 line <&3; do
            line=${line%$'"'\\r'"'}
            [[ -n $line ]] || break
            name=${line%%:*}
            if [[ ${name,,} == "$header" ]]; then value=${line#*:} value=${value# }; fi
          done
          while IFS= read -r -t 10 -N 4096 rest <&3; do :; done
        fi
        exec 3<&- 3>&-
      fi
      printf "%s %s\n" "${status:--}" "${value:--}"
    done' bash "$at_host" "$at_port" "$1" "$(head_of "$(user_agent)")" "$header" 9<&-
}

# Not nc: busybox's ends its side of the connection when it has sent the request, which nginx takes
# for a client that has left. One process for all, told by its standard input what to ask for. Over
# TLS who answers is asked, not whether a certificate is good: the address is the balancer's own.
many_with_curl() {
  agent=$(user_agent)
  awk -v count="$1" -v agent="$agent" -v url="$at_scheme://$at_site$page" -v site="$at_site" -v to="$at_url:$at_port" '
    function quoted(text) { gsub(/[\\"]/, "\\\\&", text); return "\"" text "\"" }
    BEGIN {
      for (i = 0; i < count; i++) {
        print "url = " quoted(url) "\nconnect-to = " quoted("::" to) "\nuser-agent = " quoted(agent "-" i)
        print "header = " quoted("Host: " site) "\nheader = \"X-Forwarded-Proto: https\"\nheader = \"Connection: close\""
        print "output = /dev/null\ndump-header = -\nwrite-out = \"opskit-end\\n\"\nmax-time = 10"
        print "silent\ninsecure\nhttp1.1\ngloboff\nnoproxy = \"*\"\nnext"
      }
    }' </dev/null | timeout "$asking_may_take" curl -q -K - 2>/dev/null 9<&- | awk -v header="$header" '
      { sub(/\r$/, "") }
      $1 ~ /^HTTP\// { status = $2; value = "" }
      tolower(substr($0, 1, length(header) + 1)) == header ":" { value = $2 }
      /opskit-end$/ {
        print (status == "" ? "-" : status) " " (value == "" ? "-" : value)
        status = value = ""
      }' || :
}

# Asks for $1 answers. Sets got_first, got_second, got_other and got_broken (status 502 to 504 or no
# answer at all), and strange, an answer that neither of the two gave.
count_answers() {
  counted=$(answers "$1" | awk -v first="$first" -v second="$second" '
    BEGIN {
      n = split(first, f, " "); for (i = 1; i <= n; i++) of_first[f[i]] = 1
      n = split(second, s, " "); for (i = 1; i <= n; i++) of_second[s[i]] = 1
    }
    $1 == "-" || ($1 >= 502 && $1 <= 504) { broken++ }
    $2 in of_first { a++; next }
    $2 in of_second { b++; next }
    {
      other++
      strange = "status " $1 ", " ($2 == "-" ? "no such header" : $2)
      if ($1 ~ /^3/) strange = strange "; it sends clients elsewhere: where that is to TLS, write listen: https://..."
    }
    END { printf "%d %d %d %d %s\n", a, b, other, broken, strange }')
  read -r got_first got_second got_other got_broken strange <<END
$counted
END
}
