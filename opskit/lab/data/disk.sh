# sh disk.sh DISK SIZE OVERLAY_OPTION...: make a host's file system, inside the keeper's namespace.
# A tmpfs is the disk. The machine's /usr, /etc, /var lie under it; what the host writes goes to
# DISK/upper and DISK/root, so the machine never sees it.
set -eu
disk=$1
size=$2
options=${3-}
mkdir -p "$disk"
mount -t tmpfs -o "size=$size,mode=755" tmpfs "$disk"
root=$disk/root
mkdir -p "$root" "$disk/upper" "$disk/work"
for part in usr etc var opt bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$part" ]; then
        cp -P "/$part" "$root/$part"
    elif [ -d "/$part" ]; then
        mkdir -p "$root/$part" "$disk/upper/$part" "$disk/work/$part"
        mount -t overlay overlay \
            -o "lowerdir=/$part,upperdir=$disk/upper/$part,workdir=$disk/work/$part$options" \
            "$root/$part"
    fi
done
for part in dev home mnt proc root run srv sys tmp; do
    mkdir -p "$root/$part"
done
chmod 1777 "$root/tmp"
chmod 700 "$root/root"
