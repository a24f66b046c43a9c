"""Files and trees: sent aside, checked, renamed into place; and taken back."""

import hashlib
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

from opskit.drivers import archive, command
from opskit.drivers import rejoin as find
from opskit.drivers.session import Session, Write, drop
from opskit.drivers.target import Running, Target
from opskit.drivers.wire import LostError, Stream
from opskit.errors import InputError, OpskitError, UnreachableError
from opskit.model.frozen import frozen
from opskit.model.job import Job, Output
from opskit.model.text import Text, text
from opskit.model.value import Json
from opskit.model.work import Command, FileRef, Remove, Upload

_SMALL = 16 * 1024
_LOOK_FIRST = 256 * 1024
_CHUNK = 256 * 1024
_SHOWN = 256 * 1024


@frozen
class _Parcel:
    """What is to be sent. `small` is the content where it fits into a request."""

    path: Path | None
    small: str | None
    content: bytes
    size: int
    sha256: str
    tree: archive.Tree | None

    def parts(self) -> Iterator[bytes]:
        if self.path is None:
            yield self.content
            return
        left = self.size
        with self.path.open("rb") as file:
            while left and (data := file.read(min(_CHUNK, left))):
                left -= len(data)
                yield data
        if left:
            yield b"\0" * left  # shorter than when it was planned: the checksum will tell


@cache
def installer() -> str:
    """Return the text of `install.sh`."""
    return resources.files("opskit.drivers").joinpath("install.sh").read_text("utf-8")


def perform(target: Target, job: Job, work: Upload, write: Write) -> Output:
    """Put the content at its place; what stood there is remembered for `remove`."""
    end = time.monotonic() + job.timeout
    user = command.user_of(job, work.sudo)
    dest = work.dest.fixed()
    try:
        parcel = _parcel(work)
        session = target.session(user, writes=True)
    except UnreachableError as error:
        return command.unreachable(error)
    except (OpskitError, OSError) as error:
        return Output(outcome="failed", sent=False, reason=str(error))
    if not session.nonce:
        return command.closed(job, session)
    if parcel.size > _LOOK_FIRST:
        seen = _look(target, job, work, parcel)
        if seen.evidence.get("same"):
            same: dict[str, Json] = {"created": False, "changed": False, "sha256": parcel.sha256}
            return Output(outcome="succeeded", status=0, evidence=same)
    aside = _aside(dest, "opskit", job.run)
    if parcel.small is None:
        running = target.running = Running(
            key=job.key, attempt=job.attempt, user=user, session=session
        )
        failed = _send(target, running, aside, parcel, end)
        if failed is not None:
            return running.judged(failed)
    words = _words(session, job, work, parcel, aside)
    given = text(parcel.small) if parcel.small is not None else None
    left = replace(job, timeout=max(1.0, end - time.monotonic()))
    output = _install(target, left, words, write, sudo=work.sudo, stdin=given)
    return _told(output, {"sha256": parcel.sha256, "size": parcel.size})


def remove(target: Target, job: Job, work: Remove, write: Write) -> Output:
    """Take back what the upload with key `work.of` did in this run; nothing done: nothing to do."""
    user = command.user_of(job, work.sudo)
    try:
        session = target.session(user, writes=True)
    except UnreachableError as error:
        return command.unreachable(error)
    if not session.nonce:
        return command.closed(job, session)
    dest = work.dest.fixed()
    words = ("back", dest, _keep(session, job.run, work.of), _aside(dest, "removed", job.run))
    return _told(_install(target, job, words, write, sudo=work.sudo), {})


def rejoin(target: Target, job: Job, work: Upload | Remove, write: Write, left: float) -> Output:
    """Say what became of an upload, or of its undo, that was sent before."""
    output = _aloud(write, lambda heard: find.rejoin(target, job, work.sudo, heard, left))
    if isinstance(work, Remove):
        return _told(output, {})
    content = work.content
    if isinstance(content, FileRef):
        return _told(output, {"sha256": content.sha256, "size": content.size})
    parcel = _parcel(work)
    return _told(output, {"sha256": parcel.sha256, "size": parcel.size})


def probe(target: Target, job: Job, work: Upload) -> Output:
    """Say what stands at the destination, and whether it is what would be put there."""
    try:
        parcel = _parcel(work)
    except (OpskitError, OSError) as error:
        return Output(outcome="failed", sent=False, reason=str(error))
    return _look(target, replace(job, capture=_SHOWN + 4096), work, parcel)


def _look(target: Target, job: Job, work: Upload, parcel: _Parcel) -> Output:
    words = ("look", work.dest.fixed(), "1" if work.unpack else "0", str(_SHOWN))
    ask = Command(text=text(installer()), args=tuple(text(w) for w in words), sudo=work.sudo)
    output = command.perform(target, replace(job, work=ask, effect="read"), ask, drop)
    if output.outcome != "succeeded":
        return output
    return replace(output, stdout=b"", evidence=_seen(output.stdout, work, parcel))


