"""One attempt at a step of Redis commands: a read that is looked up, a change that is done once."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from opskit.drivers.redis.connection import BrokenError, EndedError, ServerError, TooLongError
from opskit.drivers.redis.flags import (
    LOSING,
    Known,
    Words,
    as_words,
    look,
    refusal,
    shown,
    unmarkable,
)
from opskit.drivers.redis.marks import Marks, Script
from opskit.drivers.redis.rejoin import (
    Then,
    concluded,
    returned_of,
    settled,
    within,
)
from opskit.drivers.redis.replies import Returned, as_expected
from opskit.drivers.redis.session import Access, Session, opened
from opskit.drivers.session import Write
from opskit.drivers.stop import Verdict
from opskit.drivers.target import Running, worded
from opskit.errors import UnreachableError
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.text import Text
from opskit.model.value import Json
from opskit.model.work import RedisCall

_MOST = 7000
"""Words of one command in a change: a script can hand over so many at once."""
SETTLING = 5.0
_HINTS = {
    "CROSSSLOT": "in a cluster all keys of a step must be in one slot: give them one {tag}",
    "MOVED": "in a cluster another node has this key: name that one in `url`",
    "ASK": "in a cluster this key is moving to another node: try again later",
    "OOM": "it has no memory left: see maxmemory and maxmemory-policy",
    "NOPERM": "the user may not do this: see the page on Redis",
    "READONLY": "it is a replica: name the master",
}


@mutable
class Doing:
    """An attempt under way. `at`: what is being done."""

    access: Access
    job: Job
    work: RedisCall
    running: Running
    until: float
    returned: Returned
    word: str
    at: str = "opening"
    more: dict[str, Json] = field(default_factory=dict)

    def watch(self) -> None:
        """End a wait that has become too long, or that a person has ended."""
        if self.running.give_up.is_set():
            raise EndedError(self.running.because)
        if time.monotonic() > self.until:
            raise EndedError(f"not over within {self.job.timeout:g} s")

    def output(self, outcome: str, reason: str = "", **more: object) -> Output:
        evidence = {**self.returned.evidence(), **self.more}
        return Output(outcome=outcome, reason=reason, evidence=evidence, **more)  # type: ignore[arg-type]


def perform(access: Access, job: Job, running: Running, write: Write, word: str) -> Output:
    """Do the work once. What goes wrong outside is in the output, never raised.

    `word`: what the key of the run has at the server.
    """
    work = job.work
    assert isinstance(work, RedisCall)
    read = job.effect == "read"
    doing = Doing(
        access=access, job=job, work=work, running=running, word=word,
        until=time.monotonic() + job.timeout, returned=returned_of(access, job, write),
    )  # fmt: skip
    try:
        session = opened(access, doing.watch, reads=read)
    except UnreachableError as error:
        return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
    except EndedError as error:
        stopped = running.proof("confirmed gone") if running.give_up.is_set() else {}
        return Output(outcome="failed", sent=False, reason=error.what, evidence=stopped)
    try:
        doing.more.update(session.identity.evidence(session.index))
        if read:
            return _read(doing, session)
        return _change(doing, session) if work.transaction else _alone(doing, session)
    finally:
        session.close()


def _words(texts: Sequence[Text]) -> Words:
    return as_words([text.fixed() for text in texts])


def _todo(work: RedisCall, evaluate: str = "EVAL") -> list[Words]:
    """Return the commands of a step; a script is one, too."""
    if work.script is None:
        return [_words(row) for row in work.commands]
    keys, args = _words(work.keys), _words(work.args)
    script = as_words([evaluate, work.script.fixed(), str(len(keys))])
    return [(*script, *keys, *args)]


def _unsent(reason: str) -> Output:
    return Output(outcome="failed", sent=False, reason=f"not sent: {reason}")


def _read(doing: Doing, session: Session) -> Output:
    """Send what the server says reads, once it has said so of each."""
    todo, name = _todo(doing.work, "EVAL_RO"), ""
    try:
        known = look(session.connection, todo)
        for number, words in enumerate(todo):
            if wrong := refusal(known.get(number), words):
                meant = "; say effect: change if it shall" if "is no read" in wrong else ""
                return _unsent(wrong + meant)
        doing.at = "reading"
        if doing.work.check is not None:
            return _figures(doing, session, todo)
        for words in todo:
            name = shown(words)
            doing.returned.take(session.connection.call(*words))
    except ServerError as error:
        return doing.output("failed", refused(error, name))
    except TooLongError as error:
        cure = "read less at once (SCAN, GETRANGE, LRANGE), or raise max_output"
        return doing.output("failed", f"{name}: {error.what}: {cure}")
    except BrokenError as error:
        return doing.output("failed", f"the line broke: {error.what}", lost=True)
    except EndedError as error:
        return _given_up(doing, error)
    if wrong := _unexpected(doing):
        return doing.output("failed", wrong, status=1)
    value = doing.returned.value() if doing.work.kept else b""
    return doing.output("succeeded", stdout=value, status=0)


def _figures(doing: Doing, session: Session, todo: list[Words]) -> Output:
    """Ask for the numbers of a health check; what they mean, the step kind says."""
    from opskit.drivers.redis import figures  # few runs check a server

    def pause(seconds: float) -> None:
        doing.running.give_up.wait(max(0.0, min(seconds, doing.until - time.monotonic())))
        doing.watch()

    try:
        found = figures.rows(session.connection, todo, doing.work, pause)
    except figures.NothingError as error:
        return doing.output("failed", str(error), status=1)
    except figures.IdleError as error:
        doing.more |= {"rows": 0, "idle": str(error)}
        return doing.output("succeeded", stdout=b"[]", status=0)
    assert isinstance(found, list)
    doing.more["rows"] = len(found)
    return doing.output("succeeded", stdout=json.dumps(found).encode(), status=0)


def _unexpected(doing: Doing) -> str:
    wanted = doing.work.expect
    return "" if wanted is None else as_expected(wanted.fixed(), doing.returned)


def refused(error: ServerError, name: str) -> str:
    hint = _HINTS.get(error.code, "")
    said = f"{name}: {error.what}" if name else error.what
    return f"{said}: {hint}" if hint else said


def _given_up(doing: Doing, error: EndedError) -> Output:
    """Wait no more for a read. It ends when the server sees that nobody listens."""
    verdict: Verdict = "can't tell" if doing.at == "reading" else "confirmed gone"
    doing.more.update(_proof(doing, verdict))
    reason = f"{error.what}, {worded(verdict)}; it changes nothing"
    if doing.work.script is not None and verdict == "can't tell":
        reason += "; a script that does not end holds up the server until somebody says SCRIPT KILL"
    return doing.output("failed", reason)


def _proof(doing: Doing, verdict: Verdict) -> Mapping[str, Json]:
    doing.running.stopped = verdict
    return doing.running.proof(verdict) if doing.running.give_up.is_set() else {"ended": verdict}


def unfit(access: Access, session: Session) -> str:
    """Return why no change with a mark can be made at a server; "" where one can."""
    if session.identity.role != "master":
        return f"{access.where} is a {session.identity.role}: nothing is changed there"
    if session.identity.clustered:
        return (
            f"{access.where} is part of a cluster, where opskit leaves no marks yet: make a step of"
            " each command, with transaction: none and done_when"
        )
    return ""


def _change(doing: Doing, session: Session) -> Output:
    """Do everything with its mark, in one script."""
    if wrong := unfit(doing.access, session) or _another(doing, session):
        return _unsent(wrong)
    try:
        what = _marked(doing, session)
        if isinstance(what, str):
            return _unsent(what)
        doing.at = "changing"
        return _done(doing, session, what)
    except ServerError as error:
        return doing.output("failed", refused(error, ""), sent=False)
    except EndedError as error:
        if doing.at == "changing":
            return _stopped(doing, session, error)
        stopped = _proof(doing, "confirmed gone")
        return Output(outcome="failed", sent=False, reason=error.what, evidence=stopped)
    except (BrokenError, TooLongError) as error:
        if doing.at == "changing":
            return doing.output("unknown", f"the line broke: {error.what}", lost=True)
        reason = f"the line broke: {error.what}"
        return doing.output("failed", reason, sent=False, unreachable=True)


def _another(doing: Doing, session: Session) -> str:
    """Return how a server is another one than the run has met there before."""
    met, found = doing.access.met, session.identity.run_id
    if not doing.word:
        return "the run has left no mark of itself there yet: resume it"
    if met in ("", found):
        return ""
    return (
        f"another process answers at {doing.access.where} than the one that this run has met"
        " there: it was started anew, or `url` leads elsewhere by now; look, then resume or undo it"
    )


def _marked(doing: Doing, session: Session) -> list[Words] | Script | str:
    """Return what a change hands to the script that does it, or why it can't be handed over."""
    work = doing.work
    if work.script is not None:
        text = as_words([work.script.fixed()])[0]
        return Script(text=text, keys=_words(work.keys), args=_words(work.args))
    todo = _todo(work)
    known = look(session.connection, todo)
    for number, words in enumerate(todo):
        if wrong := unmarkable(known.get(number), words):
            return wrong
        if len(words) > _MOST:
            return f"{shown(words)} has more than {_MOST} words: make several of it"
    return _losing(session, todo, known) or todo


