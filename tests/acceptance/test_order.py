"""No change is sent before its event is on the disk, and nothing after a record that can't be kept.

strace sees when opskit's store is written and synced, and spoils that on cue; a tap before each
host's shell hears when a change arrives there.
"""

import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from typing import Any

import pytest

from opskit.lab import Lab
from opskit.lab.layout import Mode
from tests.support import strace
from tests.support.fleet import Fleet
from tests.support.strace import Sync, Write
from tests.support.tap import Tap, tapped

pytestmark = pytest.mark.acceptance

DELAY = 0.05
"""Seconds that each sync is made to take longer, so that who does not wait for it is seen."""


@pytest.fixture(scope="module")
def tap(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tap]:
    if lab.layout.mode is not Mode.NAMESPACES:
        pytest.skip("hosts without files of their own have no sh of their own")
    with tapped(lab, tmp_path_factory.mktemp("tap") / "tap") as found:
        yield found


def traced(fleet: Fleet, tap: Tap | None, log: Path, *more: str, words: tuple[str, ...]) -> int:
    """Run opskit under strace; return its exit status."""
    path = f"{tap.folder}/bin:" if tap else ""
    done = subprocess.run(
        [*strace.words(log, *more), sys.executable, "-m", "opskit", *words],
        env={**fleet.environ, "PATH": f"{path}/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd=fleet.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
        text=True,
    )
    (fleet.folder / "said").write_text(done.stdout + done.stderr)
    return done.returncode


@dataclass(kw_only=True)
class Mailbox:
    """An HTTP server that notes when each request came."""

    came: list[float] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    found = Mailbox()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.came.append(time())
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """A test's output is for the test."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


STEPS = """
  - {{name: one, run: 'true {word}', undo: [{{run: 'true back one'}}]}}
  - {{name: file, upload: {{src: file.bin, dest: /tmp/{word}.bin}}}}
  - {{name: here, run: 'true here', on: controller}}
  - {{name: page, http: {{url: 'http://127.0.0.1:{port}/', method: POST, body: x}}, on: once}}
  - {{name: as root, run: 'true root', sudo: root, unless: 'false'}}
  - name: again
    run: 'test -e ~/once.{word} || {{ touch ~/once.{word}; exit 1; }}'
    retry: {{times: 1, backoff: 1ms}}
  - {{name: bad, run: exit 1, undo: [{{run: 'true back bad'}}]}}
always:
  - {{name: last, run: 'true last'}}
"""


def synced(seen: list[Write | Sync], wanted: bytes) -> tuple[Write, Sync]:
    """Return the write that brought an event into the log, and the first sync after that."""
    log = [one for one in seen if one.file.endswith("-wal")]
    write = next(w for w in log if isinstance(w, Write) and re.search(wanted, w.data))
    sync = next(s for s in log if isinstance(s, Sync) and s.began >= write.at)
    return write, sync


def started(key: str, attempt: int) -> bytes:
    """Return a pattern for the event that says that an action was started, as it is stored."""
    where = re.escape(f'"key":"{key}","kind":"step started"').encode()
    return rb'\{"attempt":%d,"data":\{[^{}]*\},"host":"[^"]*",' % attempt + where


def names(events: list[dict[str, Any]]) -> dict[str, tuple[str, int]]:
    """Return each attempt that was started by the name of its files on the host."""
    found = {}
    for event in (e for e in events if e["event"] == "step started"):
        key, attempt = event["key"], event["attempt"]
        found[hashlib.sha256(f"{key}\0{attempt}".encode()).hexdigest()[:32]] = key, attempt
    return found


def test_every_change_comes_after_the_sync_of_its_event(
    fleet: Fleet, tap: Tap, mailbox: Mailbox
) -> None:
    (fleet.folder / "file.bin").write_bytes(b"\0" + b"bytes" * 10_000)
    word = fleet.folder.name
    fleet.runbook(STEPS.format(word=word, port=mailbox.port), "on_failure: undo\nbatches: [1]\n")
    log = fleet.folder / "strace.log"
    tap.clear()
    slow = ("-e", f"inject=fdatasync,fsync:delay_exit={int(DELAY * 1_000_000)}")
    words = ("run", "t.yaml", "--limit", "web1:web2", "--yes")
    assert traced(fleet, tap, log, *slow, words=words) == 1, (fleet.folder / "said").read_text()
    seen, left = list(strace.read(log)), names(fleet.events())

    def waited(at: float, key: str, attempt: int = 1) -> None:
        write, sync = synced(seen, started(key, attempt))
        assert write.at < sync.began < sync.ended
        assert at >= sync.ended + DELAY * 0.9, f"{key} was sent before its event was synced"

    changes = 0
    for frame in tap.frames():
        if frame.function == "_o_change":
            changes += 1
            waited(frame.at / 1e9, *left.pop(frame.words[0]))
        elif frame.function == "_o_take":
            waited(frame.at / 1e9, f"2/{frame.host}")
        elif frame.function == "_o_open" or (frame.function == "_o_hello" and frame.words[3:]):
            made, sync = synced(seen, rb'"kind":"run created"')
            assert made.at < sync.ended < frame.at / 1e9, "a directory was made too soon"
    for at in mailbox.came:
        waited(at, "4/web1")
    assert changes >= 12
    assert len(mailbox.came) == 1
    assert {key.partition("/")[0] for key, _ in left.values()} == {"4"}, "the rest went to shells"


# ---- a record that can't be kept

START = rb'"kind":"step started"'
TALLY = "\n".join(f"  - {{name: s{n}, run: 'echo s{n} >>~/{{{{ tally }}}}'}}" for n in range(12))
FAULTS = {
    "the disk is full": "pwrite64:error=ENOSPC",
    "the disk fails to sync": "fdatasync,fsync:error=EIO",
    "the disk fails to write": "pwrite64:error=EIO",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_sent_once_the_record_cannot_be_kept(fleet: Fleet, fault: str) -> None:
    fleet.runbook(TALLY + "\n", "params: {tally: {type: string}}\n")
    fleet.opskit("runs")
    whole = fleet.folder / "whole.log"
    assert traced(fleet, None, whole, words=run(fleet, "whole")) == 0
    for at in moments(list(strace.read(whole)), Sync if "sync" in FAULTS[fault] else Write):
        tally = f"{at}.{len(fault)}"
        cue = f"inject={FAULTS[fault]}:when={at}+"
        status = traced(fleet, None, fleet.folder / "log", "-e", cue, words=run(fleet, tally))
        said = (fleet.folder / "said").read_text()
        assert status != 0, said
        assert "Traceback" not in said
        assert "the record can't be " in said
        assert fault in said or "sync" in fault or "write" in fault
        begun = {(e["host"], e["step"]) for e in fleet.events() if e["event"] == "step started"}
        for host in ("web1", "web2"):
            did = fleet.sh(host, f"cat ~ops/{tag(fleet, tally)} 2>/dev/null").split()
            assert len(did) == len(set(did)), did
            assert {(host, step) for step in did} <= begun, f"{host} did what is not in the record"


def tag(fleet: Fleet, tally: str) -> str:
    return f"tally.{fleet.folder.name}.{tally}"


def run(fleet: Fleet, tally: str) -> tuple[str, ...]:
    limit = ("--limit", "web1:web2")
    return ("run", "t.yaml", *limit, "--yes", "-p", f"tally={tag(fleet, tally)}")


def moments(calls: list[Write | Sync], of: type[Write | Sync], number: int = 3) -> list[int]:
    """Choose calls, of those that one thread makes, from which on all of its calls are to fail.

    The thread is the one that writes the record; the others are to be past theirs by then.
    """
    writer = next(c.thread for c in calls if isinstance(c, Write) and re.search(START, c.data))
    mine = [c.thread == writer for c in calls if isinstance(c, of)]
    first, last = mine.count(False) + 1, mine.count(True) - 2
    assert first < last, "the other threads write as often: no call tells them apart"
    return sorted({first + (last - first) * n // (number - 1) for n in range(number)})
