# What the texts that steer a balancer share.
#
# shellcheck shell=sh disable=SC2034,SC2154

export LC_ALL=C
tab=$(printf '\t')
why='' now=0 note='' stale='' long='' staying=0

refuse() {
  printf 'refused, nothing changed: %s\n' "$1" >&2
  exit 3
}

say() { printf '%s\n' "$1"; }

# Sets now: hundredths of a second since boot, without a fork.
tick() {
  read -r now _ </proc/uptime
  now=$((${now%.*} * 100 + 1${now#*.} - 100))
}

seconds() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }

plural() { if [ "$1" -ne 1 ]; then printf s; fi; }

# Holds a directory for this process alone, which gives it back when it ends. Whoever may read it
# can, so it is one lock for all users.
take_lock() {
  command -v flock >/dev/null || refuse "this host has no flock (package util-linux)"
  tick
  deadline=$((now + lock_timeout * 100))
  [ -r "$1/." ] || refuse "$1 can't be read to lock it; is it there, and may $(id -un) read it?"
  exec 9<"$1/."
  until flock -n 9; do
    tick
    [ "$now" -lt "$deadline" ] || refuse "another change of $1 has held its lock for $lock_timeout s"
    sleep 0.1
  done
}

make_durable() { sync "$@" 2>/dev/null || sync; }