def _losing(session: Session, todo: list[Words], known: Mapping[int, Known]) -> str:
    if {one.name for one in known.values()}.isdisjoint(LOSING):
        return ""
    from opskit.drivers.redis.losing import loses  # few runs throw anything away

    return loses(session, todo, known)


def _done(doing: Doing, session: Session, what: list[Words] | Script) -> Output:
    marks = Marks(session.connection, doing.job.run)
    try:
        before, mark = marks.do(doing.job, what, kept=doing.work.kept)
    except ServerError as error:
        found = marks.find(doing.job)
        if found is None:
            return doing.output("failed", f"{refused(error, '')}; nothing was done")
        return doing.output("unknown", error.what, lost=True)
    if before:
        return doing.output("unknown", "this attempt has left its mark before", lost=True)
    output = concluded(mark, doing.job, doing.returned)
    return replace(output, evidence={**output.evidence, **doing.more})


def _stopped(doing: Doing, session: Session, error: EndedError) -> Output:
    """What has reached the server can't be ended; what has not begun there can be barred."""
    session.close()
    identity = session.identity
    then = Then(
        run_id=identity.run_id,
        lineage=identity.lineage,
        word=doing.word,
        evicted=identity.evicted,
    )
    try:
        other = opened(doing.access, within(SETTLING), anybody=True)
    except (UnreachableError, EndedError):
        return _untold(doing, error)
    try:
        found = settled(other, doing.job, then, doing.returned)
    finally:
        other.close()
    if found.outcome == "unknown":
        return _untold(doing, error)
    proof = {**found.evidence, **doing.more, **_proof(doing, "confirmed gone")}
    if found.again:
        reason = f"{error.what}, confirmed gone; nothing of it was done"
        return Output(outcome="failed", reason=reason, evidence=proof)
    return replace(found, evidence=proof)


