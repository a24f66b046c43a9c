"""One action, from its conditions to its recorded outcome."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from opskit.errors import UnreachableError
from opskit.execute.book import Book
from opskit.execute.gates import Gates
from opskit.execute.late import LateError, Works, holds, secret_names
from opskit.execute.pauses import Pauses, backoff
from opskit.execute.reaching import Reach, Spot
from opskit.execute.saving import Saving
from opskit.execute.saying import say
from opskit.execute.search import Search
from opskit.execute.send import Outside, Ready, ask, drive
from opskit.model.event import Event, EventKind
from opskit.model.inventory import CONTROLLER, Host, database_of, redis_of
from opskit.model.job import Job, Output
from opskit.model.plan import Action, Plan, Stage
from opskit.model.value import Json, Secret
from opskit.model.work import Check, Notify, Wait, Work
from opskit.steps.health import judge

_AGAIN = 5
"""How often in a row an action is begun anew because it had never begun."""


class Attempt:
    """Carries out actions one at a time for each target; called from many threads."""

    def __init__(
        self, plan: Plan, book: Book, outside: Outside, opened: set[Spot] | None = None
    ) -> None:
        self.plan = plan
        self.book = book
        self.outside = outside
        self.reach = Reach(plan, book, outside, opened)
        self.works = Works()
        self.saving = Saving(book, outside)
        self.gates = Gates(book, outside)
        self.search = Search(book, outside, self.gates)
        self.pauses = Pauses(book, outside.stop)

    def post(self, *events: Event, wait: bool = True) -> None:
        """Record events, then let the book and the watcher know."""
        if not events:
            return
        self.outside.journal.append(*events, wait=wait)
        for event in events:
            self.book.take(event)
            self.outside.watch(event)

    # --- before an action is sent ---

    def consider(self, action: Action) -> Ready | None:
        """Fill the texts of an action; None when it is skipped or can't be filled (recorded)."""
        stage = self.plan.stage(action)
        values = self.book.values(action)
        try:
            if action.when is not None and not holds(action.when, values):
                self.skip(action, stage, f"when: {action.when}")
                return None
            work = self.works.fill(action.work, values)
            skip_if = action.skip_if and self.works.fill(action.skip_if, values)
            number = self.book.attempt(action) + 1
            job = self._job(action, stage, work, number, self._secrets(action, work))
        except LateError as error:
            self.refuse(action, stage, f"{error} ({stage.place})")
            return None
        return Ready(
            action=action,
            stage=stage,
            number=number,
            skip_if=skip_if,
            tries=self._tries(action, stage),
            began=time.monotonic(),
            first=self.pauses.first(action),
            job=job,
            unmasked=self.book.forgetful(),
        )

    def _job(
        self,
        action: Action,
        stage: Stage,
        work: Work,
        number: int,
        secrets: Mapping[str, Secret],
    ) -> Job:
        return Job(
            run=self.outside.journal.run,
            key=action.key,
            attempt=number,
            host=self._target(action),
            work=work,
            effect=stage.effect,
            timeout=stage.timeout,
            secrets=secrets,
        )

    def _target(self, action: Action) -> Host:
        if action.target == CONTROLLER:
            return Host(name=CONTROLLER, address="127.0.0.1")
        name = database_of(action.target)
        if name is not None:
            return Host(name=action.target, address=self.plan.databases[name].name)
        name = redis_of(action.target)
        if name is not None:
            return Host(name=action.target, address=name)
        return self.plan.hosts[action.target]

    def _secrets(self, action: Action, work: Work) -> Mapping[str, Secret]:
        known = {**self.outside.secrets, **self.book.secrets(action)}
        names = secret_names(work)
        missing = [name for name in names if name not in known]
        if missing:
            raise LateError(
                f"the secret `{missing[0]}` is not there: the step that saves it did not run here,"
                " or before the run was interrupted (secrets are not kept in the record)"
            )
        return {name: known[name] for name in names}

    def skip(self, action: Action, stage: Stage, why: str) -> None:
        self.post(self._event("step skipped", action, stage, data={"why": why}), wait=False)

    def refuse(self, action: Action, stage: Stage, why: str) -> None:
        """Record that an action failed before anything was sent."""
        data: dict[str, Json] = {"outcome": "failed", "sent": False, "reason": why}
        number = self.book.attempt(action) + 1
        self.post(
            self.started(action, stage, number, ""),
            self._event("step ended", action, stage, attempt=number, data=data),
        )

    # --- the action itself ---

    def carry_out(self, action: Action, spent: Callable[[], bool]) -> None:
        """Do everything for one action: connect, ask whether it is needed, send it, record it.

        `spent` tells whether too many hosts have failed by now: then it is not tried again.
        """
        pause = self.pauses.due(action, self.plan.stage(action))
        if pause and not self.pauses.rests(pause, spent):
            return
        opening = self.reach.first(action, self.post)
        if opening is None:
            return
        ready = self.consider(action)
        if ready is None or self._needless(ready):
            self.post(*opening, wait=False)
            return
        self.post(*opening, *self.start_of(ready))
        self.perform(ready, spent)

    def _needless(self, ready: Ready) -> bool:
        """Ask the host whether the action's effect is there already (`creates`, `unless`)."""
        action = ready.action
        if ready.skip_if is None:
            return False
        probe = replace(ready.job, key=action.key + "?skip", work=ready.skip_if, effect="read")
        output = ask(self.outside, probe)
        if output.outcome == "succeeded":
            self.skip(action, ready.stage, "its effect is there already")
        return output.outcome == "succeeded"

    def perform(self, ready: Ready, spent: Callable[[], bool]) -> None:
        """Send an action whose start is recorded; record what it came to, and again if allowed."""
        output, sizes = self._send(ready)
        while output is not None:
            if output.lost:
                self._tell(ready, _lost(ready, output))
                output, sizes = self.search.found(ready, output, sizes)
            if output.again and ready.again >= _AGAIN:
                output = judge(ready.job.work, replace(output, again=False))
            self._end(ready, output, sizes)
            following = self._following(ready, output, spent)
            if following is None:
                return
            ready = following
            self.post(*self.start_of(ready))
            output, sizes = self._send(ready)

    def _following(self, ready: Ready, output: Output, spent: Callable[[], bool]) -> Ready | None:
        """Return the next attempt, once it may come; None where there is none to come."""
        retry = ready.stage.retry
        tries, again, first = ready.tries - 1, 0, None
        if output.again:
            tries, again = ready.tries, ready.again + 1  # it never began, so none was used up
            first = ready.began if ready.first is None else ready.first
        elif output.outcome == "failed" and retry is not None and tries:
            if not self.pauses.rests(backoff(ready.stage, tries), spent):
                return None
        else:
            return None
        if self.outside.stop.pressed or spent():
            return None
        number = ready.number + 1
        job = replace(ready.job, attempt=number)
        return replace(
            ready,
            number=number,
            tries=tries,
            again=again,
            began=time.monotonic(),
            first=first,
            job=job,
        )

    def rejoin(self, action: Action) -> None:
        """Find what became of an attempt that another process began, or that was lost from sight.

        One that never began, or that may be tried again, is then due again.
        """
        stage, record = self.plan.stage(action), self.book.records[action.key]
        work = action.work
        with suppress(LateError):
            work = self.works.fill(work, self.book.values(action))
        ready = Ready(
            action=action,
            stage=stage,
            number=record.attempt,
            skip_if=None,
            tries=self._tries(action, stage),
            began=time.monotonic() - max(0.0, time.time() - (record.started or 0.0)),
            job=self._job(action, stage, work, record.attempt, {}),
            unmasked=self.book.forgetful(),
        )
        with suppress(UnreachableError):
            self.post(*self.reach.open(action), wait=False)
        output, sizes = self.search.began(ready)
        if record.state == "started" or not output.lost:
            self._end(ready, output, sizes, wait=True)

    def _tries(self, action: Action, stage: Stage) -> int:
        """Return how often an action may be tried now; a stop may have come between two tries."""
        record = self.book.records.get(action.key)
        left = record.data.get("tries_left") if record is not None else None
        known = left if isinstance(left, int) else 0
        if record is not None and record.state == "started":
            return 1 + known
        if known and record is not None and (record.state == "failed" or record.data.get("again")):
            return known
        return 1 + (stage.retry.times if stage.retry else 0)

    def _send(self, ready: Ready) -> tuple[Output | None, Mapping[str, Json]]:
        """Let a driver do it. No output: the run was stopped while it only waited."""
        work = ready.job.work
        match work:
            case Wait():
                return self.pauses.wait(ready.action, work), {}
            case Check():
                return _check(work), {}
            case Notify():
                if work.to:
                    return say(self.plan, self.book, self.outside, ready, self.post), {}
                self._tell(ready, work.message.fixed())
                return Output(outcome="succeeded"), {}
            case _:
                return drive(self.outside, ready)

    def _tell(self, ready: Ready, text: str) -> None:
        """Say something about an action, in the record and to whoever watches."""
        data: Mapping[str, Json] = {"text": text}
        host, step = ready.action.host, ready.stage.name
        self.post(Event(kind="message", host=host, step=step, data=data), wait=False)

    # --- after it ---

    def _end(
        self, ready: Ready, output: Output, sizes: Mapping[str, Json], *, wait: bool = False
    ) -> None:
        output, saved = self.saving.saved(ready, output)
        left = ready.tries if output.again else ready.tries - 1
        data: dict[str, Json] = {
            "outcome": output.outcome,
            "seconds": round(time.monotonic() - ready.began, 3),
            **({"status": output.status} if output.status is not None else {}),
            **({"reason": output.reason} if output.reason else {}),
            **({"sent": False} if not output.sent else {}),
            **({"unreachable": True} if output.unreachable else {}),
            **({"lost": True} if output.lost else {}),
            **({"again": True} if output.again else {}),
            **({"part": True} if output.part else {}),
            **({"evidence": output.evidence} if output.evidence else {}),
            **({"tries_left": left} if left and output.outcome == "failed" else {}),
            **sizes,
            **saved,
        }
        event = self._event(
            "step ended", ready.action, ready.stage, attempt=ready.number, data=data
        )
        self.post(event, wait=wait)

    def start_of(self, ready: Ready) -> list[Event]:
        """Return the event that must be durable first; none for a wait that is going on already.

        The deadline of a wait counts from its first start, also after a resume.
        """
        action, stage = ready.action, ready.stage
        if isinstance(action.work, Wait) and self.book.state(action) == "started":
            return []
        digest = self.works.digest(ready.job.work)
        return [self.started(action, stage, ready.number, digest, ready.tries - 1)]

    def settled(self, action: Action) -> bool:
        """Ask the host by `done_when` what became of an unknown change; True if that told."""
        stage = self.plan.stage(action)
        if action.done_when is None or (ready := self.consider(action)) is None:
            return False
        try:
            self.post(*self.reach.open(action), wait=False)
            work = self.works.fill(action.done_when, self.book.values(action))
            secrets = self._secrets(action, work)
        except (UnreachableError, LateError):
            return False
        key = action.key + "?done"
        job = replace(ready.job, key=key, work=work, effect="read", secrets=secrets)
        output = ask(self.outside, job)
        if output.outcome == "unknown" or not output.sent or output.status is None:
            return False
        reason = "" if output.outcome == "succeeded" else "done_when says that it did not happen"
        data: dict[str, Json] = {"outcome": output.outcome, "evidence": {"settled": "done_when"}}
        data |= {"reason": reason} if reason else {}
        number = self.book.attempt(action)
        self.post(self._event("step ended", action, stage, attempt=number, data=data))
        return True

    def give_up(self, action: Action) -> None:
        """Record of a gate that is out of sight that it is looked for no more."""
        why = self.book.records[action.key].data.get("reason", "")
        reason = f"the gate failed elsewhere, so it was looked for no more: {why}"
        data: dict[str, Json] = {"outcome": "failed", "unreachable": True, "reason": reason}
        number = self.book.attempt(action)
        event = self._event(
            "step ended", action, self.plan.stage(action), attempt=number, data=data
        )
        self.post(event)

    def started(
        self, action: Action, stage: Stage, number: int, digest: str, left: int = 0
    ) -> Event:
        data: dict[str, Json] = {"target": action.target, "digest": digest}
        data |= {"tries_left": left} if left else {}
        return self._event("step started", action, stage, attempt=number, data=data)

    def _event(
        self,
        kind: EventKind,
        action: Action,
        stage: Stage,
        *,
        attempt: int = 0,
        data: Mapping[str, Json],
    ) -> Event:
        undo: dict[str, Json] = {}
        if action.undoes and kind != "step started":
            undo = {"undoes": action.undoes, "last": action.last}
        return Event(
            kind=kind,
            key=action.key,
            host=action.host or action.target,
            step=stage.name,
            attempt=attempt,
            data={**data, **undo},
        )


def _lost(ready: Ready, output: Output) -> str:
    """Say that a target was lost from sight, and until when it is looked for at most."""
    until = time.strftime("%H:%M:%SZ", time.gmtime(time.time() + ready.left))
    return f"lost sight of {ready.action.target}: {output.reason}; it is looked for until {until}"


def _check(work: Check) -> Output:
    if all(text.fixed() == "True" for text in work.that):
        return Output(outcome="succeeded")
    return Output(outcome="failed", reason=work.message.fixed(), sent=False)
