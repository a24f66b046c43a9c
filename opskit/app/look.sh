# What `opskit hosts check` asks a host: a line NAME=VALUE for each thing. Reads only.
if sudo -n true 2>/dev/null; then echo sudo=yes; else echo sudo=no; fi
echo "clock=$(date +%s.%N)"
df -P "$HOME" 2>/dev/null | awk 'NR == 2 { print "disk=" $5 }'
df -Pi "$HOME" 2>/dev/null | awk 'NR == 2 { print "inodes=" $5 }'
missing=
for tool in sh cat mkdir mv rm sha256sum base64 setsid tar; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -r /proc/self/stat ] || missing="$missing /proc"
if [ -n "$missing" ]; then echo "tools=missing$missing"; else echo tools=all; fi
echo "home=$(stat -f -c %T "$HOME" 2>/dev/null || echo unknown)"
kill=$(sed -n 's/^[[:space:]]*KillUserProcesses[[:space:]]*=[[:space:]]*//p' \
    /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf 2>/dev/null | tail -n 1)
echo "kill=${kill:-no}"