def _untold(doing: Doing, error: EndedError) -> Output:
    doing.more.update(_proof(doing, "can't tell"))
    stopped = doing.running.give_up.is_set()
    reason = f"{error.what}, can't tell whether it was done"
    return doing.output("unknown", reason, lost=not stopped)


def _alone(doing: Doing, session: Session) -> Output:
    """Send one command that leaves no mark; its `done_when` settles what is unsure."""
    (words,) = _todo(doing.work)
    name = shown(words)
    try:
        known = look(session.connection, [words])
        if not known:
            return _unsent(f"the server knows no command {name}")
        if wrong := _losing(session, [words], known):
            return _unsent(wrong)
        if session.identity.role != "master" and doing.access.server.role == "master":
            return _unsent(f"{doing.access.where} is no master: nothing is changed there")
        doing.at = "alone"
        doing.returned.take(session.connection.call(*words))
    except ServerError as error:
        return doing.output("failed", refused(error, name))
    except EndedError as error:
        doing.more.update(_proof(doing, "can't tell" if doing.at == "alone" else "confirmed gone"))
        outcome = "unknown" if doing.at == "alone" else "failed"
        return doing.output(outcome, error.what, sent=doing.at == "alone")
    except (BrokenError, TooLongError) as error:
        if doing.at == "alone":
            return doing.output("unknown", f"the line broke: {error.what}")
        return doing.output("failed", f"the line broke: {error.what}", sent=False, unreachable=True)
    if wrong := _unexpected(doing):
        return doing.output("failed", f"{wrong}; it was done all the same", status=1)
    return doing.output("succeeded", status=0)
