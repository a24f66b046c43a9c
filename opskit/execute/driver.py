"""What the executor needs of those who act: `opskit.drivers.Targets` is the real one."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeAlias

from opskit.execute.journal import Stream
from opskit.model.job import Contact, Job, Output

Write: TypeAlias = Callable[[Stream, bytes], None]


class Driver(Protocol):
    """Acts on targets. Called from many threads, one at a time for each target."""

    def open(self, host: str, *, writes: bool, become: str | None = None) -> Contact:
        """Connect to a target, as a user by sudo if asked; without `writes` it creates nothing.

        Raises UnreachableError, which says why.
        """

    def perform(self, job: Job, write: Write) -> Output:
        """Do a job once. What goes wrong outside is in the output, never raised."""

    def rejoin(self, job: Job, write: Write, left: float) -> Output:
        """Find a change that was sent and lost from sight, and follow it to its end.

        Its output is told from the beginning. After `left` seconds it is out of time. It is never
        started by this; `Output.again` says that it was not and never will be, `Output.lost` that
        the target could not be asked.
        """

    def probe(self, job: Job) -> Output:
        """Look at what an upload would meet; creates nothing."""

    def stop(self, grace: float) -> Mapping[str, str]:
        """End what runs now; action key → confirmed gone, still there, can't tell."""

    def end(self, why: Mapping[tuple[str, int], str], grace: float) -> None:
        """End attempts that still run (action key, number → why); their output says how it went."""

    def close(
        self, keep: Collection[str] = (), *, unread: Collection[str] = (), over: bool = True
    ) -> None:
        """Remove the run's traces except on the hosts in `keep`, and disconnect.

        `unread`: where what commands have printed is not recorded; `over`: the run has ended.
        """
