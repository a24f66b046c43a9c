"""A change that was sent and lost from sight: found on its host, and followed to its end."""

import time
from typing import assert_never

from opskit.drivers.capture import Capture
from opskit.drivers.command import GRACE, PATIENCE, SLICE, Attempt, digest, user_of
from opskit.drivers.session import Session, Write
from opskit.drivers.stop import end_change
from opskit.drivers.target import Running, Target
from opskit.drivers.wire import LostError
from opskit.errors import UnreachableError
from opskit.model.job import Job, Output

_BEGINS = 3.0
"""How long something that has been claimed may take to begin; seconds."""
_LOOK, _LOOK_MOST = 0.05, 1.0
_NOT_BEGUN = "not started: opskit lost sight of it before the host had begun it"


def rejoin(target: Target, job: Job, sudo: str | None, write: Write, left: float) -> Output:
    """Say what became of an attempt that was sent before; wait for its end for `left` seconds.

    Its output is told from the beginning.
    """
    user = user_of(job, sudo)
    running = Running(key=job.key, attempt=job.attempt, user=user, digest=digest(job))
    try:
        session = target.session(user, writes=True)
        running.session = session
        attempt = Attempt(
            target=target,
            job=job,
            user=user,
            session=session,
            capture=Capture(write, limit=job.host.connection.max_output, keep=job.capture),
            end=time.monotonic() + left,
        )
        target.running = running
        return running.judged(_Search(attempt).outcome())
    except UnreachableError as error:
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")
    except (LostError, TimeoutError) as error:
        what = error.what if isinstance(error, LostError) else "the host does not answer"
        return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {what}")
    finally:
        target.running = None
        if running.session is not None and not running.session.clean:
            target.discard(running.session)


class _Search:
    """Looks for one attempt in the run's directory on its host."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.session: Session = attempt.session
        self.name = digest(attempt.job)
        then = attempt.job.contact
        self.same = then is not None and bool(then.nonce) and then.nonce == self.session.nonce
        self.booted = then is None or then.boot_id != self.session.boot_id

    def outcome(self) -> Output:
        """Conclude from what is there: never begun, going on, ended, or nobody can tell."""
        end = time.monotonic() + _BEGINS
        while True:
            state = self._ask("_o_ask")
            if state[0] in ("none", "claimed") and self.same and not self.booted:
                state = self._ask("_o_bar")
            if state[0] != "claimed" or self.booted or time.monotonic() > end:
                return self._concluded(state)
            time.sleep(_LOOK)

    def _ask(self, function: str) -> tuple[str, ...]:
        return self.session.call(function, self.name, timeout=PATIENCE)

    def _concluded(self, state: tuple[str, ...]) -> Output:
        match state[0]:
            case "barred":
                return Output(outcome="failed", sent=False, again=True, reason=_NOT_BEGUN)
            case "done":
                return self._followed()
            case "running" if not self.booted:
                return self._followed()
            case _:
                return self.attempt.output("unknown", reason=self._why(), state=" ".join(state))

    def _why(self) -> str:
        """Say why nobody can tell."""
        if not self.session.nonce:
            return f"its traces on the host can't be looked at: {self.session.why_closed}"
        if self.booted:
            return "the host was started anew since, and it had not said how it went"
        if not self.same:
            return "its traces on the host were removed"
        return "it was ended on the host before it could say how it went"

    def _followed(self) -> Output:
        """Read along until it has ended; stop it when it is out of time."""
        pause = _LOOK
        while True:
            answer, got = self._read()
            if answer[0] == "done" and got < SLICE:
                return self.attempt.ended(int(answer[1]))
            if answer[0] not in ("done", "running"):
                return self._concluded(answer)
            if answer[0] == "running" and time.monotonic() >= self.attempt.end:
                if (late := self._stopped()) is not None:
                    return late
                continue
            pause = _LOOK if got else min(_LOOK_MOST, pause * 1.5)
            if got < SLICE:
                left = max(0.001, self.attempt.end - time.monotonic())
                time.sleep(min(pause, left) if answer[0] == "running" else 0)

    def _read(self) -> tuple[tuple[str, ...], int]:
        seen = self.attempt.capture.seen
        before = dict(seen)
        answer = self.attempt.fetch(self.session, SLICE, PATIENCE)
        return answer, max(seen[stream] - before[stream] for stream in seen)

    def _stopped(self) -> Output | None:
        """End it, as it is out of time; None when it was over by then, which is to be read."""
        verdict = end_change(self.attempt.target, self.attempt.user, self.name, GRACE)
        match verdict:
            case "ended":
                return None
            case "confirmed gone":
                self._read()
                return self.attempt.output("failed", reason=self.attempt.late(verdict))
            case "still there" | "can't tell":
                return self.attempt.output("unknown", reason=self.attempt.late(verdict))
            case _:
                assert_never(verdict)
