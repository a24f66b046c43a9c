"""Bad input is refused: with the right exit status, a message that helps, and nothing touched.

What a message must have: what is wrong, where, and what to do next.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.tap import changed, marks

pytestmark = pytest.mark.acceptance

SERVICE = {"/srv/app/shared/log/access.log", "/var/log/haproxy/access.log"}
"""What the service writes because somebody asked for its health page, and HAProxy when it has found
a server to be well, which comes some seconds after a start."""
OWN = {"/home/ops", "/home/ops/.opskit", "/home/ops/.opskit/runs"}
LOCKS = "/home/ops/.opskit/locks"
"""Where opskit makes, at the first contact, and removes what it would need for changes."""
STEP = "steps:\n  - run: touch /tmp/never\n"
Words = Sequence[str | Path]
Make = Callable[[Fleet], Words]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is typed, how that ends, what is said. `breaks` and `mends`: shell text for a host."""

    words: Make
    status: int
    says: tuple[str, ...]
    on: str = ""
    breaks: str = ""
    mends: str = ":"


# ---- what is typed


def book(text: str, *words: str, head: str = "") -> Make:
    """Run a runbook that consists of this text, after a sound beginning."""

    def make(fleet: Fleet) -> Words:
        top = "opskit: 1\nname: bad\nversion: 1.0.0\nsummary: a test\n"
        start = head or top + "hosts: web\nparams: {release: {default: B}}\n"
        (fleet.folder / "bad.yaml").write_text(start + text)
        return ("run", "bad.yaml", "--yes", *words)

    return make


def values(text: str) -> Make:
    """Run a sound runbook with the parameters in this text."""

    def make(fleet: Fleet) -> Words:
        (fleet.folder / "values.yaml").write_text(text)
        return book(STEP, "--params", "values.yaml")(fleet)

    return make


def hosts(change: Callable[[str], str], *words: str) -> Make:
    """Run a sound runbook on an inventory that has been changed."""

    def make(fleet: Fleet) -> Words:
        text = change(fleet.lab.inventory.read_text())
        (fleet.folder / "hosts.yaml").write_text(text)
        (fleet.folder / "nobody").write_text("")
        return (*book(STEP)(fleet), "-i", "hosts.yaml", *words)

    return make


def without_keys(text: str) -> str:
    """Point the whole inventory to a file of host keys with nothing in it."""
    before, _, after = text.partition("known_hosts: ")
    end = min(at for at in (after.find(","), after.find("}")) if at >= 0)
    return f"{before}known_hosts: nobody{after[end:]}"


