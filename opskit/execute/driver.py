"""What the executor needs of those who act: `opskit.drivers.Targets` is the real one."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeAlias

from opskit.execute.journal import Stream
from opskit.model.job import Job, Output

Write: TypeAlias = Callable[[Stream, bytes], None]


class Contact(Protocol):
    """What the first contact of a run with a target said."""

    @property
    def nonce(self) -> str: ...
    @property
    def boot_id(self) -> str: ...
    @property
    def state_dir(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def address(self) -> str: ...


class Driver(Protocol):
    """Acts on targets. Called from many threads, one at a time for each target."""

    def open(self, host: str, *, writes: bool) -> Contact:
        """Connect to a target; without `writes` nothing is created there.

        Raises UnreachableError, which says why.
        """

    def perform(self, job: Job, write: Write) -> Output:
        """Do a job once. What goes wrong outside is in the output, never raised."""

    def probe(self, job: Job) -> Output:
        """Look at what an upload would meet; creates nothing."""

    def stop(self, grace: float) -> Mapping[str, str]:
        """End what runs now; action key → confirmed gone, still there, can't tell."""

    def close(self, keep: Collection[str] = ()) -> None:
        """Remove the run's traces except on the hosts in `keep`, and disconnect."""
