"""A planted secret is found nowhere but in the environment and the input of its own command.

Looked at are the processes of both ends while it is used, what opskit prints and writes, the files
of every host afterwards, and what a failure of opskit itself leaves. Every spelling is looked for.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opskit.lab import Lab, ground
from tests.support.fleet import Fleet
from tests.support.planted import SPELL, files_below, found_in, spellings, store_contents, watching
from tests.support.terminal import terminal

pytestmark = pytest.mark.acceptance

VALUES = {
    "by_param": """pA'r@m "q" $x/+%7b-é\\end""",
    "by_env": """eNv'ir "0n" `m`/+%7e~ü=end""",
    "by_file": "-----BEGIN KEY-----\nMIIabc+/def==\nXYZ 'q' $zz\n-----END KEY-----",
    "by_cmd": "c0mm@nd;&|<>(){}[]*?!#^ end",
    "by_header": "Bearer h3ad/er+t0ken==.sig",
    "saved": "s@ved 'by' a \"step\"/+%41",
}
SPELL_PATH = "/usr/local/bin/spell"
SESAME = "/etc/sesame"
STEPS = """
  - name: own
    run: spell TOKEN
    secrets: {TOKEN: by_param}
    undo: [{run: spell TOKEN, secrets: {TOKEN: by_env}}]
  - {name: look, run: spell TOKEN, effect: read, secrets: {TOKEN: by_env}}
  - {name: input, run: spell -, stdin: '{{ by_file }}'}
  - {name: input of a look, run: spell -, effect: read, stdin: '{{ by_cmd }}'}
  - {name: script, script: {text: "#!/bin/sh\\nspell TOKEN\\n"}, secrets: {TOKEN: by_cmd}}
  - {name: as root, run: spell TOKEN, sudo: root, secrets: {TOKEN: by_file}}
  - name: page
    http: {url: 'http://127.0.0.1:PORT/', method: POST, expect: {json: {X-Token: other}}}
    secrets: {X-Token: by_header}
    on: once
    on_failure: continue
  - {name: kept, run: cat /etc/sesame, effect: read, save: {name: sesame, secret: true}}
  - {name: with it, run: spell TOKEN, secrets: {TOKEN: sesame}}
  - name: tried
    run: spell TOKEN; false
    effect: read
    secrets: {TOKEN: by_param}
    until: {every: 10ms, for: 1s}
    on_failure: continue
  - {name: here, run: HELPER TOKEN, on: controller, secrets: {TOKEN: by_param}}
  - {name: failing, run: 'spell TOKEN >&2; exit 3', secrets: {TOKEN: by_param}}
"""
HEAD = "params: {by_param: {type: secret}}\non_failure: undo\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """A fleet on which secrets are used; `environ` holds the two that come by the environment."""

    fleet: Fleet
    environ: Mapping[str, str]
    words: tuple[str, ...]

    def opskit(self, *words: str, status: int | None = 0) -> str:
        done = self.fleet.opskit(*words, status=status, environ=self.environ)
        return done.stdout + done.stderr


@pytest.fixture
def echo() -> Iterator[int]:
    """An HTTP server that answers with the headers that it got; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(dict(self.headers)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A test's output is for the test."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def planted(fleet: Fleet, echo: int) -> Iterator[Planted]:
    """Secrets in all places where they may come from, and a program on the host that tells them."""
    folder = fleet.folder
    sources = folder.parent / f"{folder.name}.sources"
    sources.mkdir()
    for name in ("by_file", "by_cmd", "by_header"):
        (sources / name).write_text(VALUES[name])
    known = fleet.lab.inventory.read_text()
    (folder / "i.yaml").write_text(
        f"{known}secrets:\n  by_env: env:PLANTED\n  by_file: 'file:{sources}/by_file'\n"
        f"  by_cmd: 'cmd:cat {sources}/by_cmd'\n  by_header: 'file:{sources}/by_header'\n"
    )
    helper = sources / "spell.py"
    helper.write_text(SPELL.replace("{python}", sys.executable))
    helper.chmod(0o755)
    steps = STEPS.replace("PORT", str(echo)).replace("HELPER", str(helper))
    fleet.runbook(steps, HEAD)
    spell = SPELL.replace("{python}", fleet.lab.layout.python).encode()
    fleet.lab.exec(
        "web1", ["sh", "-c", f"cat >{SPELL_PATH} && chmod 755 {SPELL_PATH}"], stdin=spell
    )
    fleet.lab.exec("web1", ["sh", "-c", f"cat >{SESAME}"], stdin=VALUES["saved"].encode())
    environ = {"PLANTED": VALUES["by_env"], "OPSKIT_PARAM_BY_PARAM": VALUES["by_param"]}
    words = ("t.yaml", "-i", "i.yaml", "--limit", "web1")
    yield Planted(fleet=fleet, environ=environ, words=words)
    fleet.sh("web1", f"rm -f {SPELL_PATH} {SESAME}")


def nowhere(where: str, data: bytes | str) -> None:
    """No spelling of any secret stands here."""
    data = data if isinstance(data, bytes) else data.encode(errors="surrogateescape")
    hits = found_in(data, VALUES.values())
    assert not hits, f"{where}: {hits}"


def host_files(lab: Lab, host: str) -> Iterator[tuple[str, bytes]]:
    for prefix, folder in ground.of(lab.layout).written(lab.layout, lab.layout.host(host)):
        for path, content in files_below(folder):
            yield f"{prefix}{path.removeprefix(str(folder))}", content


def everywhere(planted: Planted) -> None:
    """Look through all that is left: on this machine and on the hosts."""
    fleet = planted.fleet
    for path, content in files_below(fleet.folder):
        nowhere(path, content)
    for place, content in store_contents(fleet.folder / "store.db"):
        nowhere(place, content)
    for host in ("web1", "web2", "lb1"):
        for path, content in host_files(fleet.lab, host):
            if path != SESAME:
                nowhere(f"{host}:{path}", content)


# ---- runs


@pytest.mark.parametrize("how", ["lines", "json", "terminal"])
def test_a_secret_is_found_nowhere_while_it_is_used_and_after(planted: Planted, how: str) -> None:
    words = ["run", *planted.words, "--yes", *(["--json"] if how == "json" else [])]
    with watching(VALUES.values()) as watch:
        if how == "terminal":
            environ = {**planted.fleet.environ, **planted.environ}
            with terminal(words, environ=environ, folder=planted.fleet.folder) as shown:
                assert shown.end() in (1, 3), shown.text()
                said = bytes(shown.seen)
        else:
            said = planted.opskit(*words, status=None).encode()
    nowhere("the terminal", said)
    assert b"failing" in said
    processes(planted, watch.words, watch.environs)
    everywhere(planted)
    if how == "lines":
        looked_up(planted)


def processes(
    planted: Planted, words: list[str], environs: Mapping[tuple[int, str, str], str]
) -> None:
    """Only the command has the secret in its environment, as the variable that it asked for."""
    assert not words, f"in the process list: {words}"
    seen = {name for _, _, name in environs}
    assert "TOKEN" in seen, "nobody looked while the secret was used"
    given = {*planted.environ, "TOKEN"}
    assert seen <= given
    for (pid, command, name), _ in environs.items():
        if name in planted.environ:  # whoever types has put it there, for opskit and its sources
            assert "-m opskit" in command or "by_cmd" in command, (pid, command, name)
        else:
            assert "-m opskit" not in command, (pid, command, name)


def looked_up(planted: Planted) -> None:
    """Everything that can be asked of the record afterwards."""
    steps = ["own", "look", "input", "input of a look", "script", "as root", "kept", "with it"]
    for step in (*steps, "tried", "failing"):
        for stream in ([], ["--stderr"]):
            said = planted.opskit("output", "last", step, "web1", *stream, status=None)
            nowhere(f"output of {step}", said)
            if step not in ("kept", "tried"):
                assert "[secret]" in said, (step, stream, said[:200])
    nowhere("output of here", planted.opskit("output", "last", "here", "controller"))
    for asked in ("status last", "report last", "audit log last", "audit log last --json", "runs",
                  "status last --json", "runs --json", "audit verify"):  # fmt: skip
        nowhere(asked, planted.opskit(*asked.split(), status=None))


def test_the_search_would_find_each_spelling(planted: Planted) -> None:
    told = subprocess.run(
        [sys.executable, str(planted.fleet.folder.parent / f"{planted.fleet.folder.name}.sources")
         + "/spell.py", "TOKEN"],
        env={"TOKEN": VALUES["by_param"]}, capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    hits = {hit.partition(" as ")[2] for hit in found_in(told.stdout, [VALUES["by_param"]])}
    assert hits == spellings(VALUES["by_param"]).keys()


# ---- plans


def test_a_plan_and_a_dry_run_show_no_secret(planted: Planted) -> None:
    for more in ([], ["--full", "--undo"], ["--json"], ["-o", "saved.json"]):
        nowhere("plan", planted.opskit("plan", *planted.words, *more, status=None))
    for path, content in files_below(planted.fleet.folder):
        nowhere(path, content)


# ---- while it runs: the output directory


def test_output_waits_at_the_host_only_for_its_owner_and_only_until_it_is_recorded(
    planted: Planted,
) -> None:
    fleet = planted.fleet
    steps = "  - {name: slow, run: 'spell TOKEN; sleep 90', secrets: {TOKEN: by_env}}\n"
    fleet.runbook("  - {name: first, run: spell TOKEN, secrets: {TOKEN: by_env}}\n" + steps)
    environ = {**fleet.environ, **planted.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "opskit", "run", *planted.words, "--yes"],
        env=environ, cwd=fleet.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        listing = "find ~ops/.opskit/runs/ -type f -size +100k -exec stat -c '%a %U %n' {} +"
        deadline = time.monotonic() + 60
        while len(found := fleet.sh("web1", listing).splitlines()) < 2:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        files = dict(host_files(fleet.lab, "web1"))
        held = {path for path, data in files.items() if found_in(data, [VALUES["by_env"]])}
        assert {Path(line.split()[2]).name for line in found} == {Path(path).name for path in held}
        assert {line.split()[0] for line in found} == {"600"}
        assert {line.split()[1] for line in found} == {"ops"}
        folders = fleet.sh("web1", "stat -c %a ~ops/.opskit ~ops/.opskit/runs/*").split()
        assert set(folders) == {"700"}
    finally:
        process.send_signal(2)
        time.sleep(0.5)
        process.send_signal(2)
        said, _ = process.communicate(timeout=60)
    nowhere("the terminal", said)
    everywhere(planted)


# ---- failures of opskit itself

BREAK = """
import sys
from opskit.drivers.targets import Targets
from opskit.cli.root import main
def perform(self, job, write):
    raise RuntimeError("in " + " ".join(s.reveal() for s in job.secrets.values()))
Targets.perform = perform
main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", ["by_param", "by_env", "by_file", "by_cmd"])
def test_a_bug_leaves_no_secret_on_screen_or_in_its_log(planted: Planted, name: str) -> None:
    fleet = planted.fleet
    fleet.runbook(f"  - {{name: one, run: 'true', secrets: {{TOKEN: {name}}}}}\n", HEAD)
    done = subprocess.run(
        [sys.executable, "-c", BREAK, "run", *planted.words, "--yes"],
        env={**fleet.environ, **planted.environ}, cwd=fleet.folder, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 70, done.stderr.decode()
    assert b"[secret]" in done.stderr
    nowhere("the terminal", done.stdout + done.stderr)
    logs = list((fleet.folder / "state" / "opskit" / "bugs").iterdir())
    assert len(logs) == 1
    assert b"[secret]" in logs[0].read_bytes()
    assert logs[0].stat().st_mode & 0o077 == 0
    everywhere(planted)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("two\nlines of a header", "the header 'X-Token' contains a line break"),
        ("smörgås-bord-ü", ""),
    ],
)
def test_a_header_that_cannot_be_sent_is_not_shown(
    planted: Planted, header: str, said: str
) -> None:
    fleet = planted.fleet
    source = fleet.folder.parent / f"{fleet.folder.name}.sources" / "by_header"
    source.write_text(header)
    done = planted.opskit("run", *planted.words, "--yes", "--from", "page", status=None)
    assert said in done
    assert not found_in(done.encode(), [header])
    log = planted.opskit("audit", "log", "last", "--json")
    assert not found_in(log.encode(), [header])
