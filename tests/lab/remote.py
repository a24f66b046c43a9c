"""How tests get into practice hosts, and what they look for outside."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab import processes


def ssh_words(lab: labs.Lab, host: str, command: str) -> list[str]:
    options = {
        "UserKnownHostsFile": lab.folder / "known_hosts",
        "IdentityFile": lab.folder / "id_ed25519",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": 2,
        "IdentitiesOnly": "yes",
    }
    words = [word for name, value in options.items() for word in ("-o", f'{name}="{value}"')]
    login = f"{lab.layout.user}@{lab.layout.host(host).address}"
    return ["ssh", "-F", "/dev/null", "-p", "2222", *words, login, command]


def ssh(lab: labs.Lab, host: str, command: str) -> subprocess.CompletedProcess[str]:
    words = ssh_words(lab, host, command)
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


def told(lab: labs.Lab, host: str, *argv: str, user: str | None = None) -> str:
    done = lab.exec(host, argv, user=user)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def only_isolated(lab: labs.Lab) -> None:
    if not lab.layout.isolated:
        pytest.skip("hosts share this machine's files and processes")


def service_answers(lab: labs.Lab, host: str) -> bool:
    try:
        with socket.create_connection((lab.layout.host(host).address, 8000), 0.5) as peer:
            peer.settimeout(0.5)
            peer.sendall(b"GET /alive/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return peer.recv(12) == b"HTTP/1.1 200"
    except OSError:
        return False


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def leftovers(folder: Path) -> list[str]:
    """Whatever still speaks of a lab's folder: processes, mounts, files."""
    found = [f"process {pid}" for pid in processes.marked(folder)]
    for pid in processes.every():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and "pytest" not in words:
            found.append(f"process {pid}: {words}")
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    found += [line for line in mounts.splitlines() if str(folder) in line]
    return [*found, *map(str, folder.rglob("*"))]
