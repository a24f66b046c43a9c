"""Finding again and stopping, where the far sh is dash, bash or busybox, or allows one session."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.drivers.command import digest
from opskit.drivers.local import LocalLink, LocalWire
from opskit.drivers.words import words
from opskit.model.job import Job
from opskit.model.runbook import Effect
from opskit.model.text import text
from opskit.model.work import Command
from tests.drivers.kit import SHELLS, Kit, here, kit
from tests.support.sshd import sshd

pytestmark = pytest.mark.acceptance
effects = pytest.mark.parametrize("effect", ["read", "change"])
TREE = """
(trap '' TERM; (sleep 903; true) & sleep 903; true) &
setsid sh -c '(sleep 903; true) & sleep 903; true' &
"""
LEAVES = "(env -i setsid sh -c 'sleep 904; true' 9>&- >/dev/null 2>&1 </dev/null &)\n"


PLAIN = pytest.param("dash", marks=pytest.mark.soak)  # the sh of most of the other tests


@pytest.fixture(params=[PLAIN, *sorted(SHELLS.keys() - {"dash"}), "one session"])
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    """A host with one of the shells, or whose sshd allows one session for each connection."""
    run = tmp_path.name  # what it leaves is known by that
    with served(request.param, tmp_path, run) as made:
        yield made
        made.targets.close()


@contextmanager
def served(kind: str, folder: Path, run: str) -> Iterator[Kit]:
    if kind == "one session":
        with sshd(folder / "sshd", "MaxSessions 1") as server:
            yield kit(server.host(state_dir=str(folder / "state")), run)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalLink, "shell", lambda self, become: LocalWire(SHELLS[kind]))
        yield kit(here(str(folder / "state")), run)


def sent(far: Kit, line: str) -> Job:
    """Send a change, and lose the line at once."""
    contact = far.targets.open(far.host.name, writes=True)
    work = Command(text=text(line))
    job = replace(far.job(work, key="k"), contact=contact)
    session = far.targets._of(job).session(None, writes=True)
    session.begin("_o_change", digest(job), "65536", *words(job, work))
    return job


def again(far: Kit) -> Kit:
    for target in far.targets._targets.values():
        target.close()
    return kit(far.host, far.run)


def come(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


def test_what_runs_is_followed_and_what_never_began_never_will(far: Kit, tmp_path: Path) -> None:
    job = sent(far, f"seq 1 20000; touch {tmp_path}/mark; sleep 1.2; echo end; exit 7")
    come(tmp_path / "mark")
    second = again(far)
    out = bytearray()
    output = second.targets.rejoin(job, lambda stream, data: out.extend(data), 20.0)
    assert (output.outcome, output.status) == ("failed", 7)
    assert out == b"".join(b"%d\n" % n for n in range(1, 20001)) + b"end\n"
    never = replace(job, key="never")
    output = second.targets.rejoin(never, lambda stream, data: None, 20.0)
    assert (output.outcome, output.sent, output.again) == ("failed", False, True)
    second.targets.close()


def test_no_part_of_an_outcome_is_taken_for_one(far: Kit, tmp_path: Path) -> None:
    """The file rc cut short at any byte, as a crash of its host leaves it, or full of rubbish."""
    job = sent(far, f"touch {tmp_path}/mark; exit 0")
    come(tmp_path / "mark")
    second = again(far)
    assert second.targets.rejoin(job, lambda s, d: None, 9.0).outcome == "succeeded"
    rc = tmp_path / "state" / "runs" / far.run / f"{digest(job)}.rc"
    whole = rc.read_bytes()
    assert whole.startswith(b"0 .\n")
    pid = b"p%d 5\n" % (os.getpid())
    texts = [whole[:1], whole[:2], *(pid[:n] for n in range(1, len(pid) + 1))]
    texts += [b"\xff\xfe" * 9, b". .\n", b"p .\n", b"x .\n", b"0x .\n", b"-1 .\n", b"0. .\n"]
    for known in texts:
        rc.write_bytes(known)
        output = second.targets.rejoin(job, lambda s, d: None, 0.0)
        assert output.outcome != "succeeded", known
        assert output.outcome == "unknown" or not output.sent, known
        rc.with_suffix(".bar").unlink(missing_ok=True)
    rc.unlink()
    rc.with_suffix(".out").unlink()
    output = second.targets.rejoin(replace(job, contact=None), lambda s, d: None, 0.0)
    assert output.outcome == "unknown"
    second.targets.close()


@effects
def test_three_generations_are_ended_and_who_left_is_told_of(far: Kit, effect: Effect) -> None:
    mark = f"MARK={far.run}.{effect}"
    tree = f"export {mark}\n{TREE}{LEAVES.replace('env -i', f'env -i {mark}')}sleep 903; true"
    far.do("true", effect=effect)

    def stop() -> None:
        end = time.monotonic() + 60
        while len(marked(mark)) < 8 and time.monotonic() < end:
            time.sleep(0.05)
        far.targets.stop(0.5)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        output = far.do(tree, effect=effect).output
        stopper.join()
        left = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in marked(mark)]
        assert sorted(left) == [b"sh\0-c\0sleep 904; true\0", b"sleep\x00904\0"]
        assert output.evidence["stopped"] == "can't tell"
        assert output.outcome == ("unknown" if effect == "change" else "failed")
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Look for processes behind opskit's back."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found
