# The second half of a practice host's start, with its own files as /.
umount -l /mnt
cd /
if [ -f /etc/labctl/app.conf ]; then
    labctl start app &
fi
if [ -d /etc/nginx/opskit ]; then
    nginx &
fi
unset OPSKIT_LAB_MARK
exec "$(command -v sshd)" -D -e -f /etc/ssh/sshd_config
