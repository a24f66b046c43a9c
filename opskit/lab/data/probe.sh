# sh probe.sh FOLDER OPTIONS [PROGRAM WORD...]: in fresh namespaces, try what a host will need.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
folder=$1
options=$2
shift 2
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/etc" "$folder/proc" "$folder/dev" "$folder/id"
mount -t overlay overlay \
    -o "lowerdir=/etc,upperdir=$folder/upper,workdir=$folder/work$options" "$folder/etc"
: >"$folder/etc/opskit-lab-probe"
mount -t proc proc "$folder/proc"
mount --rbind /dev "$folder/dev"
cat /proc/sys/kernel/random/uuid >"$folder/boot_id"
mount --bind "$folder/boot_id" "$folder/proc/sys/kernel/random/boot_id"
hostname probe
exec "$@" true
