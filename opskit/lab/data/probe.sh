# sh probe.sh FOLDER OPTIONS [PROGRAM WORD...]: in fresh namespaces, try what a host will need.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
folder=$1
options=$2
shift 2
mount -t tmpfs tmpfs "$folder"
cd "$folder"
mkdir upper work etc proc dev
mount -t overlay overlay -o "lowerdir=/etc,upperdir=upper,workdir=work$options" etc
: >etc/opskit-lab-probe
mount -t proc proc proc
mount --rbind /dev dev
cat /proc/sys/kernel/random/uuid >boot_id
mount --bind boot_id proc/sys/kernel/random/boot_id
hostname probe
exec "$@" true
