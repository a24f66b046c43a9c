"""Waves of actions: all hosts of a step at once, one after another on the same target."""

from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import repeat
from typing import assert_never

from opskit.execute.attempt import Attempt
from opskit.execute.fall import (
    Fall,
    harmless,
    is_gate,
    is_lost,
    policy,
    stopped,
    struck,
    unfinished,
    unsent,
    verdict_of,
)
from opskit.execute.offers import about
from opskit.execute.question import Question
from opskit.execute.send import Ready
from opskit.execute.silence import Found
from opskit.execute.stop import GRACE
from opskit.execute.waves import chains_of, waves
from opskit.model.event import Event
from opskit.model.plan import Action, Plan
from opskit.model.run import HostState
from opskit.model.runbook import OnFailure
from opskit.model.work import Ask, Notify
from opskit.plan import concerned


class Walk:
    """Goes through the waves of one plan and keeps who fell out on the way.

    `scope`: the hosts that it is about (None: all), `spared`: those of them that it is not about.
    Others are left as they are.
    """

    def __init__(
        self,
        plan: Plan,
        attempt: Attempt,
        pool: ThreadPoolExecutor,
        scope: Collection[str] | None = None,
        spared: Collection[str] = (),
    ) -> None:
        self.plan = plan
        self.attempt = attempt
        self.book = attempt.book
        self.pool = pool
        self.scope = scope
        self.spared = spared
        self.fallen: dict[str, Fall] = {}
        self._struck: set[str] = set()
        self._gates = attempt.gates
        self.question: Question | None = None

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

    def look_ahead(self, actions: Sequence[Action]) -> None:
        """Settle what an earlier walk left open beyond the wave in which this one has halted.

        Hosts that were taken back meanwhile halt it at their first step, where another one, that
        was out of sight, had come further.
        """
        self.rejoin(actions)
        for action in filter(self.lives, actions):  # of who was left out nobody is asked again
            if self.book.state(action) == "unknown" and self.question is None:
                self._unknown(action)

    def _wave(self, wave: Sequence[Action]) -> None:
        for _ in wave:  # a step that is done once goes on to another host while none was reached
            chosen = self._chosen(wave)
            self.rejoin(chosen)
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
            if not chosen or not self._passed_over(chosen):
                return

    def rejoin(self, chosen: Sequence[Action]) -> None:
        """Find what was lost from sight earlier, on all targets at once."""
        lost = [a for a in chosen if self.lives(a) and is_lost(self.plan, self.book, a)]
        self._gates.watch(lost)
        chains = [list(chain) for chain in chains_of(lost)]
        self._finish([self.pool.submit(self._search, chain) for chain in chains])

    def _search(self, chain: Sequence[Action]) -> None:
        for action in chain:
            if not self.stopped:
                self.attempt.rejoin(action)
                self._refuse(action)

    def _chosen(self, wave: Sequence[Action]) -> list[Action]:
        """Pick one candidate of a step that runs once: the one begun, else the first alive."""
        if self._scope_of(wave[0]) not in ("once", "batch"):
            return list(wave)
        hosts = self._begun(wave) or [a.host for a in wave if self.lives(a)]
        if not hosts:
            self._nobody(wave[0])
        return [a for a in wave if hosts and a.host == hosts[0]]

    def _begun(self, wave: Sequence[Action]) -> list[str]:
        """Return the hosts where a step that runs once was begun; an attempt unsent is none."""
        records = self.book.records
        return [
            a.host
            for a in wave
            if self.book.state(a) != "planned" and not unsent(records.get(a.key))
        ]

    def _passed_over(self, chosen: Sequence[Action]) -> bool:
        """Tell whether a step that runs once has not reached the host that it was tried on."""
        once = self._scope_of(chosen[0]) in ("once", "batch")
        return once and not self.halted and not self._begun(chosen) and not self.lives(chosen[0])

    def _nobody(self, action: Action) -> None:
        """No host is left for a step that is done once: without it nobody can go on."""
        hosts = [host for host in self._hosts(action) if host not in self.fallen]
        if hosts:
            text = "no host is left on which it could be done; nothing that comes after it is done"
            name = self.plan.stage(action).name
            self.attempt.post(Event(kind="message", step=name, data={"text": f"{name}: {text}"}))
            self._fall(hosts, "unreachable", policy(self.plan, action))

    def _scope_of(self, action: Action) -> str:
        return self.plan.stage(action).scope

    def lives(self, action: Action) -> bool:
        """Tell whether a host that an action is for goes on, as far as this walk is about it."""
        hosts = [action.host] if action.host else self._hosts(action)
        return any(self._within(host) and host not in self.fallen for host in hosts)

    def _within(self, host: str) -> bool:
        return (self.scope is None or host in self.scope) and host not in self.spared

    def _hosts(self, action: Action) -> list[str]:
        """Return the hosts that an action is for, as far as this walk is about them."""
        return [host for host in concerned(self.plan, action) if self._within(host)]

    def _hit(self, action: Action) -> list[str]:
        """Return the hosts that fall with an action: only its own where it was never sent."""
        return [host for host in struck(self.plan, self.book, action) if self._within(host)]

    def _due(self, action: Action) -> bool:
        state = self.book.state(action)
        again = state == "started" and harmless(self.plan, action)
        record = self.book.records.get(action.key)
        again = again or (record is not None and unfinished(self.plan, action, record))
        return self.lives(action) and (state == "planned" or again)

    # --- performing ---

    def _perform(self, todo: Sequence[Action]) -> None:
        """Perform actions on all targets at once; starts that can share a commit do."""
        self._gates.watch(todo)
        chains = [list(chain) for chain in chains_of(todo)]
        ready = [self._start(chain[0]) for chain in chains]
        first = [one for one in ready if isinstance(one, Ready)]
        self.attempt.post(*(event for one in first for event in self.attempt.start_of(one)))
        work = []
        for chain, found in zip(chains, ready, strict=True):
            if found is not None:
                rest = deque(chain[1:] if isinstance(found, Ready) else chain)
                lanes = min(self.plan.stage(chain[0]).at_once, len(chain))
                more = repeat(True, lanes - 1)
                work += [self.pool.submit(self._chain, rest, one) for one in (found, *more)]
        self._finish(work)

    def _finish(self, work: Sequence["Future[None]"]) -> None:
        """Wait for all; if one had an error (the record can't be written, a bug), raise it after.

        Meanwhile point out what has printed nothing for too long.
        """
        silence = self.attempt.outside.silence
        while wait(work, timeout=silence.pause()).not_done:
            self._point_out(silence.look())
            if self._spent():
                self._gates.end()
        for future in work:
            future.result()

    def _point_out(self, found: Sequence[Found]) -> None:
        """Record what has printed nothing for too long; end what its step wants ended for that."""
        self.attempt.post(*(one.event for one in found), wait=False)
        why = {(one.event.key, one.event.attempt): one.ends for one in found if one.ends}
        if why:
            self.attempt.outside.targets.end(why, GRACE)

    def _start(self, action: Action) -> Ready | bool | None:
        """Make an action ready whose target is open already. True: something comes first."""
        due = self.attempt.pauses.due(action, self.plan.stage(action))
        if action.skip_if is not None or due or not self.attempt.reach.is_open(action):
            return True
        ready = self.attempt.consider(action)
        return ready if ready is not None else True

    def _chain(self, rest: deque[Action], first: Ready | bool) -> None:
        """Perform the actions of one target, one after another, unless the run is to halt.

        Where several may be done at once, each of several threads takes the next that is left.
        """
        if isinstance(first, Ready):
            self.attempt.perform(first, self._spent)
            self._strike(first.action)
        while rest:
            try:
                action = rest.popleft()
            except IndexError:  # another thread has taken the last one
                return
            if self.stopped or self._spent() or self._cut_off(action):
                return
            if self._due(action):
                self.attempt.carry_out(action, self._spent)
                self._strike(action)

    def _cut_off(self, action: Action) -> bool:
        """Tell whether an action would need what can't be reached; a message needs nothing."""
        return action.target in self.book.unreachable and not isinstance(action.work, Notify)

    def _spent(self) -> bool:
        """Tell, in the middle of a wave, whether the hosts that fell so far are too many."""
        return len(self._struck | self.fallen.keys()) > self.plan.max_failures

    def _strike(self, action: Action) -> None:
        """Remember at once that a host failed, so that chains of the same wave may halt."""
        bad = self.book.state(action) in ("failed", "unknown")
        bad = bad and policy(self.plan, action) != "continue"
        if bad or action.target in self.book.unreachable:
            self._struck |= set(self._hit(action))
        self._refuse(action)

    def _refuse(self, action: Action) -> None:
        """Remember at once that a gate failed, so that the others may end, if it is heeded."""
        if policy(self.plan, action) != "continue" and self._gates.took(action):
            self._struck |= set(self._hit(action))

    # --- what follows from outcomes ---

    def _settle(self, wave: Sequence[Action]) -> None:
        """Draw the consequences of how the actions of a wave stand."""
        for action in sorted(wave, key=self._undecided):  # what has failed needs nobody's answer
            if not self._hosts(action):
                continue
            state = self.book.state(action)
            match state:
                case "planned":
                    self._unreached(action)
                case "failed":
                    self._failed(action)
                case "unknown":
                    self._unknown(action)
                case "undone" | "undo failed":
                    self._fall(self._hosts(action), state, policy(self.plan, action))
                case "started" | "succeeded" | "skipped":
                    pass
                case _:
                    assert_never(state)

    def _unreached(self, action: Action) -> None:
        if self._cut_off(action):
            self._fall(self._hit(action), "unreachable", policy(self.plan, action))

    def _failed(self, action: Action) -> None:
        record = self.book.records[action.key]
        rule = policy(self.plan, action)
        if self._undecided(action) and not self.tripped:
            self.doubt(action, "inconclusive")
            return
        if rule == "continue" or (unfinished(self.plan, action, record) and not self._spent()):
            return
        by_person = stopped(record)
        if (rule == "ask" or by_person) and "choice" not in record.data:
            reason = str(record.data.get("reason") or f"exit status {record.data.get('status')}")
            name, host = repr(self.plan.stage(action).name), record.host
            self._hold(
                Question(
                    action=action,
                    why="failed",
                    text=f"{name} on {host} was {reason}"
                    if by_person
                    else f"{name} failed on {host}: {reason}",
                    choices=about(self.plan, self.book, action, "failed"),
                )
            )
            return
        lost = record.data.get("unreachable") is True
        self._fall(self._hit(action), "unreachable" if lost else "failed", rule)

    def _unknown(self, action: Action) -> None:
        """Settle an unknown outcome by `done_when`, by the step's rule, or by asking."""
        stage = self.plan.stage(action)
        if action.host in self.fallen or self.stopped:
            return  # it stays as it is, until a resume
        if self.attempt.settled(action):
            if self.book.state(action) == "failed":
                self._failed(action)
            return
        again = stage.on_unknown == "retry" and stage.repeatable and self.book.attempt(action) < 3
        if self.tripped and is_gate(action.work):
            self.attempt.give_up(action)
            self._failed(action)
        elif stage.on_unknown == "fail":
            self._fall(self._hosts(action), "unknown", policy(self.plan, action))
        elif again and not self.tripped:
            self._finish([self.pool.submit(self.attempt.carry_out, action, self._spent)])
            self._settle([action])
        else:
            self.doubt(action, "unknown")

    def _undecided(self, action: Action) -> bool:
        """Tell whether a gate has come to no verdict, and nobody has answered for it."""
        record = self.book.records.get(action.key)
        if record is not None and record.state == "unknown" and is_gate(action.work):
            return True
        if record is None or record.state != "failed" or "choice" in record.data:
            return False
        return verdict_of(record) == "inconclusive" and self.plan.stage(action).on_unknown != "fail"

    def doubt(self, action: Action, why: str) -> None:
        """Come to the question what became of a change, or what a gate should have said."""
        name, record = self.plan.stage(action).name, self.book.records[action.key]
        untold = "; done_when could not tell" if action.done_when is not None else ""
        asked = f"Nobody knows whether {name!r} happened on {record.host}"
        if why == "inconclusive":
            asked = f"{name!r} is inconclusive on {record.host}"
        self._hold(
            Question(
                action=action,
                why=why,
                text=f"{asked}: {record.data.get('reason', '')}{untold}",
                choices=about(self.plan, self.book, action, why),
            )
        )

    def _fall(self, hosts: Collection[str], state: HostState, rule: OnFailure) -> None:
        # What was to be asked has been asked, or there is nothing to ask about.
        fall = Fall(state=state, policy="stop" if rule == "ask" else rule)
        for host in hosts:
            if host not in self.fallen or state == "unknown":  # not knowing outranks a failure
                self.fallen[host] = fall

    def _ask(self, asks: Sequence[Action]) -> None:
        """Come to the first question that is to be asked here; others of its step follow it."""
        for action in asks:
            ready = self.attempt.consider(action)
            if ready is None:
                continue  # skipped, or it could not be written out
            assert isinstance(ready.job.work, Ask)
            why = "manual" if ready.job.work.manual else "confirm"
            self._hold(
                Question(
                    action=action,
                    why=why,
                    text=ready.job.work.question.fixed(),
                    choices=about(self.plan, self.book, action, why),
                )
            )
            break
        self._settle(asks)

    def _hold(self, question: Question) -> None:
        self.question = self.question or question
