"""Messages in channels: real webhooks on loopback, and commands; none of them holds a run up."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opskit import load
from opskit.app.channels import Purse
from opskit.execute import Outside, Stop
from opskit.model.channel import Message
from opskit.notify.sending import Sender
from opskit.plan.make import make
from tests.support.database import until
from tests.support.planted import found_in, store_contents
from tests.support.webhooks import TOKEN, Chats, chats
from tests.support.world import Paper, World, no_files

pytestmark = pytest.mark.acceptance

HEAD = "opskit: 1\nname: job\nversion: 1.0.0\nsummary: a job\nparams: {word: {default: ''}}\n"
CHANNELS = """\
channels:
  chat: {webhook: ok, body: slack}
  hook: {webhook: json}
  broken: {webhook: broken, timeout: 2s}
  busy: {webhook: busy}
  hanging: {webhook: hanging, timeout: 1200ms}
  moved: {webhook: moved}
  echo: {webhook: echo}
  closed: {webhook: closed, timeout: 1s}
  untrusted: {webhook: untrusted, timeout: 1s}
  keyless: {webhook: keyless}
  patient: {webhook: hanging, timeout: 1m}
  odd: {webhook: odd}
  pager: {webhook: ok, severity: critical}
  mail: {command: 'env >FOLDER/env; cat >FOLDER/mail', secrets: {PASS: json}}
  dull: {command: 'echo no such mailbox >&2; exit 67'}
  slow: {command: 'sleep 60', timeout: 300ms}
  seldom: {webhook: json, every: 1h}
