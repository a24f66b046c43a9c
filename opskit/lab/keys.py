"""Keys of a lab: one for the client, one for each host, made new each time."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opskit.errors import OpskitError
from opskit.lab import address, programs
from opskit.lab.layout import Layout


def make(layout: Layout) -> Mapping[str, tuple[bytes, bytes]]:
    """Write the client's key and known_hosts; returns each host's private and public key."""
    folder = layout.folder / "keys"
    names = [host.name for host in layout.hosts]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_generate, [layout.key, *(folder / name for name in names)]))
    pairs = {
        name: ((folder / name).read_bytes(), (folder / f"{name}.pub").read_bytes())
        for name in names
    }
    lines = [
        b"[%s]:%d %s" % (host.address.encode(), address.SSH, pairs[host.name][1])
        for host in layout.hosts
    ]
    layout.known_hosts.write_bytes(b"".join(lines))
    return pairs


def _generate(path: Path) -> None:
    words = ["-q", "-t", "ed25519", "-N", "", "-C", f"opskit-lab-{path.name}", "-f", str(path)]
    made = programs.run([programs.program("ssh-keygen"), *words])
    if made.returncode:
        raise OpskitError(f"ssh-keygen failed: {made.stderr.strip()}", where=str(path))
