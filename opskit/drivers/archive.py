"""Archives before they are sent: what is in them, and whether it may be unpacked."""

import hashlib
import posixpath
import tarfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from opskit.errors import InputError
from opskit.model.frozen import frozen

_CHUNK = 1024 * 1024


@frozen
class Tree:
    """What an archive unpacks to. `manifest` is the digest that `install.sh` reckons of it."""

    manifest: str
    files: int
    size: int


@dataclass(slots=True)
class _Found:
    folders: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bool]] = field(default_factory=dict)
    size: int = 0


_lock = threading.Lock()
_trees: dict[tuple[str, str], Tree] = {}


def inspect(path: Path, sha256: str) -> Tree:
    """Read an archive once per content; InputError for one that must not be unpacked."""
    with _lock:
        known = _trees.get((str(path), sha256))
        if known is None:
            known = _trees[str(path), sha256] = _inspect(path)
        return known


def _inspect(path: Path) -> Tree:
    found = _Found()
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                _take(archive, member, found, str(path))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"it can't be read as an archive ({error})",
            where=str(path),
            hint="give a tar file, plain or compressed with gzip, bzip2 or xz",
        ) from None
    return Tree(manifest=_manifest(found), files=len(found.files), size=found.size)


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, found: _Found, where: str) -> None:
    name = _inside(member.name, where, "is outside of the tree")
    if not name:
        return
    _forget(found, name)
    for parent in _parents(name):
        if parent in found.links:
            raise _refused(where, member.name, f"goes through the link {parent}")
        found.folders.add(parent)
    if member.isdir():
        found.folders.add(name)
    elif member.issym():
        _inside(
            posixpath.join(posixpath.dirname(name), member.linkname),
            where,
            f"is the target of the link {name}, outside of the tree",
        )
        found.links[name] = member.linkname
    elif member.islnk():
        target = _inside(
            member.linkname, where, f"is what {name} is linked to, outside of the tree"
        )
        if target not in found.files:
            raise _refused(where, name, f"is a hard link to {target}, which is not a file in it")
        found.files[name] = found.files[target]
    elif member.isreg():
        found.files[name] = (_digest(archive, member), bool(member.mode & 0o100))
        found.size += member.size
    else:
        raise _refused(where, name, "is a device or a pipe")


def _forget(found: _Found, name: str) -> None:
    """The last member of a name is the one that stays."""
    found.links.pop(name, None)
    found.files.pop(name, None)


def _inside(name: str, where: str, what: str) -> str:
    """Return the normal form of a path in the tree; "" for the tree itself."""
    if "\n" in name or "\\" in name:
        raise _refused(where, repr(name), "has a line break or a backslash in it")
    if name.startswith("/"):
        raise _refused(where, name, what)
    short = posixpath.normpath(name)
    if short == ".." or short.startswith("../") or _dips(name):
        raise _refused(where, name, what)
    return "" if short == "." else short


def _dips(name: str) -> bool:
    """Whether the path leaves the tree on its way, even if it comes back."""
    depth = 0
    for part in name.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _refused(where: str, name: str, what: str) -> InputError:
    return InputError(
        f"it must not be unpacked: {name} {what}",
        where=where,
        hint="build the archive from inside its folder: tar -C FOLDER -czf FILE .",
    )


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    assert content is not None
    with content:
        known = hashlib.sha256()
        while data := content.read(_CHUNK):
            known.update(data)
        return known.hexdigest()


def _manifest(found: _Found) -> str:
    lines = [f"d ./{name}" for name in found.folders]
    lines += [f"l ./{name} -> {target}" for name, target in found.links.items()]
    lines += [f"{known}  ./{name}" for name, (known, _) in found.files.items()]
    lines += [f"x ./{name}" for name, (_, runs) in found.files.items() if runs]
    encoded = sorted(line.encode("utf-8", "surrogateescape") for line in lines)
    return hashlib.sha256(b"".join(line + b"\n" for line in encoded)).hexdigest()
