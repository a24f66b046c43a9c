"""What file system a store is on."""

from pathlib import Path

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs"})


def network_warning(path: Path) -> tuple[str, ...]:
    """Warn where several machines could see the file: SQLite's locks don't reach across them."""
    kind = file_system(path.absolute().parent)
    if kind not in NETWORK and not kind.startswith("fuse."):
        return ()
    what = f"the store {path} is on a network file system ({kind})"
    return (f"{what}: use it from one machine only, or name a local file in OPSKIT_STORE",)


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, as Linux names it."""
    found = ("", "")
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if folder.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, right.split()[0])
    return found[1]