def other_keys(fleet: Fleet) -> Words:
    """Let the file of known hosts have another key for each."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(fleet.folder / "k")], check=True
    )
    key = " ".join((fleet.folder / "k.pub").read_text().split()[:2])
    names = [line.split()[0] for line in fleet.lab.layout.known_hosts.read_text().splitlines()]
    words = hosts(without_keys)(fleet)
    (fleet.folder / "nobody").write_text("".join(f"{name} {key}\n" for name in names))
    return words


def deploy(*more: str, release: str = "B", artifact: bool = True) -> Make:
    def make(fleet: Fleet) -> Words:
        path = fleet.lab.release("B", fleet.folder / "B.tar.gz")
        given = ("-p", f"artifact={path}") if artifact else ()
        return ("run", "deploy", "--yes", "-p", f"release={release}", *given, *more)

    return make


def rollback(*more: str) -> Make:
    return lambda _: ("run", "rollback", "--yes", *more)


def saved_plan(change: Callable[[str], str], *words: str) -> Make:
    """Save a plan, change its file, and run it with further words."""

    def make(fleet: Fleet) -> Words:
        run = book(STEP)(fleet)
        fleet.opskit("plan", "bad.yaml", "--no-reads", "-o", "saved.json")
        file = fleet.folder / "saved.json"
        file.write_text(change(file.read_text()))
        return (*run, "--plan", "saved.json", *words)

    return make


def unconfirmed(fleet: Fleet) -> Words:
    return [word for word in book(STEP)(fleet) if word != "--yes"]


def short_secret(fleet: Fleet) -> Words:
    text = "params: {token: {type: secret}}\n" + STEP + "    secrets: {TOKEN: token}\n"
    top = "opskit: 1\nname: bad\nversion: 1.0.0\nsummary: a test\nhosts: web\n"
    (fleet.folder / "values.yaml").write_text("token: short\n")
    return book(text, "--params", "values.yaml", head=top)(fleet)


BOMB = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}' if before else 'x'] * 9)}]\n"
    for before, name in zip(["", *"abcdef"], "abcdefg", strict=True)
)
SLOW_DATE = """
printf '#!/bin/sh\\nexec /bin/date -d "+20 seconds" "$@"\\n' >/usr/local/bin/date
chmod 755 /usr/local/bin/date
"""

ANY = {
    "unknown variable": Case(
        words=book("steps:\n  - run: echo {{ relase }}\n"),
        status=2,
        says=("bad.yaml:8:18: error: nothing is called `relase`", "→ release"),
    ),
    "unknown variable of a host": Case(
        words=book("steps:\n  - run: echo {{ vars.rack }}\n"),
        status=2,
        says=("bad.yaml:8:5", "rack"),
    ),
    "unknown key": Case(
        words=book("steps:\n  - run: ls\n    efect: read\n"),
        status=2,
        says=("bad.yaml:9:5: error: unknown key 'efect'", "→ effect"),
    ),
    "key written twice": Case(
        words=book("steps:\n  - run: ls\n    run: ls -l\n"),
        status=2,
        says=("bad.yaml:9:5: error: the key 'run' is on line 8 already", "→ keep one"),
    ),
    "alias bomb": Case(
        words=book(BOMB + STEP), status=2, says=("bad.yaml:11:8: error: aliases stand for more",)
    ),
    "tab": Case(
        words=book("steps:\n\t- run: ls\n"),
        status=2,
        says=("bad.yaml:8:1: error: a tab in the indentation", "→ indent with spaces"),
    ),
    "NUL": Case(
        words=book('steps:\n  - run: "a\\0b"\n'),
        status=2,
        says=("bad.yaml:8:10: error: a NUL character", "→ take it out"),
    ),
    "NUL in a value": Case(
        words=values('release: "a\\0b"\n'),
        status=2,
        says=("values.yaml:1:10: error: a NUL character", "→ take it out"),
    ),
    "undo with a value that comes later": Case(
        words=book(
            "steps:\n  - {run: ls, undo: [{run: 'echo {{ later }}'}]}\n"
            "  - {run: ls, effect: read, save: later}\n"
        ),
        status=2,
        says=("bad.yaml:8:", "`later` is not saved yet: step 2 (line 9) saves it", "→ move"),
    ),
    "batch of 0": Case(
        words=book("batches: [0]\n" + STEP),
        status=2,
        says=("bad.yaml:7:11: error: '0' can't be `batches`", "→ write a number from 1"),
    ),
    "secret in shell text": Case(
        words=book("steps:\n  - run: login {{ token }}\n", head="opskit: 1\nname: bad\n"
                   "version: 1.0.0\nsummary: a test\nparams: {token: {type: secret}}\n"),
        status=2,
        says=("`token` is a secret", "process list", "→ add secrets: {TOKEN: token}"),
    ),
    "secret that is too short": Case(
        words=short_secret, status=2, says=("token", "6 characters")
    ),
    "unknown parameter": Case(
        words=book(STEP, "-p", "relase=1"), status=2, says=("relase", "→ release")
    ),
    "no yes": Case(
        words=unconfirmed,
        status=2,
        says=("this makes 4 changes on web1..web4", "no terminal to ask on", "→ add --yes"),
    ),
    "no such host": Case(
        words=book(STEP, "--limit", "wbe1"), status=2, says=("wbe1", "→", "web1")
    ),
    "host twice in the inventory": Case(
        words=hosts(lambda text: text.replace("hosts:\n", "hosts:\n  web1: {address: x}\n", 1)),
        status=2,
        says=("hosts.yaml:", "web1", "already", "→"),
    ),
    "plan of other parameters": Case(
        words=saved_plan(lambda text: text, "-p", "release=C"),
        status=5,
        says=("saved.json: the plan has changed", "parameter release has changed", "→ look at it"),
    ),
    "plan that was edited": Case(
        words=saved_plan(lambda text: text.replace("never", "once")),
        status=2,
        says=("saved.json: this plan was edited", "→ change the runbook"),
    ),
    "host key unknown": Case(
        words=hosts(without_keys),
        status=5,
        says=("host web1: no key is known of", "and of 3 more hosts", "→", "opskit hosts trust"),
    ),
    "host key changed": Case(
        words=other_keys,
        status=5,
        says=("web1", "its host key has CHANGED", "find out why before anything else"),
    ),
}  # fmt: skip

DEPLOY = {
    **{
        f"id {release!r}": Case(
            words=deploy(release=release), status=2, says=("release", "→")
        )
        for release in ("a/b", "..", "a..b", "a b", "-x", ".hidden", "", "x" * 65)
    },
    "no artifact": Case(words=deploy(artifact=False), status=2, says=("artifact", "-p")),
    "no such artifact": Case(
        words=deploy("-p", "artifact=none.tar.gz", artifact=False),
        status=2,
        says=("none.tar.gz", "→"),
    ),
    "the same release": Case(
        words=deploy(release="A"),
        status=5,
        says=("release A is live already; to deploy it again: -p redeploy=true", "web1"),
    ),
    "current leads out of releases": Case(
        words=deploy(),
        on="web3",
        breaks="ln -sfn /opt /srv/app/.c && mv -Tf /srv/app/.c /srv/app/current",
        mends="cd /srv/app && ln -sfn releases/A .c && mv -Tf .c current",
        status=5,
        says=("web3", "current points to /opt, which is not a release in /srv/app/releases"),
    ),
    "current is a directory": Case(
        words=deploy(),
        on="web2",
        breaks="cd /srv/app && rm current && cp -r releases/A current",
        mends="cd /srv/app && rm -r current && ln -s releases/A current",
        status=5,
        says=("web2", "/srv/app/current is not a symbolic link"),
    ),
    "a clock that is wrong": Case(
        words=deploy(),
        on="web4",
        breaks=SLOW_DATE,
        mends="rm /usr/local/bin/date",
        status=5,
        # 20 s, and what passes between the questions to two hosts, in whole seconds.
        says=("web4", "web4 is 2", " s ahead of web"),
    ),
}  # fmt: skip

BALANCER = {
    "last server in service": Case(
        words=deploy("--limit", "web1"),
        on="lb1",
        breaks="cd /etc/nginx/opskit && cp web.conf /root/ && "
        "awk '/server/ && n++ {sub(\";\", \" down;\")} 1' /root/web.conf >web.conf && "
        "nginx -s reload; sleep 0.5",
        mends="cp /root/web.conf /etc/nginx/opskit/web.conf && nginx -s reload; sleep 0.5",
        status=5,
        says=("lb1", "in service"),
    ),
    "101 %": Case(
        words=book("batches: [101%]\nmax_failures: 101%\n" + STEP),
        status=2,
        says=("bad.yaml:7:11: error: '101%'", "bad.yaml:8:15: error: '101%'", "up to 100%"),
    ),
    "one address for two hosts": Case(
        words=hosts(
            lambda text: text.replace(
                "hosts:\n", f"hosts:\n  twin: {{address: {_first(text)}}}\n", 1
            ).replace("  web: {hosts: [", "  web: {hosts: [twin, ", 1)
        ),
        status=2,
        says=("hosts.yaml: ", "twin and web1 have the same address", "→ name each machine once"),
    ),
}  # fmt: skip

ROLLBACK = {
    "nothing recorded": Case(
        words=rollback(),
        status=5,
        says=("web1", "no deploy of this host is on record; name the release: -p to=ID"),
    ),
    "release that is not there": Case(
        words=rollback("-p", "to=Z"),
        status=5,
        says=("web1", "release Z is not on this host any more; deploy it again"),
    ),
    "release that is live": Case(
        words=rollback("-p", "to=A"), status=5, says=("release A is live here already",)
    ),
    "release that failed its deploy": Case(
        words=rollback("-p", "to=Z", "--limit", "web1"),
        on="web1",
        breaks="cd /srv/app/releases && cp -r A Z && touch .unproven.Z",
        mends="cd /srv/app/releases && rm -r Z .unproven.Z",
        status=5,
        says=("release Z failed its own deploy here",),
    ),
    "id": Case(words=rollback("-p", "to=../A"), status=2, says=("to", "→")),
}


def _first(text: str) -> str:
    """Return the address of the first host of the lab's inventory."""
    return text.partition("address: ")[2].partition("}")[0].partition(",")[0]


