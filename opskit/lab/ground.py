"""What hosts stand on: namespaces of their own, or folders of one machine.

A ground is a module with the functions of this Protocol; everything above asks only for these.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from opskit.lab import isolated, shared
from opskit.lab.layout import Host, Layout
from opskit.lab.processes import Process


class Ground(Protocol):
    """How hosts are made, started, entered and ended on one kind of machine."""

    def start_keeper(self, layout: Layout, holder: int) -> None:
        """Start the process that holds what belongs to all hosts, and `holder` with it."""

    def prepare(self, layout: Layout, host: Host, key: tuple[bytes, bytes]) -> None:
        """Give a host its files."""

    def boot(self, layout: Layout, host: Host) -> None:
        """Start a host's processes; returns before they answer."""

    def halt(self, layout: Layout, host: Host) -> None:
        """Cut the power; every process of the host is gone when this returns."""

    def first_process(self, layout: Layout, host: Host) -> Process | None:
        """The process that the host lives and dies with, or None while it is down."""

    def members(self, layout: Layout, host: Host) -> tuple[int, ...]:
        """The pids of all processes of a host, oldest first."""

    def root(self, layout: Layout, host: Host) -> Path:
        """Where this machine sees the host's /."""

    def files(self, layout: Layout, host: Host) -> Path:
        """Where this machine sees the host's disk, whether the host is up or not."""

    def enter(self, layout: Layout, host: Host, user: str | None) -> list[str]:
        """The words that run a command on a host; raises OpskitError when it is down."""

    def overrides(self, layout: Layout, host: Host) -> Mapping[str, object]:
        """Keys of the host in the inventory, beyond its address."""

    def written(self, layout: Layout, host: Host) -> tuple[tuple[str, Path], ...]:
        """The folders that hold all that was ever written on the host, each with its prefix."""


def of(layout: Layout) -> Ground:
    """The ground that a lab was built on."""
    return isolated if layout.isolated else shared
