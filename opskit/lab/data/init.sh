# sh init.sh [ROOT]: the second half of a practice host's start. ROOT stands before all paths
# where the host has no file system of its own.
root=${1-}
cd "$root/" || exit 1
# run/lab.ended: what should serve has ended, or did not even start; nobody need wait for it.
rm -f "$root/run/lab.ended"
if [ -f "$root/etc/labctl/app.conf" ]; then
    { "$root/usr/local/bin/labctl" start app || : >"$root/run/lab.ended"; } &
fi
if [ -d "$root/etc/nginx/opskit" ]; then
    { nginx -p "$root/" -c "$root/etc/nginx/nginx.conf" -g 'daemon off;'; : >"$root/run/lab.ended"; } &
fi
if [ -f "$root/etc/haproxy/opskit.cfg" ]; then
    haproxy -W -db -f "$root/etc/haproxy/opskit.cfg" >>"$root/var/log/haproxy/access.log" 2>&1 &
fi
exec "$(command -v sshd)" -D -e -f "$root/etc/ssh/sshd_config"
