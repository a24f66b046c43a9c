"""How a run came out: each host, the run as a whole, the exit status."""

from collections.abc import Collection, Iterator, Mapping

from opskit.errors import Exit
from opskit.execute.book import Book
from opskit.execute.fall import struck, verdict
from opskit.model.frozen import frozen
from opskit.model.plan import Action, Plan
from opskit.model.run import HostState
from opskit.model.states import RunState
from opskit.plan import ALWAYS, acts, changes, standing
from opskit.steps.health import is_check

WORST: tuple[HostState, ...] = ("undo failed", "unknown", "undone", "unreachable", "failed")
"""Ways to fall out of a run: where there are several, the first is what a host is called."""


@frozen
class Ending:
    """Judges a run by its book. `stuck`: hosts that an undo could not take back."""

    plan: Plan
    book: Book
    stuck: Collection[str] = ()

    def hosts(self) -> Mapping[str, HostState]:
        """Return how each host came out."""
        missing = {a.host for a in self._own() if self.book.state(a) == "planned"}
        begun = {a.host for a in self.plan.actions if a.batch >= 0 and self._acted(a)}
        left: dict[str, HostState] = {h: "begun" if h in begun else "not started" for h in missing}
        fallen = self._fallen(spared=missing - begun)
        everyone = (host for batch in self.plan.batches for host in batch)
        return {host: self._host(fallen.get(host, set()), host, left) for host in everyone}

    def _fallen(self, spared: Collection[str]) -> Mapping[str, set[HostState]]:
        """Return in which ways hosts fell out; one where nothing began has only its own falls."""
        fallen: dict[str, set[HostState]] = {host: {"undo failed"} for host in self.stuck}
        for action in self.plan.actions:
            state = self._verdict(action) if action.batch != ALWAYS else None
            for host in struck(self.plan, self.book, action) if state else ():
                if state and (host == action.host or host not in spared):
                    fallen.setdefault(host, set()).add(state)
        return fallen

    def _verdict(self, action: Action) -> HostState | None:
        if any(self.book.state(undo) == "unknown" for undo in action.undo):
            return "unknown"
        return verdict(self.plan, self.book, action)

    def _host(
        self, fallen: Collection[HostState], host: str, left: Mapping[str, HostState]
    ) -> HostState:
        out = host in self.book.excluded
        for state in WORST:
            if state in fallen and not (out and state in ("unreachable", "failed")):
                return state
        if out:
            return "excluded"
        if host in self.book.unreachable:
            return "unreachable"
        return left.get(host, "done")

    def _acted(self, action: Action) -> bool:
        """Tell whether an action was done, however it ended, and still stands."""
        record = self.book.records.get(action.key)
        return record is not None and record.stands not in ("planned", "skipped", "undone")

    def _own(self) -> Iterator[Action]:
        """Yield the main actions that each host has to itself."""
        for action in self.plan.actions:
            if action.batch >= 0 and self.plan.stage(action).scope in ("each", "group"):
                yield action

    def state(self) -> RunState:
        """Return the state of the run, were it to end now."""
        states = set(self.hosts().values())
        if "unknown" in states or ("unreachable" in states and self._checks()):
            return "failed" if self._untouched() else "unknown"
        if states <= {"done"}:
            return "succeeded"
        return "undone" if self._all_undone() else "failed"

    def _checks(self) -> bool:
        """Tell whether the plan asks hosts for their health: no answer is then UNKNOWN."""
        return any(is_check(action.work) for action in self.plan.actions)

    def final(self) -> RunState:
        """Return the state that the run ends in: what went wrong in `always` counts too."""
        state = self.state()
        always = [action for action in self.plan.actions if action.batch == ALWAYS]
        hosts = self.hosts() if always else {}
        late = {
            verdict(self.plan, self.book, action)
            for action in always
            if hosts.get(action.host) != "unreachable"
        }
        if "unknown" in late:
            return "unknown"
        wrong = late - {None} or self._seen()
        return "failed" if wrong and state in ("succeeded", "undone") else state

    def _seen(self) -> bool:
        """Tell whether a run that only looks has found something wrong, though it went on."""
        if any(changes(self.plan, action) for action in self.plan.actions):
            return False
        return any(
            is_check(action.work) and self.book.state(action) == "failed"
            for action in self.plan.actions
        )

    def _all_undone(self) -> bool:
        """Tell whether something was taken back and nothing that the run changed is left."""
        taken = any(
            self.book.state(action) == "undone"
            for action in self.plan.actions
            if action.batch != ALWAYS and changes(self.plan, action)
        )
        return taken and not standing(self.plan, self.book.records)

    def exit(self, state: RunState) -> Exit:
        """Return the exit status that goes with a state."""
        if state in ("failed", "undone") and self._refused():
            return Exit.REFUSED
        match state:
            case "succeeded":
                return Exit.OK
            case "undone":
                return Exit.UNDONE
            case "unknown":
                return Exit.UNKNOWN
            case "waiting":
                return Exit.WAITING
            case _:
                return Exit.FAILED

    def _refused(self) -> bool:
        """Tell whether the run ended before the first change that it had to make.

        Where it had none to make, because nothing of what was asked could be looked at.
        """
        if self._due():
            return self._untouched()
        failed = [one for one in self.book.records.values() if one.state == "failed"]
        return bool(failed) and all(one.refused for one in failed)

    def _untouched(self) -> bool:
        """Tell whether the run had changes to make and has begun none.

        What only prepares does not count, once it is taken back. What could not be looked at then
        refuses the run: nobody has to find out what became of anything.
        """
        due = self._due()
        left = any(
            self._begun(one) and (self._acted(one) or not self.plan.stage(one).prepares)
            for one in due
        )
        return bool(due) and not left

    def _due(self) -> list[Action]:
        """Return the changes that the run has to make; one that was skipped was none."""
        return [
            action
            for action in self.plan.actions
            if action.batch >= 0
            and acts(self.plan, action)
            and (self.book.state(action) != "skipped" or self._begun(action))
        ]

    def _begun(self, action: Action) -> bool:
        record = self.book.records.get(action.key)
        return record is not None and record.begun