def state(fleet: Fleet) -> Mapping[str, tuple[Mapping[str, Any], tuple[int, ...]]]:
    names = [host.name for host in fleet.lab.layout.hosts]
    return {name: (marks(fleet.lab, name), fleet.lab.pids(name)) for name in names}


@contextmanager
def untouched(fleet: Fleet, *, busy: str = "") -> Iterator[None]:
    """Nothing is written on any host within this, and no process comes or goes.

    `busy`: a host on which something else is at work.
    """
    before = state(fleet)
    yield
    for name, (files, pids) in state(fleet).items():
        if name == busy:
            continue
        seen = {path for path in changed(before[name][0], files) if not path.startswith(LOCKS)}
        assert seen <= SERVICE | OWN, name
        assert pids == before[name][1], name


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{rows}: {name}")
        for rows, table in (
            ("any", ANY), ("deploy", DEPLOY), ("balancer", BALANCER), ("rollback", ROLLBACK)
        )
        for name, case in table.items()
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_nothing_is_touched(fleet: Fleet, case: Case) -> None:
    words = case.words(fleet)
    if case.on:
        fleet.sh(case.on, case.breaks)
    try:
        with untouched(fleet):
            done = fleet.opskit(*words, status=case.status)
    finally:
        if case.on:
            fleet.sh(case.on, case.mends)
    said = done.stdout + done.stderr
    for part in case.says:
        assert part in said, said
    assert "Traceback" not in said
    if case.status == 2:
        assert not (fleet.folder / "store.db").exists(), "nothing began that could be recorded"


