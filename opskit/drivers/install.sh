# What opskit does on a host to put a file or a tree in its place, and to take it back. Run as a
# change of its own (take, tree, back) or as a read (look); the first word says which.
#
# What it found and did stands on standard output, a name and a value on each line. What undo needs
# stands in files beside the prefix `keep`: .new (there was nothing), .file (what stood there), .tree
# (which directory was made), .sum (what was put there).

say() { printf '%s %s\n' "$1" "$2"; }

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

sum() {
  set -- "$(sha256sum <"$1")"
  printf '%s\n' "${1%% *}"
}

# One digest over what is in a directory: folders, links with their targets, contents, which files
# can be executed. opskit reckons the same from an archive.
manifest() (
  cd -- "$1" || exit 1
  {
    find . ! -name . -type d -exec printf 'd %s\n' {} +
    find . -type l -exec sh -c 'for l; do printf "l %s -> %s\n" "$l" "$(readlink "$l")"; done' sh {} +
    find . -type f -exec sha256sum {} +
    find . -type f -perm -100 -exec printf 'x %s\n' {} +
    find . ! -type d ! -type l ! -type f -exec printf '? %s\n' {} +
  } | LC_ALL=C sort | sum /dev/stdin
)

room() {
  (umask 077; mkdir -p -- "${1%/*}")
}

remember() { (umask 077; printf '%s\n' "$2" >"$1.part" && mv -f -- "$1.part" "$1"); }

# dest temp sha256 mode keep: the file `temp` (1: standard input) becomes `dest`.
take() {
  dest=$1 temp=$2 want=$3 mode=$4 keep=$5
  trap 'rm -f -- "$temp"' EXIT
  trap 'exit 143' HUP INT TERM
  if [ "$6" = 1 ]; then
    rm -f -- "$temp"
    (umask 077; set -C; cat >"$temp")
  fi
  [ "$(sum "$temp")" = "$want" ] || fail "what arrived is not what was sent (SHA-256)"
  [ ! -L "$dest" ] || fail "$dest is a link to $(readlink "$dest"): give the path of the file itself"
  room "$keep"
  if [ -e "$dest" ]; then
    replace
  else
    [ -e "$keep.file" ] || remember "$keep.new" -
    chmod -- "${mode:-$(printf '%o' $((0666 & ~0$(umask))))}" "$temp"
    say created yes
  fi
  remember "$keep.sum" "$want"
  sync "$temp" 2>/dev/null || :
  mv -f -- "$temp" "$dest"
  say changed yes
}

replace() {
  [ -f "$dest" ] || fail "$dest is there and is not a file"
  before=$(sum "$dest")
  have=$(stat -c %a -- "$dest")
  say before "$before"
  say created no
  if [ "$before" = "$want" ] && { [ -z "$mode" ] || [ "$((0$have))" = "$((0$mode))" ]; }; then
    say changed no
    exit 0
  fi
  # The first attempt saw what stood there; what a later one sees may be the first one's work.
  if [ ! -e "$keep.file" ] && [ ! -e "$keep.new" ]; then
    (umask 077; cp -p -- "$dest" "$keep.part" && mv -f -- "$keep.part" "$keep.file")
  fi
  [ "$(id -u)" != 0 ] || chown -- "$(stat -c %u:%g -- "$dest")" "$temp"
  chmod -- "${mode:-$have}" "$temp"
}

# dest archive sha256 manifest keep partial: the archive's tree becomes the directory `dest`.
tree() {
  dest=$1 archive=$2 want=$4 keep=$5 partial=$6
  trap 'rm -rf -- "$archive" "$partial"' EXIT
  trap 'exit 143' HUP INT TERM
  if [ -e "$dest" ] || [ -L "$dest" ]; then
    if [ -L "$dest" ] || ! [ -d "$dest" ] || [ "$(manifest "$dest")" != "$want" ]; then
      fail "$dest is there already and is not the tree of this archive"
    fi
    say created no
    exit 0
  fi
  [ "$(sum "$archive")" = "$3" ] || fail "what arrived is not what was sent (SHA-256)"
  rm -rf -- "$partial"
  mkdir -- "$partial"
  tar -x -p -o -f "$archive" -C "$partial"
  [ "$(manifest "$partial")" = "$want" ] || fail "the host's tar made another tree than expected"
  room "$keep"
  remember "$keep.tree" "$(stat -c %d:%i -- "$partial")"
  mv -T -- "$partial" "$dest"
  say created yes
}

# dest keep temp: put back what stood at `dest`, or remove it if this run made it.
back() {
  dest=$1 keep=$2 temp=$3
  if [ -e "$keep.tree" ]; then
    if [ -e "$dest" ] || [ -L "$dest" ]; then
      if [ -L "$dest" ] || [ "$(stat -c %d:%i -- "$dest")" != "$(cat "$keep.tree")" ]; then
        fail "$dest is no longer the directory that this run made; it was left as it is"
      fi
      rm -rf -- "$temp"
      mv -T -- "$dest" "$temp"
      say removed yes
    fi
    rm -rf -- "$temp"
  elif [ -e "$keep.file" ] || [ -e "$keep.new" ]; then
    whole
  fi
  rm -f -- "$keep.tree" "$keep.file" "$keep.new" "$keep.sum"
}

whole() {
  now=-
  if [ -L "$dest" ] || [ -d "$dest" ]; then
    fail "$dest is no longer the file that this run put there; it was left as it is"
  fi
  [ ! -e "$dest" ] || now=$(sum "$dest")
  put=$(cat "$keep.sum" 2>/dev/null) || put=
  if [ -e "$keep.file" ]; then
    before=$(sum "$keep.file")
    [ "$now" = "$put" ] || [ "$now" = "$before" ] ||
      fail "$dest was changed by somebody else since; it was left as it is"
    cp -p -- "$keep.file" "$temp"
    mv -f -- "$temp" "$dest"
    say restored yes
  elif [ "$now" != - ]; then
    [ "$now" = "$put" ] || fail "$dest was changed by somebody else since; it was left as it is"
    rm -f -- "$dest"
    say removed yes
  fi
}

# dest unpack limit: what stands at `dest`; the last line is followed by its content.
look() {
  if [ -L "$1" ]; then
    say link "$(readlink "$1")"
  elif [ -d "$1" ]; then
    say directory yes
    [ "$2" = 0 ] || say manifest "$(manifest "$1")"
  elif [ -e "$1" ]; then
    [ -f "$1" ] || fail "$1 is there and is not a file"
    size=$(stat -c %s -- "$1")
    say sha256 "$(sum "$1")"
    say mode "$(stat -c %a -- "$1")"
    say size "$size"
    if [ "$size" -le "$3" ]; then
      say content yes
      cat -- "$1"
    fi
  else
    say nothing yes
  fi
}

"$@"
