# sh boot.sh ROOT NAME [PROGRAM WORD...]: pid 1 of a practice host, in namespaces of its own.
# PROGRAM, if given, runs the second half (unshare, where the host's root must be a user again).
set -eu
root=$1
name=$2
shift 2
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
hostname "$name"
mount --rbind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/sshd run/lock
# The kernel's boot id is the machine's; a host that boots needs one of its own.
cat /proc/sys/kernel/random/uuid >run/boot_id
chmod 444 run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
pivot_root . mnt
cd /
umount -l /mnt
exec "$@" /bin/sh /usr/local/sbin/lab-init
