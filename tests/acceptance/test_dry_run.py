"""The dry run changes nothing, and what it calls determined is what a run then does.

A tap on every shell of every host (tests/support/tap.py) hears what is sent; the times of change of
every file and folder tell what was written there, also what was taken away again.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opskit.lab import Lab
from opskit.lab.layout import Mode
from opskit.model.codec import from_json, parse
from opskit.model.plan import Action, Plan
from opskit.model.text import Late, Text
from opskit.model.work import Command, Upload
from tests.support import runbooks
from tests.support.fleet import Fleet
from tests.support.tap import READS, Frame, Tap, changed, marks, tapped

pytestmark = pytest.mark.acceptance

SERVICE = {"/srv/app/shared/log/access.log", "/var/log/haproxy/access.log"}
"""What the service writes because somebody asked for its health page, as HAProxy does always, and
HAProxy when what it hears there is new."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A fleet with a tap on it."""

    fleet: Fleet
    tap: Tap

    def opskit(self, *words: str | Path, status: int = 0) -> str:
        path = f"{self.tap.folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.tap.clear()
        return self.fleet.opskit(*words, status=status, environ={"PATH": path}).stdout

    def planned(self, *words: str | Path, status: int = 0) -> Plan:
        """Make a dry run; return its plan."""
        file = self.fleet.folder / "saved.json"
        self.opskit("plan", *words, "-o", file, status=status)
        return from_json(Plan, parse(file.read_bytes()))

    def state(self) -> Mapping[str, tuple[Mapping[str, Any], frozenset[int]]]:
        """Return every file and every process of every host."""
        lab = self.fleet.lab
        return {h: (marks(lab, h), frozenset(lab.pids(h))) for h in self.tap.hosts}


@pytest.fixture(scope="module")
def tap(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tap]:
    if lab.layout.mode is not Mode.NAMESPACES:
        pytest.skip("hosts without files of their own have no sh of their own")
    with tapped(lab, tmp_path_factory.mktemp("tap") / "tap") as found:
        yield found


@pytest.fixture
def watched(fleet: Fleet, tap: Tap) -> Watched:
    return Watched(fleet=fleet, tap=tap)


def artifact(fleet: Fleet, name: str) -> Path:
    return fleet.lab.release(name, fleet.folder / f"{name}.tar.gz")


def settled(watched: Watched) -> Mapping[str, tuple[Mapping[str, Any], frozenset[int]]]:
    """Return the state once a login that was there before has left nothing behind."""
    watched.opskit("exec", "all", "--read", "--", "true")
    return watched.state()


def untouched(
    before: Mapping[str, tuple[Mapping[str, Any], frozenset[int]]],
    after: Mapping[str, tuple[Mapping[str, Any], frozenset[int]]],
) -> None:
    """Nothing was written on any host, nothing taken away, no process is left or gone."""
    for host, (files, pids) in before.items():
        assert changed(files, after[host][0]) <= SERVICE, host
        assert after[host][1] == pids, host


# ---- what a plan says and what came


def commands(plan: Plan) -> Mapping[tuple[str, str], list[Action]]:
    """Return the actions of a plan whose text goes to a shell, by target and step."""
    found: dict[tuple[str, str], list[Action]] = {}
    for action in plan.actions:
        if isinstance(action.work, Command):
            found.setdefault((action.target, action.position), []).append(action)
    return found


def pattern(text: Text) -> str:
    parts = (".*" if isinstance(p, Late) else re.escape(str(Text(parts=(p,)))) for p in text.parts)
    return "".join(parts)


def is_of(frame: Frame, action: Action) -> bool:
    """Tell whether a frame is what the plan has for an action: same host, same words."""
    work = action.work
    if frame.host != action.target or frame.function not in ("_o_read", "_o_change"):
        return False
    words = frame.words if frame.function == "_o_read" else frame.words[2:]
    if isinstance(work, Upload):
        named = re.fullmatch(pattern(work.dest), words[7] if len(words) > 7 else "", re.DOTALL)
        return named is not None and words[6] in ("take", "tree")
    assert isinstance(work, Command)
    given = pattern(work.cwd) if work.cwd else ""
    pairs = [(given, words[0]), (pattern(work.text), words[4])]
    stdin = pattern(work.stdin) if isinstance(work.stdin, Text) else ""
    args = words[6 + int(words[5]) :]
    pairs += [(stdin, words[2]), *((pattern(a), w) for a, w in zip(work.args, args, strict=False))]
    same = all(re.fullmatch(wanted, got, re.DOTALL) for wanted, got in pairs)
    return same and len(args) == len(work.args)


