# sh init.sh [ROOT]: the second half of a practice host's start. ROOT stands before all paths
# where the host has no file system of its own.
root=${1-}
cd "$root/" || exit 1
if [ -f "$root/etc/labctl/app.conf" ]; then
    "$root/usr/local/bin/labctl" start app &
fi
if [ -d "$root/etc/nginx/opskit" ]; then
    nginx -p "$root/" -c "$root/etc/nginx/nginx.conf" -g 'daemon off;' &
fi
exec "$(command -v sshd)" -D -e -f "$root/etc/ssh/sshd_config"
