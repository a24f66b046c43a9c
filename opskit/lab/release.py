"""Releases of the practice service, as the tarballs that a deploy ships."""

import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from opskit.errors import InputError, writing

PROGRAM = ("app.py", "websocket.py")
FAULTS = ("unhealthy", "slow", "errors", "crash", "wrong-release")
BUILT = 1_700_000_000  # one time for all files: the same release has the same digest everywhere


def data(name: str) -> bytes:
    """A file that ships with the lab."""
    return resources.files("opskit.lab").joinpath("data", name).read_bytes()


def check(name: str) -> None:
    """Raise InputError for what can't be a release's id."""
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", name):
        raise InputError(
            f"no release id: {name!r}",
            hint="a letter or digit, then up to 63 of letters, digits, dot, dash, underscore",
        )


def files(name: str, fault: str | None = None) -> Mapping[str, bytes]:
    """The files of a release: its program, its id, and what is wrong with it, if anything."""
    check(name)
    if fault is not None and fault not in FAULTS:
        raise InputError(f"no fault {fault!r}", hint=f"there are {', '.join(FAULTS)}")
    content = {"RELEASE": f"{name}\n".encode()} | {file: data(file) for file in PROGRAM}
    return content | ({"FAULT": f"{fault}\n".encode()} if fault else {})


def write(name: str, path: Path, fault: str | None = None) -> Path:
    """Write a release's tarball (.tar.gz, files at its top) to `path`."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=BUILT) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file, content in sorted(files(name, fault).items()):
            entry = tarfile.TarInfo(file)
            entry.size, entry.mtime, entry.mode = len(content), BUILT, 0o644
            archive.addfile(entry, io.BytesIO(content))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed.getvalue())
    return path
