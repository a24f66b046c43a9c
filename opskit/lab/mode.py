"""Which kind of ground this machine allows, found by trying."""

import os
import pwd
import re
from pathlib import Path

from opskit.errors import InputError
from opskit.lab import isolated, programs, release, shared
from opskit.lab.layout import Mode

LONGEST = 60  # of a folder's name; a socket's is 107 at the most, and some stand behind it


def choose(folder: Path, wanted: Mode | None, *, balancers: bool) -> tuple[Mode, str]:
    """The mode for a lab, and the reason where it is less than one might hope for.

    Raises InputError when programs are missing or the wanted mode is not possible here.
    """
    extra = ("nginx",) if balancers else ()
    best = Mode.NAMESPACES if os.geteuid() == 0 else Mode.USER_NAMESPACES
    if wanted in (None, best):
        sudo = ("sudo",) if best is Mode.NAMESPACES else ()
        programs.need((*isolated.NEEDED, *extra, *sudo))
        refusal = probe(folder, best)
        if not refusal:
            return best, ""
        if wanted:
            raise InputError(f"{wanted} are not possible here: {refusal}")
        return Mode.SHARED, f"this machine does not allow {best}: {refusal}"
    if wanted is Mode.SHARED:
        programs.need((*shared.NEEDED, *extra))
        return Mode.SHARED, "asked for"
    raise InputError(f"{wanted} is not for this user", hint=f"leave it out, or take {best}")


def probe(folder: Path, mode: Mode) -> str:
    """Why this mode is not possible here, or nothing when it is."""
    unshare = [programs.program("unshare"), "--mount", "--pid", "--uts", "--ipc", "--fork"]
    back = []
    if mode is Mode.USER_NAMESPACES:
        unshare += ["--user", "--map-root-user"]
        back = [programs.program("unshare"), "--user", f"--map-user={os.geteuid()}"]
        back += [f"--map-group={os.getegid()}"]
    # As text and on the lab's own folder: a probe that is killed leaves no file.
    script = release.data("probe.sh").decode()
    words = [*unshare, "--propagation", "private", "/bin/sh", "-c", script, "probe.sh", str(folder)]
    tried = programs.run([*words, isolated.overlay_options(mode), *back])
    return tried.stderr.strip().replace("\n", "; ") if tried.returncode else ""


def no_haproxy(mode: Mode, folder: Path) -> str:
    """Why there is no HAProxy in a lab, or nothing where there can be one."""
    if not programs.find("haproxy"):
        return "not installed: apt-get install haproxy"
    if mode is Mode.SHARED and len(str(folder)) > LONGEST:
        return "the name of the lab's folder is too long for its socket"
    if mode is Mode.SHARED and (odd := re.search(r"[^\w/.,:=@+~-]", str(folder))):
        return f"the name of the lab's folder has {odd[0]!r} in it"
    return ""


def login(mode: Mode) -> tuple[str, int, int, str]:
    """Who logs in to hosts: name, uid, gid, home."""
    if mode is Mode.NAMESPACES:
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        uid = next(number for number in range(2001, 60000) if number not in taken)
        return "ops", uid, uid, "/home/ops"
    try:
        me = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise InputError(
            f"uid {os.geteuid()} has no name on this machine, and sshd refuses such users",
            hint="run the lab as a user with a line in /etc/passwd",
        ) from None
    return me.pw_name, me.pw_uid, me.pw_gid, me.pw_dir
