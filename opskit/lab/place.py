"""Where the lab's PostgreSQL and Redis keep their files, and whom they run as.

PostgreSQL refuses to be root. Root's lab therefore runs it as nobody, who may not even look into
most folders of root's: its files lie in /tmp then, and a link in the lab's folder leads there.
"""

import os
import pwd
import secrets
import shutil
import stat
from pathlib import Path

from opskit.lab import programs

NAME = "servers"
OUTSIDE = Path("/tmp")


def of(folder: Path) -> Path:
    """The folder of the servers' files, or the link that leads to it."""
    return folder / NAME


def make(folder: Path) -> None:
    """Make it; the link comes first, so that nothing is left that no link leads to."""
    place = of(folder)
    if os.geteuid() == 0:
        outside = OUTSIDE / f"opskit-lab.{secrets.token_hex(6)}"
        place.symlink_to(outside)
        outside.mkdir(mode=0o711)
        outside.chmod(0o711)
    else:
        place.mkdir(mode=0o700)


def remove(folder: Path) -> None:
    """Remove it with all that is in it; somebody else's link is only cut."""
    place = of(folder)
    if place.is_symlink():
        outside = place.readlink()
        mine = place.lstat().st_uid == os.geteuid() and outside.parent == OUTSIDE
        if mine and outside.exists() and stat.S_ISDIR(outside.lstat().st_mode):
            shutil.rmtree(outside)
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def folder_for(folder: Path, name: str) -> Path:
    """A new folder in it for one server, which belongs to whom the server runs as."""
    made = of(folder).resolve() / name
    made.mkdir(mode=0o700)
    give(made)
    return made


def give(path: Path) -> None:
    """Hand a file or folder over to whom the servers run as."""
    if os.geteuid() == 0:
        account = _nobody()
        os.chown(path, account.pw_uid, account.pw_gid)


def words() -> list[str]:
    """What stands before a server's command."""
    if os.geteuid() != 0:
        return []
    account = _nobody()
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [programs.program("setpriv"), *ids]


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def reachable(folder: Path, package: Path, program: str, beside: tuple[str, ...] = ()) -> Path:
    """A package's folder that the servers' account can run `program` in, copied if need be.

    `beside` names folders next to it that belong to it.
    """
    # Not by running it: setpriv finds a program as root, which then finds none of its files.
    look = [*words(), "/bin/sh", "-c", 'test -x "$1"', "sh", str(package / program)]
    if os.geteuid() != 0 or programs.run(look).returncode == 0:
        return package
    programs_of = of(folder).resolve() / "programs"
    for part in (package, *(package.parent / name for name in beside)):
        if part.exists():
            shutil.copytree(part, programs_of / part.name, copy_function=_link_or_copy)
    return programs_of / package.name


def _link_or_copy(source: str, target: str) -> str:
    """A second name for a file costs nothing, where both lie on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
