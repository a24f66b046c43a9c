"""Runbooks made by chance: valid ones, of every kind, scope and rule that a run can meet.

The same seed gives the same runbook. It is written as a file, so that it goes the way that a
person's would: load, plan, execute.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opskit import load
from opskit.model.plan import Plan
from opskit.model.value import Json
from opskit.plan.make import make
from tests.support.world import no_files

WORDS = (
    "plain", "two words", "$(id)", "`id`", "it's", '"; rm -rf /; "', "-rf", "a\nb", "π ≠ ü", "a;b",
    "*", "~", "\\", "{{ x }}", "%s", "# no comment", "", "&& false",
)  # fmt: skip
"""Values that a shell, a URL or a template could take for something else."""

LB = {"group": "lb", "per": "host"}
EACH: Sequence[Json] = (None, None, None, LB)
SHARED: Sequence[Json] = ("once", "batch", "controller", LB | {"per": "batch"}, LB | {"per": "run"})
READS = ("run", "run", "run", "http", "assert", "wait", "record")
CHANGES = ("run", "run", "run", "script", "upload", "template", "http", "notify", "confirm")
BATCHES: Sequence[Json] = (["100%"], [1], [1, "50%"], [2, 1], ["40%"])
ELSEWHERE = ("http", "upload", "template")
PLACE = "/var/tmp/made-by-chance"
ITEMS: Sequence[Json] = (["x", "y z"], [3, "$HOME"], "hosts", [])
HEAD: Mapping[str, Json] = {
    "opskit": 1,
    "name": "r",
    "version": "1.0.0",
    "summary": "made by chance",
    "params": {
        "word": {"default": "w"},
        "count": {"type": "int", "default": 3},
        "flag": {"type": "bool", "default": False},
    },
}
Step = dict[str, Json]


@dataclass
class Maker:
    """Makes one runbook. `each` and `shared` are the names saved so far.

    `risky`: use also names that may not be there when needed, because their step may be skipped.
    `real`: every step succeeds on a host of the lab, and nobody is asked.
    """

    chance: random.Random
    risky: bool = False
    real: bool = False
    prefix: str = ""
    each: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    count: int = 0

    def likely(self, share: float) -> bool:
        return self.chance.random() < share

    # --- texts

    def known(self, *, host: bool, batch: bool, item: bool) -> list[str]:
        """Return expressions whose value the plan has, where a step may use them."""
        found = ["word", "count", "target", "hosts | length", "vars.zone"]
        found += ["host", "host.address", "vars.rack"] if host else []
        found += ["batch.index"] if batch else []
        return found + (["item", "index"] if item else [])

    def text(self, values: Sequence[str]) -> str:
        chosen = [self.chance.choice(values) for _ in range(self.chance.randint(0, 3))]
        words = ["a", "b", *(f"{{{{ {value} }}}}" for value in chosen)]
        self.chance.shuffle(words)
        return " ".join(words)

    def lead(self, kind: str) -> str:
        """Return what makes a shell text harmless, so that real hosts can have it."""
        if not self.real or kind not in ("run", "unless"):
            return ""
        return ": " if kind == "run" else self.chance.choice((": ", "false "))

    def condition(self, *, host: bool) -> str:
        known = ["count > 2", "word != 'x'", "flag", "not flag", "vars.zone == 'z1'"]
        known += ["host.name != 'web1'", "vars.rack == 'r1'"] if host else []
        asked = "run.id and " if self.risky else ""  # without it that is refused
        late = [f"{asked}{name} != ''" for name in self.shared + (self.each if host else [])]
        return self.chance.choice(known + late)

    # --- steps

    def steps(self, number: int, phase: str, *, includes: bool = False) -> list[Step]:
        return [self._any(phase, includes=includes) for _ in range(number)]

    def _any(self, phase: str, *, includes: bool) -> Step:
        self.count += 1
        if includes and self.likely(0.12):
            return self._include()
        reads = phase == "preflight" or self.likely(0.3)
        return self._step(phase, self.chance.choice(self._kinds(reads=reads)), reads=reads)

    def _kinds(self, *, reads: bool) -> Sequence[str]:
        if reads:
            return READS
        return [k for k in CHANGES if not self.real or k not in ("http", "confirm")]

    def _step(self, phase: str, kind: str, *, reads: bool) -> Step:
        each = self.likely(0.7)
        on = self.chance.choice(EACH if each else SHARED)
        if self.real and kind in ELSEWHERE and on not in (None, "once", "batch"):
            kind = "run"
        whole_run = on in ("controller", LB | {"per": "run"})
        host = each or on in ("once", "batch")
        item = self.likely(0.2)
        known = self.known(host=host, batch=phase == "main" and not whole_run, item=item)
        late = ["run.id", *self.shared, *(self.each if host else [])]
        values = known * 3 + late
        step: Step = {"name": f"{self.prefix}step {self.count}"}
        said = self.lead(kind) + self.text(values)
        step |= self._work(kind, said, known, values, reads=reads)
        step |= {"on": on} if on else {}
        step |= {"phase": "preflight"} if phase == "preflight" else {}
        step |= {"for_each": self.chance.choice(ITEMS)} if item else {}
        step |= {"when": self.condition(host=host)} if self.likely(0.3) else {}
        if self.risky:  # without a condition of its own a step that uses them is refused
            step.setdefault("when", "run.id")
        if kind in ("run", "script"):
            step |= self._around(values, reads=reads)
        if kind in ("run", "script", "http") and not reads and phase == "main":
            step |= self._undo(values)
        self._save(step, kind)
        return step

    def _work(
        self, kind: str, said: str, known: Sequence[str], values: Sequence[str], *, reads: bool
    ) -> Step:
        base = "http://{{ target.address }}"
        url = f"{base}:80/{{{{ {self.chance.choice(values)} }}}}"
        sent: Json = {"url": url, "method": "POST", "body": said}
        asked: Json = {"url": url, "expect": {"headers": {"X": said}}}
        if self.real:
            url = f"{base}:8000/health/?q={{{{ {self.chance.choice(values)} }}}}"
            sent = asked = {"url": url, "via": self.chance.choice(("host", "controller"))}
        # The word is left out of paths: some of its values can't stand in one.
        place = self.chance.choice([name for name in known if name != "word"])
        works: Mapping[str, Json] = {
            "run": said,
            "script": {"text": "#!/bin/sh\necho $1\n", "args": [said, 1]},
            "upload": {"src": "file.bin", "dest": f"{PLACE}/{{{{ target }}}}"},
            "template": {"src": "t.conf", "dest": f"{PLACE}/t.{{{{ {place} }}}}"},
            "http": asked if reads else sent,
            "assert": {"that": ["count > 0"], "message": said},
            "wait": "1ms",
            "record": {"runbook": "other", "value": "v", "default": "d"},
            "notify": said,
            "confirm": said,
        }
        return {kind: works[kind], **({"effect": "read"} if kind == "run" and reads else {})}

    def _around(self, values: Sequence[str], *, reads: bool) -> Step:
        shares = {"cwd": 0.2, "stdin": 0.2, "unless": 0.0 if reads else 0.15}
        keys = [key for key, share in shares.items() if self.likely(share)]
        step: Step = {key: self.lead(key) + self.text(values) for key in keys}
        return step | ({"cwd": "/tmp"} if self.real and "cwd" in step else {})

    def _undo(self, values: Sequence[str]) -> Step:
        undo: list[Json] = [{"run": f"{self.lead('run')}undo {self.text(values)}"}]
        undo += [{"run": f"{self.lead('run')}check", "effect": "read"}] if self.likely(0.3) else []
        return {"undo": undo} if self.likely(0.5) else {}

    def _save(self, step: Step, kind: str) -> None:
        if kind != "record" and (kind != "run" or "for_each" in step or self.likely(0.7)):
            return
        name = f"{self.prefix}saved{self.count}"
        step["save"] = name
        if not self.risky and step.keys() & {"when", "unless", "for_each"}:
            return  # it may be skipped, and whatever uses its value would then fail
        if "when" in step:  # what is skipped for sure is refused when planning
            step["when"] = f"({step['when']}) and run.id"
        (self.each if step.get("on") in EACH else self.shared).append(name)

    def _include(self) -> Step:
        given = ("{{ word }}", "{{ vars.zone }}-x", "fixed", "{{ hosts | length }}")
        within: Json = {"name": "inner", "with": {"word": self.chance.choice(given)}}
        return {"name": f"step {self.count}", "runbook": within}


def write(
    seed: int, folder: Path, *, risky: bool = False, real: bool = False
) -> Mapping[str, Json]:
    """Write runbook and inventory number `seed`; return the parameters to plan them with."""
    chance = random.Random(seed)
    maker = Maker(chance, risky=risky, real=real)
    head: Step = {
        **HEAD,
        "hosts": "web",
        "batches": chance.choice(BATCHES),
        "on_failure": chance.choice(("stop", "undo")),
        "max_failures": chance.choice((0, 0, 1, "50%")),
    }
    before = maker.steps(chance.randint(0, 2), "preflight")
    main = maker.steps(chance.randint(1, 5), "main", includes=True)
    always = maker.steps(chance.randint(0, 1), "always")
    inner = Maker(chance, real=real, prefix="in_").steps(chance.randint(1, 2), "main")
    _write(folder / "r.yaml", head, steps=before + main, always=always)
    _write(folder / "inner.yaml", {**HEAD, "name": "inner"}, steps=inner)
    (folder / "file.bin").write_bytes(b"abc")
    (folder / "t.conf").write_text("zone = {{ vars.zone }}\nto = {{ target }}\n")
    (folder / "i.yaml").write_text(inventory(chance.randint(1, 5)))
    word = chance.choice(WORDS)
    return {"word": word, "count": chance.randint(1, 4), "flag": chance.random() < 0.5}


def _write(path: Path, head: Mapping[str, Json], **parts: Sequence[Step]) -> None:
    """Write a runbook; what JSON writes in one line, YAML reads as well."""
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    for key, steps in parts.items():
        lines += [f"{key}:"] if steps else []
        lines += [f"  - {json.dumps(step, ensure_ascii=False)}" for step in steps]
    path.write_text("\n".join(lines) + "\n")


def inventory(hosts: int) -> str:
    """Return the text of an inventory with so many web hosts, and two balancers."""
    names = [f"web{n + 1}" for n in range(hosts)]
    web = {
        name: {"address": f"10.0.0.{n}", "vars": {"rack": f"r{n % 2}"}}
        for n, name in enumerate(names, 1)
    }
    lb = {f"lb{n}": {"address": f"10.0.1.{n}"} for n in (1, 2)}
    whole = {
        "opskit": 1,
        "vars": {"zone": "z1", "rack": "none"},
        "hosts": web | lb,
        "groups": {"web": names, "lb": list(lb)},
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in whole.items())


def plan(seed: int, folder: Path, *, risky: bool = False) -> Plan:
    """Plan runbook number `seed`."""
    values = write(seed, folder, risky=risky)
    runbook = load.runbook(folder / "r.yaml", [folder])
    return make(runbook, load.inventory(folder / "i.yaml"), values, files=no_files)
