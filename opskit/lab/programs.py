"""The system programs that a lab stands on, and which package has the ones that are missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from opskit.errors import InputError

PACKAGES = {
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "umount": "mount",
    "pivot_root": "util-linux",
    "setsid": "util-linux",
    "setpriv": "util-linux",
    "hostname": "hostname",
    "sudo": "sudo",
}
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
PATH = ":".join(FOLDERS)


def find(name: str) -> str | None:
    """Where a program lies, the administrators' folders included that users lack on their PATH."""
    return shutil.which(name, path=f"{PATH}:{os.environ.get('PATH', '')}")


def need(names: Iterable[str]) -> None:
    """Raise InputError that names every missing program's package at once."""
    missing = [name for name in names if not find(name)]
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        raise InputError(
            f"the lab needs {', '.join(missing)}, which this machine does not have",
            hint=f"install with: {'' if os.geteuid() == 0 else 'sudo '}apt-get install {packages}",
        )


def program(name: str) -> str:
    """The program's path; raises InputError with the package to install."""
    need([name])
    return find(name) or name


def run(
    words: Sequence[str | Path], *, timeout: float = 30, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with a plain environment; its output is kept, never raised on."""
    return subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        env=plain_environment() if env is None else env,
    )


def plain_environment() -> dict[str, str]:
    """What a machine's boot gives to its first process; nothing of the caller's leaks in."""
    return {"PATH": PATH, "LC_ALL": "C.UTF-8"}


def host_python() -> str:
    """A Python that other users may run too; one in a person's home is out of their reach."""
    for folder in FOLDERS:
        candidate = Path(folder) / "python3"
        if candidate.exists() and _new_enough(candidate):
            return str(candidate)
    return sys.executable


def _new_enough(python: Path) -> bool:
    test = "import sys; sys.exit(sys.version_info < (3, 10))"
    return run([python, "-IS", "-c", test]).returncode == 0