def only_reads_of(plan: Plan, frames: Sequence[Frame]) -> None:
    """A dry run sent nothing but the looks that the plan has, and opened nothing for writing."""
    looks = [a for a in plan.actions if plan.stage(a).effect == "read"]
    looks = [a for a in looks if isinstance(a.work, Command)]
    for frame in frames:
        assert frame.function in READS, frame
        if frame.function == "_o_hello":
            assert len(frame.words) == 3, "no directory is named, so none can be made"
        elif "look" not in frame.words:
            skips = [a.skip_if for a in plan.actions if isinstance(a.skip_if, Command)]
            known = any(str(s.text) == frame.text or s.text.late for s in skips)
            assert known or any(is_of(frame, look) for look in looks), frame


def as_planned(plan: Plan, frames: Sequence[Frame]) -> list[str]:
    """Every frame is an action of the plan, on each host in its order; return the keys."""
    sent = [f for f in frames if f.function in ("_o_read", "_o_change")]
    keys: list[str] = []
    for host in dict.fromkeys(frame.host for frame in sent):
        mine = [a for a in plan.actions if a.target == host]
        mine = [a for a in mine if isinstance(a.work, (Command, Upload))]
        at = 0
        for frame in (f for f in sent if f.host == host):
            if skips(frame, mine[at:]):
                continue
            step = next((n for n, a in enumerate(mine[at:], at) if is_of(frame, a)), None)
            assert step is not None, f"{host}: not in the plan, or not in its order: {frame}"
            keys.append(mine[step].key)
            at = step if plan.stage(mine[step]).until else step + 1
    return keys


def skips(frame: Frame, ahead: Sequence[Action]) -> bool:
    """Tell whether a frame is a look at what a change would meet."""
    looks = [a.skip_if for a in ahead if isinstance(a.skip_if, Command)]
    return "look" in frame.words or (
        frame.function == "_o_read"
        and any(re.fullmatch(pattern(s.text), frame.text, re.DOTALL) for s in looks)
    )


def certain(plan: Plan) -> set[str]:
    """Return the keys of the actions that the plan is sure will be sent to a shell of a host."""
    sure = set()
    for action in plan.actions:
        each = plan.stage(action).scope in ("each", "group")
        always = action.when is None or str(action.when) == "True"
        shell = isinstance(action.work, (Command, Upload))
        if each and always and shell and action.skip_if is None:
            sure.add(action.key)
    return sure


# ---- the dry run changes nothing

EVERY_KIND = """
  - {name: a read, run: cat /etc/hostname, effect: read, save: it}
  - {name: a script, script: {text: "#!/bin/sh\\necho $1", args: [a]}, effect: read}
  - {name: another user, run: id -u, effect: read, sudo: root}
  - {name: input, run: cat, stdin: text, effect: read}
  - {name: there, run: touch /tmp/made, creates: /etc/hostname}
  - {name: there too, run: touch /tmp/made, unless: test -e /etc/hostname}
  - {name: page, http: {url: 'http://{{ host.address }}:8000/health/', via: host}}
  - {name: put, upload: {src: file.bin, dest: /tmp/put}}
  - {name: written, template: {src: t.conf, dest: /tmp/written}}
  - {name: change, run: 'touch /tmp/changed; echo {{ it }}', undo: [{run: rm /tmp/changed}]}
  - {name: page change, http: {url: 'http://{{ host.address }}:8000/x', method: POST}}
  - {name: pool, traffic: {drain: '{{ host }}', pool: web}, on: {group: lb, per: host}}
  - {name: pause, wait: 5s}
  - {name: sure, confirm: 'Go on?'}
  - {name: word, notify: 'on {{ host }}'}
"""


Words = Callable[[Fleet], tuple[str | Path, ...]]
"""Gives the words after `opskit plan`, and makes the files that they name."""


def every_kind(fleet: Fleet) -> tuple[str | Path, ...]:
    (fleet.folder / "file.bin").write_bytes(b"\0some bytes" * 10_000)
    (fleet.folder / "t.conf").write_text("host = {{ host }}\n")
    return (fleet.runbook(EVERY_KIND),)