def _seen(stdout: bytes, work: Upload, parcel: _Parcel) -> dict[str, Json]:
    head, found, content = stdout.partition(b"content yes\n")
    said = _pairs(head)
    seen: dict[str, Json] = {"exists": "nothing" not in said, "sha256": said.get("sha256")}
    seen["size"] = int(said["size"]) if "size" in said else None
    seen["mode"] = said.get("mode")
    seen["text"] = _readable(content) if found else None
    if parcel.tree is not None:
        seen["same"] = said.get("manifest") == parcel.tree.manifest
    else:
        seen["same"] = said.get("sha256") == parcel.sha256 and _same_mode(work.mode, said)
    for kind in ("link", "directory"):
        if kind in said:
            seen["kind"] = kind
    return seen


def _same_mode(mode: str | None, said: Mapping[str, str]) -> bool:
    return mode is None or int(mode, 8) == int(said.get("mode", "0"), 8)


def _readable(content: bytes) -> str | None:
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _parcel(work: Upload) -> _Parcel:
    if isinstance(work.content, Text):
        data = work.content.fixed().encode("utf-8", "surrogateescape")
        return _whole(data, hashlib.sha256(data).hexdigest())
    return _file(work.content, unpack=work.unpack)


def _whole(data: bytes, sha256: str) -> _Parcel:
    fits = len(data) <= _SMALL and b"\0" not in data
    return _Parcel(
        path=None,
        small=data.decode("utf-8", "surrogateescape") if fits else None,
        content=data,
        size=len(data),
        sha256=sha256,
        tree=None,
    )


def _file(ref: FileRef, *, unpack: bool) -> _Parcel:
    path = Path(ref.path)
    size = path.stat().st_size
    if size != ref.size:
        raise InputError(
            f"it has changed since the plan was made: {size} bytes, not {ref.size}",
            where=ref.path,
            hint="plan again",
        )
    if not unpack and ref.size <= _SMALL:
        return _whole(path.read_bytes(), ref.sha256)
    tree = archive.inspect(path, ref.sha256) if unpack else None
    return _Parcel(path=path, small=None, content=b"", size=ref.size, sha256=ref.sha256, tree=tree)


def _send(
    target: Target, running: Running, aside: str, parcel: _Parcel, end: float
) -> Output | None:
    """Send the bytes into a file of their own; return what went wrong."""
    session, user = running.session, running.user
    assert session is not None
    try:
        why = session.give(aside, parcel.parts(), parcel.size, max(1.0, end - time.monotonic()))
    except LostError as error:
        why = error.what
    except TimeoutError:
        why = "it took too long"
    except OSError as error:
        why = f"it can't be read here ({error})"
    finally:
        target.running = None
        if not session.clean:
            target.discard(session)
    if not why:
        return None
    lost = not target.connected
    with suppress(OpskitError, TimeoutError):  # what got there is of no use, and may be large
        target.session(user, writes=True).call("_o_drop", aside, timeout=target.timeout)
    reason = f"the file did not get to the host: {why}"
    return Output(outcome="failed", sent=False, lost=lost, reason=reason)


def _words(
    session: Session, job: Job, work: Upload, parcel: _Parcel, aside: str
) -> tuple[str, ...]:
    dest = work.dest.fixed()
    keep = _keep(session, job.run, job.key)
    if parcel.tree is not None:
        partial = f"{dest.rstrip('/')}.partial.{job.run}"
        return ("tree", dest, aside, parcel.sha256, parcel.tree.manifest, keep, partial)
    given = "1" if parcel.small is not None else "0"
    return ("take", dest, aside, parcel.sha256, work.mode or "", keep, given)


def _keep(session: Session, run: str, key: str) -> str:
    """Where the host remembers what undo needs; it outlives the run's own directory there."""
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{session.state_dir}/undo/{run}/{name}"


def _aside(dest: str, what: str, run: str) -> str:
    folder, name = posixpath.split(dest.rstrip("/"))
    return f"{folder}/.{name[:180]}.{what}.{run}"


def _install(
    target: Target,
    job: Job,
    words: tuple[str, ...],
    write: Write,
    *,
    sudo: str | None,
    stdin: Text | None = None,
) -> Output:
    do = Command(
        text=text(installer()),
        args=tuple(text(word) for word in words),
        stdin=stdin,
        sudo=sudo,
    )
    return _aloud(write, lambda heard: command.perform(target, replace(job, work=do), do, heard))


def _aloud(write: Write, act: Callable[[Write], Output]) -> Output:
    """Pass on only what `install.sh` says on standard error; where it fails that is the reason."""
    errors = bytearray()

    def pass_on(stream: Stream, data: bytes) -> None:
        if stream == "stderr":
            errors.extend(data)
            write(stream, data)

    output = act(pass_on)
    if output.status and errors:
        return replace(output, reason=bytes(errors).decode("utf-8", "replace").strip()[-500:])
    return output


def _told(output: Output, more: Mapping[str, Json]) -> Output:
    """Turn what `install.sh` said into evidence."""
    said = {name: _word(value) for name, value in _pairs(output.stdout).items()}
    if output.outcome == "succeeded":
        said = {**said, **more}
    return replace(output, stdout=b"", evidence={**output.evidence, **said})


def _word(value: str) -> Json:
    return {"yes": True, "no": False}.get(value, value)


def _pairs(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}