"""
HOSTILE = "a\n~!touch /tmp/pwned\n<!channel> @here <http://x|y> & \x1b[31mred \u202ereversed"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A folder with an inventory of channels, and opskit in it."""

    folder: Path
    chats: Chats

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")}
        urls = {
            "OK": self.chats.url("ok"), "JSON": self.chats.url("json"),
            "BROKEN": self.chats.url("500"), "BUSY": self.chats.url("busy"),
            "HANGING": self.chats.url("hang"), "MOVED": self.chats.url("moved"),
            "ECHO": self.chats.url("echo"), "ODD": f"ftp://127.0.0.1/{TOKEN}",
            "CLOSED": f"http://127.0.0.1:1/{TOKEN}", "PGPASSWORD": "of-the-store",
            "UNTRUSTED": f"https://127.0.0.1:{self.chats.tls}/ok/{TOKEN}",
        }  # fmt: skip
        return {**kept, **urls, "HOME": str(self.folder), "NO_COLOR": "1"}

    def write(self, steps: str, *, notify: str = "", head: str = "", host: str = "") -> None:
        names = [
            line.partition("webhook: ")[2].partition("}")[0].partition(",")[0]
            for line in CHANNELS.splitlines()
        ]
        secrets = "".join(f"  {name}: 'env:{name.upper()}'\n" for name in set(names) - {""})
        (self.folder / "i.yaml").write_text(
            f"opskit: 1\nhosts: {{nowhere: {host or '127.0.0.1'}}}\n{notify}"
            f"{CHANNELS.replace('FOLDER', str(self.folder))}secrets:\n{secrets}"
            "connection: {port: 1, connect_timeout: 1s, known_hosts: known}\n"
        )
        key = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32)).decode()
        (self.folder / "known").write_text(f"[127.0.0.1]:1 ssh-ed25519 {key}\n")
        (self.folder / "job.yaml").write_text(
            f"{HEAD}{head}steps:\n{steps.replace('FOLDER', str(self.folder))}"
        )
        (self.folder / "opskit.yaml").write_text("store: store.db\ninventory: i.yaml\n")

    def opskit(self, *words: str, status: int | None = 0, module: str = "opskit") -> str:
        done = subprocess.run(
            [sys.executable, "-m", *module.split(), *words], cwd=self.folder, env=self.environ,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert status in (None, done.returncode), f"exit {done.returncode}\n{said}"
        assert TOKEN not in said
        return said

    @contextmanager
    def begun(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen(
            [sys.executable, "-m", "opskit", *words], cwd=self.folder, env=self.environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def outcomes(self, run: str = "last") -> dict[str, dict[str, Any]]:
        """Return what became of messages, by their channel."""
        lines = self.opskit("audit", "log", run, "--json").splitlines()
        return {one["channel"]: one for one in map(json.loads, lines) if "channel" in one}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chats]:
    with chats(tmp_path_factory.mktemp("chats")) as found:
        yield found


@pytest.fixture
def desk(server: Chats) -> Iterator[Desk]:
    """A folder with a short path: cron takes 998 bytes in a line, and it stands there often."""
    server.came.clear()
    server.over.clear()
    with tempfile.TemporaryDirectory(prefix="o") as folder:
        yield Desk(folder=Path(folder), chats=server)


def test_every_channel_gets_it_or_says_why_not_and_the_run_goes_on(desk: Desk) -> None:
    every = (
        "chat hook broken busy hanging moved echo closed untrusted keyless odd pager mail dull slow"
    )
    step = {
        "name": "tell\nthem", "on": "controller",
        "notify": {"message": "{{ word }}", "to": every.split(), "severity": "warning"},
    }  # fmt: skip
    later = {
        "name": "go on",
        "run": f"date +%s.%N >{desk.folder}/gone-on",
        "on": "controller",
        "undo": [],
    }
    desk.write(f"  - {json.dumps(step)}\n  - {json.dumps(later)}\n")
    said = desk.opskit("plan", "job.yaml", "-p", f"word={HOSTILE}")
    assert f"tell {', '.join(every.split())} (warning): a" in said
    assert desk.chats.came == []
    began = time.time()
    said = desk.opskit("run", "job.yaml", "--yes", "-p", f"word={HOSTILE}")
    assert "channel keyless gets nothing: the secret 'keyless' can't be had: the" in said
    gone_on = float((desk.folder / "gone-on").read_text())
    found = desk.outcomes()
    assert gone_on < found["hanging"]["at"], f"held up: {gone_on - began} s"
    why = {name: one.get("reason", "") for name, one in found.items()}
    assert why == {
        "chat": "", "hook": "", "busy": "", "mail": "",
        "broken": "it answered 500", "echo": "it answered 404",
        "hanging": why["hanging"],
        "moved": "it answered 307, a redirect, which is not followed",
        "closed": "no connection to … ([Errno 111] Connection refused)",
        "untrusted": why["untrusted"],
        "keyless": "the secret 'keyless' can't be had: the variable KEYLESS is not set",
        "odd": "the secret odd is no http:// or https:// address",
        "dull": "its command ended with status 67: no such mailbox",
        "slow": "it took longer than 0.3 s",
    }  # fmt: skip
    assert re.fullmatch(r"no answer within [01](\.\d)? s", why["hanging"])
    assert "certificate verify failed: self-signed certificate" in why["untrusted"]
    assert {n for n, one in found.items() if one["delivered"]} == {"chat", "hook", "busy", "mail"}
    assert (found["busy"]["tries"], found["echo"]["tries"]) == (2, 1)
    assert desk.chats.at("elsewhere") == []
    assert len(desk.chats.at("ok")) == 1, "the pager wants what is critical only"
    (chat,), (hook,) = desk.chats.at("ok"), desk.chats.at("json")
    assert chat["text"].startswith(
        "[warning] a\n~!touch /tmp/pwned\n&lt;!channel&gt; @\u200bhere &lt;http://x|y&gt; &amp; "
        "\ufffd[31mred \ufffdreversed\njob · run "
    )
    assert (chat["mrkdwn"], chat["unfurl_links"]) == (False, False)
    assert (
        hook["text"]
        == "a\n~!touch /tmp/pwned\n<!channel> @here <http://x|y> & \ufffd[31mred \ufffdreversed"
    )
    assert (hook["severity"], hook["runbook"], hook["inventory"]) == ("warning", "job", "i")
    mail = (desk.folder / "mail").read_text()
    assert mail.startswith("[warning] a\n ~!touch /tmp/pwned\n<!channel> @here")
    given = dict(line.split("=", 1) for line in (desk.folder / "env").read_text().splitlines())
    assert given["OPSKIT_SUBJECT"].startswith("[warning] a ~!touch /tmp/pwned <!channel> @here")
    assert given["PASS"] == desk.chats.url("json")
    assert {"OK", "JSON", "ECHO", "PGPASSWORD"} & given.keys() == set()
    for where, text in store_contents(desk.folder / "store.db"):
        assert not found_in(text, [TOKEN]), where
    for path in desk.folder.rglob("*"):
        if path.is_file() and path.name != "env":
            assert not found_in(path.read_bytes(), [TOKEN]), path
    desk.opskit("audit", "verify")


WAITS = (
    "  - {name: wait, run: 'until test -e go; do sleep 0.05; done', on: controller, cwd: FOLDER}\n"
)
STEPS = "  - {name: before, notify: {message: it begins}, on: controller}\n"
ALWAYS = "always:\n  - {name: after, notify: 'it was {{ run.status }}', on: controller}\n"


def test_the_end_is_told_where_no_host_can_be_reached(desk: Desk) -> None:
    desk.write("  - {name: do, run: 'true', undo: []}\n", notify="notify: [hook]\n", head=(
        ALWAYS + "  - {name: once, notify: {message: and so, to: hook}}\n"
        "  - {name: nowhere, notify: {message: only here, to: none}}\n"
    ))  # fmt: skip
    said = desk.opskit("run", "job.yaml", "--yes", status=None)
    assert "only here" in said
    assert [one["text"] for one in desk.chats.at("json")] == ["it was failed", "and so"]


def test_what_was_under_way_when_opskit_was_killed_is_sent_again_and_nothing_else(
    desk: Desk,
) -> None:
    """A message comes at least once: nobody knows whether one had it whose answer was lost."""
    desk.write(STEPS + WAITS, notify="notify: [hook, patient]\n", head=ALWAYS)
    with desk.begun("run", "job.yaml", "--yes") as process:
        desk.chats.until("json")
        desk.chats.until("hang")
        until(lambda: len(desk.outcomes()) == 1)
        process.kill()
    (desk.folder / "go").touch()
    desk.chats.over.set()
    desk.opskit("resume", "last")
    told = [(one["text"], one["id"].partition(":")[2]) for one in desk.chats.at("json")]
    assert told == [("it begins", "1/>controller:1"), ("it was succeeded", "a1/>controller:1")]
    tried = [(one["text"], one["id"].partition(":")[2]) for one in desk.chats.at("hang")]
    assert tried == [told[0], told[0], told[1]]
    assert {one["delivered"] for one in desk.outcomes().values()} == {True}


def test_who_has_a_clock_or_a_prompt_tells_a_channel_and_the_same_only_once(desk: Desk) -> None:
    desk.write("  - {name: do, run: 'exit 3', on: controller}\n")
    user = "    user: root\n    tell: [seldom, pager]\n    longest: 50s\n"
    (desk.folder / "s.yaml").write_text(
        "opskit: 1\nschedules:\n  a-job:\n    runbook: job.yaml\n    at: 15 * * * *\n"
        f"    inventory: i.yaml\n{user}    environment: {desk.folder}/environment\n"
    )
    (desk.folder / "environment").write_text(f"JSON={desk.chats.url('json')}\n")
    line = desk.opskit("schedule", "s.yaml", "--as", "cron").splitlines()[-1]
    clock = {"PATH": os.environ["PATH"], "HOME": str(desk.folder), "OK": desk.chats.url("ok")}
    command = line.removeprefix("15 * * * * root ")
    subprocess.run(["/bin/sh", "-c", command], cwd="/", env=clock, timeout=60, check=True)
    for body in desk.chats.at("json"):
        assert (body["text"], body["severity"], body["runbook"]) == (
            "scheduled: a-job did not succeed", "critical", "notify",
        )  # fmt: skip
    assert [len(desk.chats.at(name)) for name in ("json", "ok")] == [1, 1]
    text = "scheduled: a-job did not succeed"
    (desk.folder / "environment").write_text("JSON=it's\n")  # what reads this ends
    subprocess.run(["/bin/sh", "-c", command], cwd="/", env=clock, timeout=60, check=False)
    assert [len(desk.chats.at(name)) for name in ("json", "ok")] == [1, 2]
    desk.write("  - {name: do, run: 'true', on: controller, undo: []}\n")
    (desk.folder / "environment").write_text(f"JSON={desk.chats.url('json')}\n")
    before = len(desk.chats.came)
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", command], cwd="/", env=clock, timeout=60, check=True)
    came = [(name, body["text"].splitlines()[0]) for name, body, _ in desk.chats.came[before:]]
    assert {text.removeprefix("[critical] ") for _, text in came} == {
        "scheduled: a-job succeeded again"
    }
    assert sorted(name for name, _ in came) == ["json", "ok"], "who was told hears it, once"
    del desk.chats.came[before:]
    desk.write("  - {name: do, run: 'exit 3', on: controller}\n")
    said = desk.opskit("notify", text, "--to", "seldom", "--severity", "critical")
    assert "seldom: delivered" in said, "it was over since"
    desk.chats.came.pop()
    said = desk.opskit("notify", text, "--to", "seldom", "--severity", "critical")
    assert "seldom: held back: it had the same " in said
    here = ("-i", str(desk.folder / ".." / desk.folder.name / "i.yaml"))
    said = desk.opskit("notify", text, "--to", "seldom", "--severity", "critical", *here)
    assert "seldom: held back: it had the same " in said, "it is the same, however it is named"
    (desk.folder / "j.yaml").write_text((desk.folder / "i.yaml").read_text())
    said = desk.opskit("notify", text, "--to", "seldom", "--severity", "critical", "-i", "j.yaml")
    assert "seldom: delivered" in said, "what is so elsewhere says nothing of here"
    desk.chats.came.pop()
    said = desk.opskit("incident", "last", "--to", "seldom")
    assert "seldom: delivered" in said
    alert, told = desk.chats.at("json")
    assert told["text"].startswith("Investigating: incident of ")
    assert f"Run {alert['run']}" not in told["text"], "a message is not the last run"
    odd = "{{ 7 * 7 }} {% endraw %}"
    said = desk.opskit("notify", odd, "--to", "keyless", "--to", "hook", status=1)
    assert "keyless: not delivered: the secret 'keyless' can't be had" in said
    assert desk.chats.at("json")[-1]["text"] == odd


def test_no_channel_gets_a_secret_that_a_host_has_printed(desk: Desk) -> None:
    get = {"name": "get", "run": "printf %s $KEY", "secrets": {"KEY": "ok"}, "save": "got"}
    tell = {"name": "tell", "notify": {"message": "it is {{ got }}", "to": ["hook", "mail"]}}
    desk.write("".join(f"  - {json.dumps({**one, 'on': 'controller'})}\n" for one in (get, tell)))
    desk.opskit("run", "job.yaml", "--yes")
    assert [one["text"] for one in desk.chats.at("json")] == ["it is [secret]"]
    assert (desk.folder / "mail").read_text().startswith("it is [secret]\n")


def test_a_command_that_brings_an_address_has_the_time_of_its_message(tmp_path: Path) -> None:
    (tmp_path / "i.yaml").write_text(
        "opskit: 1\nhosts: {a: 127.0.0.1}\nchannels: {chat: {webhook: address}}\n"
        "notify: chat\nsecrets: {address: 'cmd:exec sleep 20'}\n"
    )
    (tmp_path / "r.yaml").write_text(f"{HEAD}steps:\n{STEPS}")
    found = load.inventory(tmp_path / "i.yaml")
    plan = make(load.runbook(tmp_path / "r.yaml", []), found, {}, files=no_files)
    paper = Paper(World())
    outside = Outside(
        targets=World(), journal=paper, secrets={}, watch=print, stop=Stop(), hide=print
    )
    purse = Purse(plan, outside, {})
    sender = Sender(purse.fetch)
    began = time.monotonic()
    message = Message(
        id="1", text="", severity="info", run="", runbook="", step="", host="", inventory="",
        who="", at=0.0,
    )  # fmt: skip
    told: list[str] = []

    def send() -> None:
        came = sender(plan.channels["chat"], message, began + 0.3, lambda: False)
        told.append(came.reason)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 5
    assert all(reason.startswith("the secret 'address' can't be had: ") for reason in told), told


@pytest.mark.soak
@pytest.mark.parametrize("kill", range(1, 14))
@pytest.mark.parametrize("at", ["before", "after"])
def test_a_message_comes_at_least_once_wherever_opskit_is_killed(
    desk: Desk, at: str, kill: int
) -> None:
    desk.write(STEPS, notify="notify: hook\n", head=ALWAYS)
    words = (at, str(kill), "run", "job.yaml", "--yes")
    desk.opskit(*words, status=None, module="tests.support.deadly")
    lines = desk.opskit("audit", "log", "last", "--json").splitlines()
    came = {one["key"] for one in map(json.loads, lines) if one.get("delivered")}
    desk.opskit("resume", "last", status=None)
    told = [(one["text"], one["id"]) for one in desk.chats.at("json")]
    assert list(dict.fromkeys(text for text, _ in told)) == ["it begins", "it was succeeded"]
    for key in came:
        assert sum(f":{key}:" in ident for _, ident in told) == 1, (key, told)
