"""Runs that go wrong on real hosts, and what they left there.

Each command of these runbooks adds a word to a file of its own run on its host (the tally), so that
the hosts themselves tell what was done there, how often and in which order.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opskit import audit
from tests.support.fleet import Fleet

PATIENCE = 60.0
"""Seconds that a test waits for what must come."""
HOSTS = ("web1", "web2", "web3", "web4")


def did(word: str) -> str:
    """Return shell text that adds a word to the tally."""
    return f"echo {word} >>~/{{{{ tag }}}}"


def slowly(word: str, seconds: float = 2.0) -> str:
    """Return shell text that adds `begin-WORD`, takes its time, and adds `WORD`."""
    return f"{did('begin-' + word)}; sleep {seconds}; {did(word)}"


def held(word: str) -> str:
    """Return shell text that adds `begin-WORD`, and WORD once the test lets it (`let_go`)."""
    wait = "n=0; while test $n -lt 1800 && ! test -e ~/{{ tag }}.go; do n=$((n+1)); sleep 0.1; done"
    return f"{did('begin-' + word)}; {wait}; {did(word)}"


def fails_on(word: str, *hosts: str) -> str:
    """Return shell text that adds a word everywhere, and fails on some hosts."""
    tests = [f"test {{{{ host }}}} != {host}" for host in hosts]
    return "; ".join([did(word), *tests])


def step(name: str, text: str, *, undo: str = "", **keys: object) -> str:
    """Write one step; `undo` is the shell text of its undo; `done_when` and `on` as YAML."""
    more = "".join(f", {key}: {value}" for key, value in keys.items())
    back = f", undo: [{{name: undo-{name}, run: '{undo}'}}]" if undo else ""
    return f"  - {{name: {name}, run: '{text}'{more}{back}}}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A run in the background; what it prints goes to a file."""

    process: "subprocess.Popen[str]"
    output: Path

    def end(self, timeout: float = PATIENCE) -> int:
        """Wait for its end and return its exit status."""
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def said(self) -> str:
        return self.output.read_text(errors="replace")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """One runbook with a tally of its own."""

    fleet: Fleet
    name: str = "t"

    @property
    def tag(self) -> str:
        return f"tally.{self.fleet.folder.parent.name}.{self.fleet.folder.name}.{self.name}"

    def write(self, steps: str, head: str = "", always: str = "", hosts: str = "web") -> Path:
        """Write the runbook; `head` holds further keys of it."""
        top = f"opskit: 1\nname: {self.name}\nversion: 1.0.0\nsummary: a test\nhosts: '{hosts}'\n"
        rest = f"always:\n{always}" if always else ""
        path = self.fleet.folder / f"{self.name}.yaml"
        path.write_text(f"{top}params: {{tag: {{type: string}}}}\n{head}steps:\n{steps}{rest}")
        return path

    def words(self, *more: str) -> list[str]:
        """Return the words of `opskit run` for the runbook that was written."""
        path = self.fleet.folder / f"{self.name}.yaml"
        return ["run", str(path), "-p", f"tag={self.tag}", "--yes", *more]

    def run(self, *more: str, status: int | None = None) -> "subprocess.CompletedProcess[str]":
        return self.fleet.opskit(*self.words(*more), status=status)

    def start(self, *words: str, environ: Mapping[str, str] | None = None) -> Begun:
        """Start opskit (with no words: the run) in the background."""
        path = self.fleet.folder / f"{self.name}.{time.monotonic_ns()}.out"
        with path.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "opskit", *(words or self.words())],
                env={**self.fleet.environ, **(environ or {})},
                cwd=self.fleet.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return Begun(process=process, output=path)

    def tally(self, host: str) -> list[str]:
        """Return what the host itself says was done there, in order."""
        return self.sh(host, f"cat ~/{self.tag} 2>/dev/null || true").split()

    def sh(self, host: str, line: str) -> str:
        """Run a shell line as the user who logs in, behind opskit's back."""
        lab = self.fleet.lab
        return lab.exec(host, ["sh", "-c", line], user=lab.layout.user).stdout.decode()

    def let_go(self, *hosts: str) -> None:
        """Let what is held on these hosts come to its end."""
        for host in hosts:
            self.sh(host, f"touch ~/{self.tag}.go")

    def tallies(self, hosts: Sequence[str] = HOSTS) -> dict[str, str]:
        """Return the tallies of hosts, each as one line."""
        return {host: " ".join(self.tally(host)) for host in hosts}

    def until(self, host: str, word: str) -> None:
        """Wait until a word stands in the tally of a host."""
        until(lambda: word in self.tally(host), f"{word} on {host}")

    def ended(self, run: str = "last") -> tuple[int, str, dict[str, str]]:
        """Return the exit status, state and hosts that `opskit status` gives for a run."""
        done = self.fleet.opskit("status", run, "--json", status=None)
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return done.returncode, told["state"], told["hosts"]

    def started(self, key: str, run: str = "last") -> int:
        """Return how often an action was started, by the record."""
        events = self.fleet.events(run)
        return sum(e["event"] == "step started" and e["key"] == key for e in events)

    def proved(self) -> None:
        """The record must prove itself."""
        store = audit.open(self.fleet.environ["OPSKIT_STORE"])
        try:
            assert store.verify() == []
        finally:
            store.close()


def forget(trouble: Trouble, *hosts: str) -> None:
    """Remove what the newest run left on hosts: they can tell nothing of it any more."""
    told = trouble.fleet.opskit("status", "last", "--json", status=None).stdout.splitlines()[-1]
    for host in hosts:
        trouble.sh(host, f"rm -rf ~/.opskit/runs/{json.loads(told)['run']}")


def until(holds: Callable[[], bool], what: str, limit: float = PATIENCE) -> None:
    """Wait until something holds."""
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, f"did not come: {what}"
        time.sleep(0.05)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A run that goes wrong, and all that must be true afterwards.

    `hosts`: how each came out, written `web1: done, …`; `tally`: what was done on it.
    """

    name: str
    steps: str
    exit: int
    state: str
    hosts: str
    tally: Mapping[str, str]
    head: str = ""
    always: str = ""
    held: Sequence[str] = ()
    """Hosts whose steps are `held` until it is told that another has failed."""
    says: Sequence[str] = field(default=())
    """What the person is told, word for word."""

    def expected(self) -> dict[str, str]:
        """Return how each host must come out; a state given to several names, `web1 web2: done`."""
        found: dict[str, str] = {}
        for part in self.hosts.split(","):
            names, _, state = part.partition(":")
            found |= dict.fromkeys(names.split(), state.strip())
        return found