def deploy(fleet: Fleet) -> tuple[str | Path, ...]:
    return ("deploy", "-p", "release=B", "-p", f"artifact={artifact(fleet, 'B')}")


def rollback(_: Fleet) -> tuple[str | Path, ...]:
    return ("rollback", "-p", "to=A")


def health_check(_: Fleet) -> tuple[str | Path, ...]:
    return ("health-check",)


@pytest.mark.parametrize(
    ("words", "status"), [(every_kind, 0), (deploy, 0), (rollback, 5), (health_check, 0)]
)
def test_a_dry_run_leaves_every_host_as_it_was_and_sends_only_the_reads_of_its_plan(
    watched: Watched, words: Words, status: int
) -> None:
    given = words(watched.fleet)
    before = settled(watched)
    plan = watched.planned(*given, status=status)
    frames = watched.tap.frames()
    untouched(before, watched.state())
    assert len({f.host for f in frames if f.function == "_o_read"}) >= 4
    only_reads_of(plan, frames)


def test_without_reads_no_host_is_even_called(watched: Watched) -> None:
    before = watched.state()
    watched.opskit("plan", "--no-reads", *deploy(watched.fleet))
    assert watched.tap.frames() == []
    untouched(before, watched.state())


def test_the_tap_and_the_marks_would_show_a_change(watched: Watched) -> None:
    before = settled(watched)
    watched.opskit("exec", "web1", "--", "echo x >/tmp/f; rm /tmp/f")
    assert "/tmp" in changed(before["web1"][0], watched.state()["web1"][0])
    sent = [f for f in watched.tap.frames() if f.function not in READS]
    assert [f.text for f in sent if f.function == "_o_change"] == ["echo x >/tmp/f; rm /tmp/f"]


# ---- a run does what the plan says


def test_a_deploy_sends_what_its_plan_says_on_each_host_in_its_order(watched: Watched) -> None:
    words = (*deploy(watched.fleet), "-p", "bake=1s", "--limit", "web1:web2")
    plan = watched.planned(*words)
    saved = watched.fleet.folder / "saved.json"
    try:
        watched.opskit("run", *words, "--plan", saved, "--yes")
        keys = as_planned(plan, watched.tap.frames())
        assert certain(plan) <= set(keys)
    finally:
        watched.opskit("undo", "last", "--yes")
    back = [f for f in watched.tap.frames() if f.function == "_o_change"]
    undo = [u for a in plan.actions for u in a.undo if isinstance(u.work, Command)]
    taken = [f for f in back if "back" not in f.words]
    assert taken
    assert all(any(is_of(frame, action) for action in undo) for frame in taken)


@pytest.mark.parametrize("seed", range(1000, 1004))
def test_a_runbook_made_by_chance_does_on_real_hosts_what_its_plan_says(
    watched: Watched, seed: int
) -> None:
    folder = watched.fleet.folder
    values = runbooks.write(seed, folder, real=True)
    (folder / "values.yaml").write_text(json.dumps(values))
    known = watched.fleet.lab.inventory.read_text()
    (folder / "i.yaml").write_text(known + "vars: {zone: z1, rack: none}\n")
    for host in watched.tap.hosts:
        watched.fleet.sh(host, f"rm -rf {runbooks.PLACE}; install -d -m 777 {runbooks.PLACE}")
    words = ("r.yaml", "-i", "i.yaml", "--params", "values.yaml")
    plan = watched.planned(*words)
    only_reads_of(plan, watched.tap.frames())
    watched.opskit("run", *words, "--plan", folder / "saved.json", "--yes")
    keys = as_planned(plan, watched.tap.frames())
    assert certain(plan) <= set(keys)
    assert len(keys) == len(set(keys))


# ---- how much is determined


@pytest.mark.parametrize("words", [deploy, rollback, health_check])
def test_most_of_a_shipped_runbook_is_determined(fleet: Fleet, words: Words) -> None:
    said = fleet.opskit("plan", "--json", "--no-reads", *words(fleet)).stdout
    counts = json.loads(said.splitlines()[0])["counts"]
    whole = counts["read"] + counts["change"]
    share = 1 - counts["undetermined"] / whole
    assert share >= 0.8, f"{counts['undetermined']} of {whole} actions are undetermined"
