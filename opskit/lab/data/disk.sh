# sh disk.sh make|cover DISK SIZE OPTIONS: a host's file system, inside the keeper's namespace.
# make: a tmpfs is the disk. cover: the machine's /usr, /etc, /var ... under what lies in
# DISK/upper; what the host writes goes there and to DISK/root, so the machine never sees it.
# Between the two the lab writes the host's own files: afterwards an ordinary user no longer
# could, because in his namespace the machine's folders belong to nobody.
set -eu
action=$1
if [ "$action" = make ]; then
    mkdir -p "$2"
    mount -t tmpfs -o "size=$3,mode=755" tmpfs "$2"
fi
cd "$2" # so that no sign in the folder's name can part mount's options
if [ "$action" = make ]; then
    mkdir root upper work
    for part in dev home mnt proc root run srv sys tmp; do
        mkdir "root/$part"
    done
    chmod 1777 root/tmp
    chmod 700 root/root
fi
for part in usr etc var opt bin sbin lib lib32 lib64 libx32; do
    if [ "$action" = make ] && [ -L "/$part" ]; then
        cp -P "/$part" "root/$part"
    elif [ "$action" = make ] && [ -d "/$part" ]; then
        mkdir "root/$part" "upper/$part" "work/$part"
    elif [ "$action" = cover ] && [ -d "upper/$part" ]; then
        mount -t overlay overlay \
            -o "lowerdir=/$part,upperdir=upper/$part,workdir=work/$part$4" "root/$part"
    fi
done
if [ "$action" = cover ]; then
    # The machine's own logs and further server settings are not this host's.
    rm -f root/var/log/nginx/*.log* root/etc/ssh/sshd_config.d/* 2>/dev/null || true
fi
