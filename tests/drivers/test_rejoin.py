"""A change that was sent and lost from sight: what its host tells about it afterwards."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.drivers.command import digest
from opskit.drivers.words import words
from opskit.errors import OpskitError
from opskit.model.job import Contact, Job, Output, Trace
from opskit.model.text import text
from opskit.model.work import Command, Remove, Upload
from tests.drivers.kit import RUN, Kit, kit

pytestmark = pytest.mark.acceptance

STATE = f"state/runs/{RUN}"


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.acceptance)])
def first(request: pytest.FixtureRequest) -> Kit:
    """The process that sends a change."""
    made: Kit = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def second(first: Kit) -> Iterator[Kit]:
    """Another one, which comes after it."""
    made = kit(first.host)
    yield made
    made.targets.close()


def sent(first: Kit, line: str, *, key: str = "k", timeout: float = 30.0) -> Job:
    """Send a change and lose the line at once; return the job with what was heard before."""
    contact = first.targets.open(first.host.name, writes=True)
    work = Command(text=text(line))
    job = replace(first.job(work, key=key, timeout=timeout), contact=contact)
    session = first.targets._of(job).session(None, writes=True)
    session.begin("_o_change", digest(job), "65536", *words(job, work))
    return job


def prepared(first: Kit, line: str = "true") -> Job:
    """Return a job that was recorded as started and never sent."""
    contact = first.targets.open(first.host.name, writes=True)
    return replace(first.job(Command(text=text(line)), key="k"), contact=contact)


def away(first: Kit) -> None:
    """Lose the line."""
    for target in first.targets._targets.values():
        target.close()


def told(second: Kit, job: Job, left: float = 20.0) -> tuple[Output, bytes]:
    out = bytearray()
    output = second.targets.rejoin(job, lambda stream, data: out.extend(data), left)
    return output, bytes(out)


def wait(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


def test_what_ended_meanwhile_is_told_with_all_its_output(
    first: Kit, second: Kit, tmp_path: Path
) -> None:
    lines = f"seq 1 50000; echo x >>{tmp_path}/mark; exit 7"
    job = sent(first, lines)
    away(first)
    wait(tmp_path / "mark")
    output, out = told(second, job)
    assert (output.outcome, output.status, output.sent) == ("failed", 7, True)
    assert out == b"".join(b"%d\n" % n for n in range(1, 50001))
    assert told(second, job) == (output, out)  # as often as it is asked
    assert (tmp_path / "mark").read_text() == "x\n"


def test_what_still_runs_is_followed_to_its_end(first: Kit, second: Kit, tmp_path: Path) -> None:
    """What is printed on one stream is told before what comes later on the other."""
    heard = f"for i in $(seq 200); do [ -e {tmp_path}/heard ] && break; sleep 0.05; done"
    job = sent(first, f"echo a; touch {tmp_path}/mark; sleep 1.5; echo b >&2; {heard}; echo c")
    wait(tmp_path / "mark")
    away(first)
    out = bytearray()

    def write(stream: str, data: bytes) -> None:
        out.extend(data)
        if b"b" in data:
            (tmp_path / "heard").touch()

    output = second.targets.rejoin(job, write, 20.0)
    assert (output.outcome, output.status) == ("succeeded", 0)
    assert bytes(out) == b"a\nb\nc\n"
    assert output.stdout == b"a\nc\n"


def test_what_never_began_never_will(first: Kit, second: Kit, tmp_path: Path) -> None:
    job = prepared(first, f"touch {tmp_path}/mark")
    output, _ = told(second, job)
    assert (output.outcome, output.sent, output.again) == ("failed", False, True)
    late = first.targets.perform(job, lambda stream, data: None)  # what was still on its way
    assert late.outcome != "succeeded"
    assert not (tmp_path / "mark").exists()
    assert told(second, job)[0] == output
    anew = replace(job, attempt=2)
    assert second.targets.perform(anew, lambda stream, data: None).outcome == "succeeded"
    assert (tmp_path / "mark").exists()


def test_what_was_claimed_and_never_began_never_will(
    first: Kit, second: Kit, tmp_path: Path
) -> None:
    job = prepared(first)
    (tmp_path / STATE / f"{digest(job)}.rc").write_text("\n" + " " * 100)
    output, _ = told(second, job)
    assert (output.outcome, output.sent, output.again) == ("failed", False, True)
    assert (tmp_path / STATE / f"{digest(job)}.out").exists()


def test_what_was_killed_is_unknown(first: Kit, second: Kit, tmp_path: Path) -> None:
    job = sent(first, f"touch {tmp_path}/mark; sleep 30")
    wait(tmp_path / "mark")
    away(first)
    pid = int((tmp_path / STATE / f"{digest(job)}.rc").read_text().split()[0][1:])
    os.killpg(pid, signal.SIGKILL)
    output, _ = told(second, job)
    assert (output.outcome, output.lost, output.again) == ("unknown", False, False)
    assert "ended on the host before it could say" in output.reason


def of_another_boot(contact: Contact | None) -> Contact:
    assert contact is not None
    return replace(contact, boot_id="0c0ffee0")


def test_after_a_reboot_only_an_end_that_was_written_counts(
    first: Kit, second: Kit, tmp_path: Path
) -> None:
    job = sent(first, f"touch {tmp_path}/mark; sleep 30")
    wait(tmp_path / "mark")
    ended = sent(second, f"touch {tmp_path}/other", key="other")
    wait(tmp_path / "other")
    away(first)
    away(second)
    for one, outcome in ((job, "unknown"), (ended, "succeeded")):
        then = replace(one, contact=of_another_boot(one.contact))
        assert told(second, then)[0].outcome == outcome
    never = replace(job, key="never", contact=of_another_boot(job.contact))
    output, _ = told(second, never)
    assert (output.outcome, output.again) == ("unknown", False)
    assert "started anew" in output.reason
    assert told(second, job, left=0.0)[0].outcome == "failed"


def test_where_traces_were_removed_nobody_can_tell(first: Kit, second: Kit, tmp_path: Path) -> None:
    job = prepared(first)
    (tmp_path / STATE / "nonce").unlink()
    output, _ = told(second, job)
    assert (output.outcome, output.again, output.lost) == ("unknown", False, False)
    assert "were removed" in output.reason
    unheard = replace(job, contact=None)
    assert told(second, unheard)[0].outcome == "unknown"


@pytest.mark.parametrize("text", ["p", "p1", "7", "7 ", "", "x y z", "p4194999 ?\n"])
def test_half_an_outcome_is_none(first: Kit, second: Kit, tmp_path: Path, text: str) -> None:
    job = prepared(first)
    (tmp_path / STATE / f"{digest(job)}.rc").write_text(text)
    (tmp_path / STATE / f"{digest(job)}.out").write_text("")
    output, _ = told(second, job)
    assert (output.outcome, output.again, output.lost) == ("unknown", False, False)


def test_what_is_out_of_time_is_ended(first: Kit, second: Kit, tmp_path: Path) -> None:
    job = sent(first, f"echo a; touch {tmp_path}/mark; sleep 60; touch {tmp_path}/after")
    wait(tmp_path / "mark")
    away(first)
    output, out = told(second, job, left=0.3)
    assert output.outcome == "failed"
    assert output.reason == "timed out after 30 s, confirmed gone"
    assert out.startswith(b"a\n")
    assert not (tmp_path / "after").exists()


def test_a_person_can_stop_what_was_found(first: Kit, second: Kit, tmp_path: Path) -> None:
    job = sent(first, f"touch {tmp_path}/mark; sleep 60")
    wait(tmp_path / "mark")
    away(first)
    second.targets.open(second.host.name, writes=True)
    stopped: list[object] = []

    def stop() -> None:
        end = time.monotonic() + 60
        while not (found := second.targets.stop(1.0)) and time.monotonic() < end:
            time.sleep(0.05)
        stopped.append(found)

    stopper = threading.Thread(target=stop)
    stopper.start()
    output, _ = told(second, job, 60.0)
    stopper.join()
    assert stopped == [{"k": "confirmed gone"}]
    assert output.outcome == "failed"
    assert output.evidence["stopped"] == "confirmed gone"


def test_a_host_that_is_gone_can_not_be_asked(first: Kit, tmp_path: Path) -> None:
    job = prepared(first)
    nowhere = kit(replace(first.host, name="gone", address="127.0.0.1"))
    there = nowhere.host.connection
    how = replace(there, port=1, connect_timeout=2.0)
    nowhere = kit(replace(nowhere.host, connection=how))
    output = nowhere.targets.rejoin(replace(job, host=nowhere.host), lambda stream, data: None, 1.0)
    assert (output.outcome, output.lost) == ("unknown", True)


def test_an_upload_and_its_undo_are_found_too(first: Kit, second: Kit, tmp_path: Path) -> None:
    contact = first.targets.open(first.host.name, writes=True)
    work = Upload(content=text("hello\n"), dest=text(f"{tmp_path}/it"))
    job = replace(first.job(work, key="up"), contact=contact)
    done = first.targets.perform(job, lambda stream, data: None)
    found, _ = told(second, job)
    assert (found.outcome, dict(found.evidence)) == ("succeeded", dict(done.evidence))
    undo = replace(first.job(Remove(dest=work.dest, of="up"), key="back"), contact=contact)
    assert told(second, undo)[0].again
    undo = replace(undo, attempt=2)
    first.targets.perform(undo, lambda stream, data: None)
    assert told(second, undo)[0].outcome == "succeeded"


def test_of_the_one_that_starts_and_the_one_that_bars_one_wins(
    first: Kit, second: Kit, tmp_path: Path
) -> None:
    contact = first.targets.open(first.host.name, writes=True)
    second.targets.open(second.host.name, writes=True)
    won = {True: 0, False: 0}
    for turn in range(60):
        mark = tmp_path / f"mark{turn}"
        work = Command(text=text(f"echo x >>{mark}"))
        job = replace(first.job(work, key=f"race{turn}"), contact=contact)
        starter = threading.Thread(
            target=first.targets.perform, args=(job, lambda stream, data: None)
        )
        starter.start()
        time.sleep(0.0004 * (turn % 20))
        output, _ = told(second, job)
        starter.join()
        assert output.outcome in ("succeeded", "failed")
        assert mark.exists() is (not output.again), output
        won[output.again] += 1
        with suppress(OpskitError):
            assert told(second, job)[0].again is output.again
    assert won[True]
    assert won[False]


# --- who only looks ---


def looked(first: Kit, job: Job) -> Trace:
    """Look at a change as somebody does who is about to decide: nothing is made there."""
    here = Path(first.host.connection.state_dir)
    before = sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in here.rglob("*"))
    other = kit(first.host)
    try:
        found = other.targets.tell(job, 10.0)
    finally:
        other.targets.close()
    after = sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in here.rglob("*"))
    assert after == before
    return found


def test_a_look_tells_what_has_ended(first: Kit, second: Kit, tmp_path: Path) -> None:
    job = sent(first, f"echo x >>{tmp_path}/mark; exit 7")
    wait(tmp_path / "mark")
    assert told(second, job)[0].status == 7
    assert looked(first, job) == Trace(state="ended", says="it has ended, with status 7", status=7)


def test_a_look_tells_what_still_runs_and_leaves_it_alone(
    first: Kit, second: Kit, tmp_path: Path
) -> None:
    go = "n=0; while [ ! -e {0}/go ] && [ $n -lt 600 ]; do n=$((n+1)); sleep 0.05; done"
    line = f"echo x >>{tmp_path}/mark; {go.format(tmp_path)}; echo y >>{tmp_path}/mark"
    job = sent(first, line)
    wait(tmp_path / "mark")
    assert looked(first, job).state == "running"
    (tmp_path / "go").touch()
    assert told(second, job)[0].outcome == "succeeded"
    assert (tmp_path / "mark").read_text() == "x\ny\n"


def test_a_look_keeps_nothing_from_beginning(first: Kit, tmp_path: Path) -> None:
    job = prepared(first, f"echo x >>{tmp_path}/mark")
    assert looked(first, job).state == "never began"
    session = first.targets._of(job).session(None, writes=True)
    assert isinstance(job.work, Command)
    session.call("_o_change", digest(job), "65536", *words(job, job.work), timeout=20)
    assert (tmp_path / "mark").read_text() == "x\n"


def test_a_look_says_what_it_can_not_tell(first: Kit) -> None:
    job = prepared(first)
    contact = job.contact
    assert contact is not None
    other = replace(job, contact=replace(contact, nonce="0" * 32))
    assert looked(first, other).says == "it has no traces of this run any more"
    booted = replace(job, contact=replace(contact, boot_id="0"))
    assert "started anew since" in looked(first, booted).says


def test_a_look_says_of_a_host_that_it_is_not_there(first: Kit) -> None:
    job = prepared(first)
    away = replace(job.host, connection=replace(job.host.connection, port=1))
    if first.host.name == "controller":
        pytest.skip("this machine is always there")
    found = kit(away).targets.tell(replace(job, host=away), 5.0)
    assert (found.state, "it can't be asked" in found.says) == ("unreachable", True)