def test_a_second_run_on_the_same_lock_is_refused_and_told_who_holds_it(fleet: Fleet) -> None:
    (fleet.folder / "slow.yaml").write_text(
        "opskit: 1\nname: slow\nversion: 1.0.0\nsummary: a test\nhosts: web1\nlock: web\n"
        "steps:\n  - {name: slow work, run: sleep 300}\n"
    )
    first = fleet.start("run", "slow.yaml", "--yes")
    try:
        deadline = time.monotonic() + 60
        while "step started" not in _log(fleet):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with untouched(fleet, busy="web1"):
            done = fleet.opskit(*book("lock: web\n" + STEP)(fleet), status=5)
            as_json = fleet.opskit(*book("lock: web\n" + STEP)(fleet), "--json", status=5)
    finally:
        first.send_signal(2)
        time.sleep(0.5)  # two at once would be one
        first.send_signal(2)
        first.communicate(timeout=30)
    said = done.stderr
    assert "the lock 'web' is held by run" in said
    assert f"(process {first.pid} on " in said
    assert "it is at 'slow work' on web1" in said
    assert "→ wait for it; `opskit status" in said
    assert json.loads(as_json.stderr)["exit"] == 5


def _log(fleet: Fleet) -> str:
    return fleet.opskit("audit", "log", "last", "--json", status=None).stdout
