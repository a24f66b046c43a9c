# sh keeper.sh FOLDER: hold the mounts of a lab, in a mount namespace of its own, until killed.
set -eu
mkdir -p "$1/disk"
: >"$1/run/keeper.ready"
exec sleep infinity
