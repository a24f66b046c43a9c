# What runs have left in opskit's directory on a host: a line RUN KIB STATE for each that nothing has
# been written to for some minutes; STATE is busy while a command of that run lives, else idle.
# $1: the directory, as the inventory has it; $2: minutes; then the runs to remove, where they are idle.
# shellcheck disable=SC2088 # the word itself, as the inventory has it
case $1 in '~') dir=$HOME ;; '~/'*) dir=$HOME/${1#??} ;; *) dir=$1 ;; esac
minutes=$2
shift 2
cd -- "$dir/runs" 2>/dev/null || exit 0
for run in *; do
    [ -d "$run" ] || continue
    [ -z "$(find "./$run" -maxdepth 1 -mmin "-$minutes" 2>/dev/null)" ] || continue
    state=idle
    grep -qsF "OPSKIT_ACTION=$run/" /proc/[0-9]*/environ && state=busy
    echo "$run $(du -sk "./$run" | cut -f 1) $state"
    for wanted; do
        if [ "$wanted" = "$run" ] && [ "$state" = idle ]; then rm -rf -- "./$run"; fi
    done
done
