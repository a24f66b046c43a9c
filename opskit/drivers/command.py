"""Commands on a host: reads in the shell of the channel, changes detached and fenced."""

import hashlib
import time
from contextlib import suppress
from dataclasses import field

from opskit.drivers import words
from opskit.drivers.capture import Capture
from opskit.drivers.session import Session, Write, tail
from opskit.drivers.stop import end_change, end_read
from opskit.drivers.target import Running, Target, worded
from opskit.drivers.wire import LostError, Stream
from opskit.errors import OpskitError, UnreachableError
from opskit.model.event import Outcome
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.value import Json
from opskit.model.work import Command

SLICE = 1024 * 1024
GRACE = 5.0
PATIENCE = 10.0

_INLINE = 64 * 1024
_SHORT = 1.0
_LOOK_LEAST, _LOOK_MOST, _LOOK_AGAIN = 0.1, 1.0, 5.0


def digest(job: Job) -> str:
    """Return the name of this attempt's files on the host."""
    return hashlib.sha256(f"{job.key}\0{job.attempt}".encode()).hexdigest()[:32]


def mark(job: Job) -> str:
    """Return what the processes of a read carry in their environment, and no other run's.

    Those of a change carry its digest instead, and are told from another run's by the nonce.
    """
    name = hashlib.sha256(f"{job.run}\0{job.key}\0{job.attempt}".encode()).hexdigest()[:32]
    return f"{job.run}/{name}"


def user_of(job: Job, sudo: str | None) -> str | None:
    """Return who the work runs as, where that is not who logs in."""
    return sudo or (job.host.connection.read_user if job.effect == "read" else None)


def perform(target: Target, job: Job, work: Command, write: Write) -> Output:
    """Run the command once and say what came of it."""
    user = user_of(job, work.sudo)
    changes = job.effect == "change"
    try:
        given = words.words(job, work, "" if changes else mark(job))
        session = target.session(user, writes=changes)
    except ValueError as error:
        return Output(outcome="failed", sent=False, reason=str(error))
    except UnreachableError as error:
        return unreachable(error)
    attempt = Attempt(
        target=target,
        job=job,
        user=user,
        session=session,
        capture=Capture(write, limit=job.host.connection.max_output, keep=job.capture),
        end=time.monotonic() + job.timeout,
    )
    running = target.running = Running(
        key=job.key,
        attempt=job.attempt,
        user=user,
        session=session,
        digest=digest(job) if changes else None,
        mark="" if changes else mark(job),
    )
    try:
        return running.judged(attempt.change(given) if changes else attempt.read(given))
    except BaseException:
        session.clean = False
        raise
    finally:
        target.running = None
        if not session.clean:
            target.discard(session)


def unreachable(error: OpskitError) -> Output:
    """Return the outcome of what never left this machine."""
    return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)


def closed(job: Job, session: Session) -> Output:
    """Return the outcome where the run may not write on the host."""
    return Output(
        outcome="failed",
        sent=False,
        reason=f"not started: opskit can't write its directory {job.host.connection.state_dir} "
        f"on the host: {session.why_closed}",
    )


def fenced(by: str) -> str:
    """Say that somebody else has a lock on the host."""
    return f"not started: its lock is held there by run {by}"


