"""One action, from its conditions to its recorded outcome."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from opskit.errors import InputError, UnreachableError
from opskit.execute.book import Book
from opskit.execute.late import LateError, Works, holds, secret_names
from opskit.execute.send import Outside, Ready, ask, drive
from opskit.model.event import Event, EventKind
from opskit.model.inventory import CONTROLLER, Host
from opskit.model.job import Job, Output
from opskit.model.plan import Action, Plan, Stage
from opskit.model.value import Json, Secret
from opskit.model.work import Check, Notify, Wait, Work
from opskit.plan import reads_only

_LOOK = 0.2
"""How often, between two tries, it is looked whether there may be another; seconds."""


class Attempt:
    """Carries out actions one at a time for each target; called from many threads."""

    def __init__(
        self, plan: Plan, book: Book, outside: Outside, opened: set[str] | None = None
    ) -> None:
        self.plan = plan
        self.book = book
        self.outside = outside
        self.writes = not reads_only(plan)
        self.opened: set[str] = set() if opened is None else opened
        self.works = Works()

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
            job = self._job(action, stage, work, number)
        except LateError as error:
            self.refuse(action, stage, str(error))
            return None
        return Ready(
            action=action,
            stage=stage,
            number=number,
            skip_if=skip_if,
            tries=self._tries(action, stage),
            began=time.monotonic(),
            job=job,
        )

    def _job(self, action: Action, stage: Stage, work: Work, number: int) -> Job:
        return Job(
            run=self.outside.journal.run,
            key=action.key,
            attempt=number,
            host=self._target(action),
            work=work,
            effect=stage.effect,
            timeout=stage.timeout,
            secrets=self._secrets(action, work),
        )

    def _target(self, action: Action) -> Host:
        if action.target == CONTROLLER:
            return Host(name=CONTROLLER, address="127.0.0.1")
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

    def open(self, target: str) -> Event | None:
        """Connect to a target if that has not been done; return the event that says so."""
        if target in self.opened:
            return None
        opened = self.outside.targets.open(target, writes=self.writes)
        self.opened.add(target)
        return Event(
            kind="host opened",
            host=target,
            data={
                "nonce": opened.nonce,
                "boot_id": opened.boot_id,
                "state_dir": opened.state_dir,
                "user": opened.user,
                "address": opened.address,
            },
        )

    # --- the action itself ---

    def carry_out(self, action: Action, spent: Callable[[], bool]) -> None:
        """Do everything for one action: connect, ask whether it is needed, send it, record it.

        `spent` tells whether too many hosts have failed by now: then it is not tried again.
        """
        try:
            opening = self.open(action.target)
        except UnreachableError as error:
            reason = error.line
            self.post(Event(kind="host unreachable", host=action.target, data={"reason": reason}))
            return
        ready = self.consider(action)
        if ready is None or self._needless(ready):
            if opening:
                self.post(opening, wait=False)
            return
        self.post(*([opening] if opening else []), *self.start_of(ready))
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
        retry = ready.stage.retry
        for left in reversed(range(ready.tries)):
            output, sizes = self._send(ready)
            if output is None:
                return
            self._end(ready, output, sizes, left)
            if output.outcome != "failed" or retry is None or not left:
                return
            if not self._rests(retry.backoff * 2 ** (retry.times - left), spent):
                return
            ready = replace(ready, number=ready.number + 1, began=time.monotonic())
            ready = replace(ready, job=replace(ready.job, attempt=ready.number))
            self.post(*self.start_of(ready))

    def _rests(self, seconds: float, spent: Callable[[], bool]) -> bool:
        """Wait before the next try; tell whether it may come."""
        end = time.monotonic() + seconds
        stop = self.outside.stop.soft
        while not stop.is_set() and not spent():
            left = end - time.monotonic()
            if left <= 0:
                return True
            stop.wait(min(left, _LOOK))
        return False

    def _tries(self, action: Action, stage: Stage) -> int:
        """Return how often an action may be tried now; a stop may have come between two tries."""
        record = self.book.records.get(action.key)
        left = record.data.get("tries_left") if record and record.state == "failed" else None
        return left if isinstance(left, int) else 1 + (stage.retry.times if stage.retry else 0)

    def _send(self, ready: Ready) -> tuple[Output | None, Mapping[str, Json]]:
        """Let a driver do it. No output: the run was stopped while it only waited."""
        work = ready.job.work
        match work:
            case Wait():
                return self._wait(ready, work), {}
            case Check():
                return _check(work), {}
            case Notify():
                message = Event(
                    kind="message",
                    key="",
                    host=ready.action.host,
                    step=ready.stage.name,
                    data={"text": work.message.fixed()},
                )
                self.post(message, wait=False)
                return Output(outcome="succeeded"), {}
            case _:
                return drive(self.outside, ready)

    def _wait(self, ready: Ready, work: Wait) -> Output | None:
        record = self.book.records.get(ready.action.key)
        began = record.started if record and record.started else time.time()
        if self.outside.stop.soft.wait(max(0.0, began + work.seconds - time.time())):
            return None
        return Output(outcome="succeeded")

    # --- after it ---

    def _end(self, ready: Ready, output: Output, sizes: Mapping[str, Json], left: int) -> None:
        output, saved = self._saved(ready, output)
        data: dict[str, Json] = {
            "outcome": output.outcome,
            "seconds": round(time.monotonic() - ready.began, 3),
            **({"status": output.status} if output.status is not None else {}),
            **({"reason": output.reason} if output.reason else {}),
            **({"sent": False} if not output.sent else {}),
            **({"unreachable": True} if output.unreachable else {}),
            **({"evidence": output.evidence} if output.evidence else {}),
            **({"tries_left": left} if left and output.outcome == "failed" else {}),
            **sizes,
            **saved,
        }
        event = self._event(
            "step ended", ready.action, ready.stage, attempt=ready.number, data=data
        )
        self.post(event, wait=False)

    def _saved(self, ready: Ready, output: Output) -> tuple[Output, Mapping[str, Json]]:
        """Take the value that the step saves from its output, or fail it if there is none."""
        save = ready.stage.save
        if save is not None and save.secret:  # part of it may stand there, which no mask would find
            evidence = {name: value for name, value in output.evidence.items() if name != "body"}
            output = replace(output, evidence=evidence)
        if save is None or output.outcome != "succeeded":
            return output, {}
        try:
            value = output.stdout.decode().removesuffix("\n")
        except UnicodeDecodeError:
            return replace(
                output, outcome="failed", reason="its output can't be saved: it is not UTF-8"
            ), {}
        if len(output.stdout) >= ready.job.capture:
            reason = f"its output can't be saved: it has {ready.job.capture} bytes or more"
            return replace(output, outcome="failed", reason=reason), {}
        shared = not ready.action.host or ready.stage.scope in ("once", "batch", "controller")
        if save.secret:
            return self._hidden(ready, output, Secret(save.name, value), shared=shared), {}
        return output, {"saved": {save.name: value}, **({"shared": True} if shared else {})}

    def _hidden(self, ready: Ready, output: Output, secret: Secret, *, shared: bool) -> Output:
        """Keep what a step has saved as a secret out of everything, or fail it if that can't be."""
        try:
            self.outside.hide(secret)
        except InputError as error:
            reason = f"its output can't be saved as a secret: {error.what}"
            return replace(output, outcome="failed", reason=reason)
        self.book.keep(ready.action, secret, shared=shared)
        return output

    def start_of(self, ready: Ready) -> list[Event]:
        """Return the event that must be durable first; none for a wait that is going on already.

        The deadline of a wait counts from its first start, also after a resume.
        """
        action, stage = ready.action, ready.stage
        if isinstance(action.work, Wait) and self.book.state(action) == "started":
            return []
        return [self.started(action, stage, ready.number, self.works.digest(ready.job.work))]

    def lose(self, action: Action) -> None:
        """Record that nobody knows how a change ended that an earlier process began."""
        reason = "opskit ended while this was running on the host"
        data: dict[str, Json] = {"outcome": "unknown", "reason": reason}
        stage = self.plan.stage(action)
        number = self.book.attempt(action)
        self.post(self._event("step ended", action, stage, attempt=number, data=data))

    def settled(self, action: Action) -> bool:
        """Ask the host by `done_when` what became of an unknown change; True if that told."""
        stage = self.plan.stage(action)
        if action.done_when is None or (ready := self.consider(action)) is None:
            return False
        try:
            self.open(action.target)
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

    def started(self, action: Action, stage: Stage, number: int, digest: str) -> Event:
        data: dict[str, Json] = {"target": action.target, "digest": digest}
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


def _check(work: Check) -> Output:
    if all(text.fixed() == "True" for text in work.that):
        return Output(outcome="succeeded")
    return Output(outcome="failed", reason=work.message.fixed(), sent=False)
