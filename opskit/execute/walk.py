"""Waves of actions: all hosts of a step at once, one after another on the same target."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby

from opskit.execute.attempt import Attempt, Ready, for_all
from opskit.model.plan import Action, Plan
from opskit.model.run import HostState
from opskit.model.runbook import OnFailure
from opskit.model.value import Json
from opskit.model.work import Ask, Wait


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a run waits for: the action (None: the run as a whole), why, the words, the choices."""

    action: Action | None
    why: str
    text: str
    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fall:
    """How a host fell out of the run, and what its rules say about that."""

    state: HostState
    policy: OnFailure


class Walk:
    """Goes through the waves of one plan and keeps who fell out on the way."""

    def __init__(self, plan: Plan, attempt: Attempt, pool: ThreadPoolExecutor) -> None:
        self.plan = plan
        self.attempt = attempt
        self.book = attempt.book
        self.pool = pool
        self.fallen: dict[str, Fall] = {}
        self._struck: set[str] = set()
        self.question: Question | None = None
        self.everyone = tuple(host for batch in plan.batches for host in batch)

    @property
    def stopped(self) -> bool:
        return self.attempt.outside.stop.pressed

    @property
    def tripped(self) -> bool:
        """Tell whether more hosts fell out than the budget of the run allows."""
        return len(self.fallen) > self.plan.max_failures

    @property
    def halted(self) -> bool:
        """Tell whether nothing new may start."""
        return self.stopped or self.tripped or self.question is not None

    def go(self, actions: Sequence[Action]) -> None:
        """Perform actions wave by wave until they are done or nothing new may start."""
        for wave in waves(actions):
            if self.halted:
                return
            self._wave(wave)

    def _wave(self, wave: Sequence[Action]) -> None:
        chosen = self._chosen(wave)
        self._settle(chosen)
        if self.halted:
            return
        todo = [a for a in chosen if self._due(a)]
        asks = [a for a in todo if isinstance(a.work, Ask)]
        if asks:
            self._ask(asks)
            return
        self._perform(todo)
        self._settle(chosen)

    def _chosen(self, wave: Sequence[Action]) -> list[Action]:
        """Pick one candidate of a step that runs once: the one begun, else the first alive."""
        if self.plan.stage(wave[0]).scope not in ("once", "batch"):
            return list(wave)
        begun = [a for a in wave if self.book.state(a) != "planned"]
        hosts = [a.host for a in (begun or wave) if begun or self._lives(a)]
        return [a for a in wave if hosts and a.host == hosts[0]]

    def _lives(self, action: Action) -> bool:
        if action.host:
            return action.host not in self.fallen
        return any(host not in self.fallen for host in self._hosts(action))

    def _hosts(self, action: Action) -> Sequence[str]:
        """Return the hosts that an action concerns: its own, or all of its batch."""
        if action.host and not for_all(action, self.plan.stage(action)):
            return (action.host,)
        return self.plan.batches[action.batch] if action.batch >= 0 else self.everyone

    def _due(self, action: Action) -> bool:
        state = self.book.state(action)
        again = state == "started" and self._harmless(action)
        return self._lives(action) and (state == "planned" or again)

    def _harmless(self, action: Action) -> bool:
        """Tell whether an action whose outcome is missing may simply be done again."""
        return isinstance(action.work, Wait) or self.plan.stage(action).effect == "read"

    # --- performing ---

    def _perform(self, todo: Sequence[Action]) -> None:
        """Perform actions on all targets at once; starts that can share a commit do."""
        chains = [list(chain) for chain in _by_target(todo)]
        ready = [self._start(chain[0]) for chain in chains]
        first = [one for one in ready if isinstance(one, Ready)]
        self.attempt.post(*(event for one in first for event in self.attempt.start_of(one)))
        work = [
            self.pool.submit(self._chain, chain, first)
            for chain, first in zip(chains, ready, strict=True)
            if first is not None
        ]
        _finish(work)

    def _start(self, action: Action) -> Ready | bool | None:
        """Make an action ready whose target is open already. True: it has to look outside first."""
        if action.skip_if is not None or action.target not in self.attempt.opened:
            return True
        ready = self.attempt.consider(action)
        return ready if ready is not None else True

    def _chain(self, chain: Sequence[Action], first: Ready | bool | None) -> None:
        """Perform the actions of one target, one after another, unless the run is to halt."""
        if isinstance(first, Ready):
            self.attempt.perform(first)
            self._strike(first.action)
            chain = chain[1:]
        for action in chain:
            if self.stopped or self._spent() or action.target in self.book.unreachable:
                return
            if self.book.state(action) in ("planned", "started"):
                self.attempt.carry_out(action)
                self._strike(action)

    def _spent(self) -> bool:
        """Tell, in the middle of a wave, whether the hosts that fell so far are too many."""
        return len(self._struck | self.fallen.keys()) > self.plan.max_failures

    def _strike(self, action: Action) -> None:
        """Remember at once that a host failed, so that chains of the same wave may halt."""
        policy = self.plan.stage(action).on_failure or self.plan.on_failure
        bad = self.book.state(action) in ("failed", "unknown") and policy != "continue"
        if bad or action.target in self.book.unreachable:
            self._struck |= set(self._hosts(action))

    # --- what follows from outcomes ---

    def _settle(self, wave: Sequence[Action]) -> None:
        """Draw the consequences of how the actions of a wave stand."""
        for action in wave:
            state = self.book.state(action)
            if state == "started" and not self._harmless(action) and self._lives(action):
                self.attempt.lose(action)
                state = "unknown"
            if state == "planned":
                self._unreached(action)
            elif state == "failed":
                self._failed(action)
            elif state == "unknown":
                self._unknown(action)
            elif state in ("undone", "undo failed"):
                self._fall(action, "undone" if state == "undone" else "undo failed", "stop")

    def _unreached(self, action: Action) -> None:
        if action.target in self.book.unreachable:
            policy = self.plan.stage(action).on_failure or self.plan.on_failure
            self._fall(action, "unreachable", "stop" if policy == "ask" else policy)

    def _failed(self, action: Action) -> None:
        stage = self.plan.stage(action)
        policy = stage.on_failure or self.plan.on_failure
        if policy == "continue":
            return
        record = self.book.records[action.key]
        decided = "choice" in record.data
        if policy == "ask" and not decided:
            reason = str(record.data.get("reason") or f"exit status {record.data.get('status')}")
            self._hold(
                Question(
                    action=action,
                    why="failed",
                    text=f"{stage.name} failed on {record.host}: {reason}",
                    choices=("retry", "skip", "failed", "abort"),
                )
            )
            return
        lost = record.data.get("unreachable") is True
        self._fall(
            action, "unreachable" if lost else "failed", "stop" if policy == "ask" else policy
        )

    def _unknown(self, action: Action) -> None:
        """Settle an unknown outcome by `done_when`, by the step's rule, or by asking."""
        stage = self.plan.stage(action)
        if action.host in self.fallen or self.attempt.settled(action):
            if self.book.state(action) == "failed":
                self._failed(action)
            return
        if stage.on_unknown == "fail":
            policy = stage.on_failure or self.plan.on_failure
            self._fall(action, "unknown", "stop" if policy == "ask" else policy)
        elif stage.on_unknown == "retry" and stage.repeatable and self.book.attempt(action) < 3:
            self.attempt.carry_out(action)
            self._settle([action])
        else:
            record = self.book.records[action.key]
            self._hold(
                Question(
                    action=action,
                    why="unknown",
                    text=f"Nobody knows whether {stage.name!r} happened on {record.host}: "
                    f"{record.data.get('reason', '')}",
                    choices=("done", "failed", "retry", "abort"),
                )
            )

    def _fall(self, action: Action, state: HostState, policy: OnFailure) -> None:
        for host in self._hosts(action):
            self.fallen.setdefault(host, Fall(state=state, policy=policy))

    def _ask(self, asks: Sequence[Action]) -> None:
        """Come to the first question that is to be asked here; others of its step follow it."""
        for action in asks:
            ready = self.attempt.consider(action)
            if ready is None:
                continue  # skipped, or it could not be written out
            assert isinstance(ready.job.work, Ask)
            manual = ready.job.work.manual
            self._hold(
                Question(
                    action=action,
                    why="manual" if manual else "confirm",
                    text=ready.job.work.question.fixed(),
                    choices=("done", "failed", "abort") if manual else ("yes", "no", "abort"),
                )
            )
            break
        self._settle(asks)

    def _hold(self, question: Question) -> None:
        self.question = self.question or question

    def hold_data(self) -> dict[str, Json]:
        """Return what the record says of the question."""
        assert self.question is not None
        return {
            "why": self.question.why,
            "question": self.question.text,
            "choices": list(self.question.choices),
        }


def waves(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """Split actions into waves: the actions of one step in one batch."""
    for _, group in groupby(actions, key=lambda a: (a.batch, a.position)):
        yield list(group)


def _by_target(actions: Sequence[Action]) -> Iterator[list[Action]]:
    chains: dict[str, list[Action]] = {}
    for action in actions:
        chains.setdefault(action.target, []).append(action)
    yield from chains.values()


def _finish(work: Sequence["Future[None]"]) -> None:
    """Wait for all; if one had an error (the record can't be written, a bug), raise it after."""
    wait(work)
    for future in work:
        future.result()
