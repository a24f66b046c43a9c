# What `opskit hosts check` asks a host: a line NAME=VALUE for each thing. Reads only.
# $1: where opskit is to keep its files, as the inventory has it.
if sudo -n true 2>/dev/null; then echo sudo=yes; else echo sudo=no; fi
echo "clock=$(date +%s.%N)"

# The directory itself, or the nearest one above it that is there.
# shellcheck disable=SC2088 # the word itself, as the inventory has it
case $1 in '~') dir=$HOME ;; '~/'*) dir=$HOME/${1#??} ;; *) dir=$1 ;; esac
place=$dir
while ! [ -e "$place" ] && [ -n "${place%/*}" ]; do place=${place%/*}; done
[ -e "$place" ] || place=/
# shellcheck disable=SC3067 # dash, bash and busybox all have -O
if [ "$place" = "$dir" ] && ! [ -O "$dir" ]; then
    echo "state=foreign $dir"
elif [ -d "$place" ] && [ -w "$place" ] && [ -x "$place" ]; then
    echo "state=ok $dir"
else
    echo "state=closed $dir $place"
fi
df -P "$place" 2>/dev/null | awk 'NR == 2 { print "disk=" $5 }'
df -Pi "$place" 2>/dev/null | awk 'NR == 2 { print "inodes=" $5 }'
system() { stat -f -c %T "$1" 2>/dev/null || echo unknown; }
echo "home=$(system "$HOME") $(system "$place")"

missing=
for tool in sh cat mkdir mv rm sha256sum base64 setsid tar; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -r /proc/self/stat ] || missing="$missing /proc"
if [ -n "$missing" ]; then echo "tools=missing$missing"; else echo tools=all; fi

# logind reads one main file, the first of these that is there, then all drop-ins by their names;
# of two with the same name the one further up this list.
main=
names=
for folder in /etc /run /usr/local/lib /usr/lib; do
    [ -n "$main" ] || ! [ -e "$folder/systemd/logind.conf" ] || main=$folder/systemd/logind.conf
    for file in "$folder"/systemd/logind.conf.d/*.conf; do
        ! [ -e "$file" ] || names="$names${file##*/}
"
    done
done
kill=$({
    [ -z "$main" ] || cat "$main"
    printf '%s' "$names" | sort -u | while IFS= read -r name; do
        for folder in /etc /run /usr/local/lib /usr/lib; do
            file=$folder/systemd/logind.conf.d/$name
            [ -e "$file" ] || continue
            cat "$file"
            echo
            break
        done
    done
} 2>/dev/null | sed -n 's/^[[:space:]]*KillUserProcesses[[:space:]]*=[[:space:]]*//p' | tail -n 1)
echo "kill=${kill:-no}"