@mutable
class Attempt:
    """One command under way."""

    target: Target
    job: Job
    user: str | None
    session: Session
    capture: Capture
    end: float
    spare: Session | None = None
    noise: bytearray = field(default_factory=bytearray)

    def read(self, given: tuple[str, ...]) -> Output:
        try:
            answer = self.session.call(
                "_o_read", *given, timeout=self.job.timeout, write=self.capture
            )
        except LostError as error:
            reason = f"{error.what} before the command had ended"
            return self.output("failed", reason=reason, lost=not self.target.connected)
        except TimeoutError:
            verdict = end_read(self.target, self.user, self.session, mark(self.job), GRACE)
            return self.output("failed", reason=self.late(verdict))
        self.session.clean = answer[1] != "dirty"
        return self.ended(int(answer[0]))

    def change(self, given: tuple[str, ...]) -> Output:
        if not self.session.nonce:
            return closed(self.job, self.session)
        try:
            self.session.begin("_o_change", digest(self.job), str(_INLINE), *given)
            answer = self._follow()
            if answer is None:
                return self._stop()
            return self._concluded(answer)
        except (LostError, TimeoutError) as error:
            what = error.what if isinstance(error, LostError) else "the host does not answer"
            reason = f"{what}; the command was sent and may go on at the host"
            return self.output("unknown", reason=reason, lost=True)
        finally:
            if self.spare is not None:
                self.spare.close()

    def _follow(self) -> tuple[str, ...] | None:
        """Wait for the end; past the first second, read along. None: out of time."""
        pause = min(_SHORT, self.job.timeout)
        while True:
            answer = self._poll(pause)
            if answer is not None or time.monotonic() >= self.end:
                return answer
            pause = min(self._read_along(pause), max(0.001, self.end - time.monotonic()))

    def _poll(self, seconds: float) -> tuple[str, ...] | None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            answer = self.session.poll(self._inline, left)
            if answer is not None:
                return answer
        return None

    def _inline(self, stream: Stream, data: bytes) -> None:
        """What comes with the answer: the beginning of the output, or why there is none."""
        if len(self.noise) < _INLINE and stream == "stderr":
            self.noise += data
        self.capture(stream, data)

    def _read_along(self, pause: float) -> float:
        """Fetch what has been printed since the last look; return how long to wait now.

        Without a second shell there is nothing to see until the end, which the first one tells.
        """
        before = sum(self.capture.seen.values())
        try:
            if self.spare is None or not self.spare.clean:
                self.spare = self.target.spare(self.user, writes=True)
            left = self.end - time.monotonic()
            self.fetch(self.spare, SLICE, min(PATIENCE, max(1.0, left)))
        except (LostError, UnreachableError, TimeoutError):
            return _LOOK_AGAIN
        finally:
            self.capture.rewind(beginning=True)
        got = sum(self.capture.seen.values()) - before
        if got >= SLICE:
            return 0.001
        return _LOOK_LEAST if got else min(_LOOK_MOST, max(_LOOK_LEAST, pause * 1.5))

    def fetch(self, session: Session, size: int, timeout: float) -> tuple[str, ...]:
        """Read on from where we are; what is beyond the limit is thrown away at the host."""
        self.capture.rewind(beginning=False)
        name = digest(self.job)
        seen = self.capture.seen
        answer = session.call(
            "_o_peek",
            name,
            str(seen["stdout"] + 1),
            str(seen["stderr"] + 1),
            str(size),
            timeout=timeout,
            write=self.capture,
        )
        for stream in self.capture.cut:
            session.call("_o_cut", name, "out" if stream == "stdout" else "err", timeout=timeout)
        return answer

    def _concluded(self, answer: tuple[str, ...]) -> Output:
        match answer[0]:
            case "done":
                self._rest()
                return self.ended(int(answer[1]))
            case "exists":
                state = " ".join(answer[1:])
                return self.output(
                    "unknown",
                    reason=f"this attempt was already started on the host ({state}); it was not "
                    "started again",
                    state=state,
                    lost=True,
                )
            case "fenced":
                return Output(outcome="failed", sent=False, reason=fenced(tail(self.noise)))
            case "refused" | "claimed" | "none" | "barred":
                why = tail(self.noise) or "no room for its files on the host"
                return Output(outcome="failed", sent=False, reason=f"not started: {why}")
            case _:
                reason = "its shell on the host was ended before it could say how it went"
                return self.output("unknown", reason=reason, lost=True)

    def _rest(self) -> None:
        """Fetch what is beyond the beginning that came with the answer."""
        limit = self.job.host.connection.max_output
        if any(self.capture.told(stream) >= _INLINE for stream in self.capture.seen):
            self.fetch(self.session, limit + 1, max(60.0, self.end - time.monotonic()))

    def _stop(self) -> Output:
        """Out of time: end the command over another shell, and hear how it went."""
        verdict = end_change(self.target, self.user, digest(self.job), GRACE)
        answer = None
        with suppress(LostError):
            answer = self._poll(3.0)
        if verdict == "ended" and answer is not None:
            return self._concluded(answer)
        self.session.clean = answer is not None
        if verdict == "confirmed gone":
            return self.output("failed", reason=self.late(verdict))
        return self.output("unknown", reason=self.late(verdict), lost=answer is None)

    def late(self, verdict: str) -> str:
        return f"timed out after {self.job.timeout:g} s, {worded(verdict)}"

    def ended(self, status: int) -> Output:
        if status == 0:
            return self.output("succeeded", status=0)
        return self.output("failed", status=status, reason=f"exit status {status}")

    def output(
        self,
        outcome: Outcome,
        *,
        status: int | None = None,
        reason: str = "",
        state: str = "",
        lost: bool = False,
    ) -> Output:
        evidence: dict[str, Json] = {"state": state} if state else {}
        if self.capture.cut:
            evidence["cut"] = sorted(self.capture.cut)
        return Output(
            outcome=outcome,
            status=status,
            stdout=self.capture.stdout,
            reason=reason,
            lost=lost,
            evidence=evidence,
        )
