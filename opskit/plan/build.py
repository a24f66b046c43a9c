"""One step at one spot → one action, with its conditions, probes and undo."""

from collections.abc import Mapping
from dataclasses import field, replace

from opskit.errors import InputError
from opskit.model.frozen import mutable
from opskit.model.inventory import Inventory, database_target, redis_target
from opskit.model.keys import Keys
from opskit.model.payouts import Payouts
from opskit.model.plan import Action, Stage
from opskit.model.queues import Messages
from opskit.model.rows import Rows
from opskit.model.runbook import Phase, Step
from opskit.model.text import Fixed, Text
from opskit.model.text import text as known
from opskit.model.value import Json
from opskit.model.warm import Warm
from opskit.model.work import (
    Command,
    Recall,
    Repair,
    Upload,
    Work,
)
from opskit.plan.arguments import Expectations, Files, History, Renderer, from_file
from opskit.plan.channels import channels
from opskit.plan.databases import database
from opskit.plan.expand import Placed
from opskit.plan.pool import pool
from opskit.plan.spread import Spot, server_of, spread
from opskit.plan.traces import taken_back
from opskit.plan.values import host_of, local, misses
from opskit.render import TemplateError, evaluate, host_view, value
from opskit.steps import KINDS, health
from opskit.steps.base import a_number
from opskit.steps.index import repairs

_EXISTS = 'test -e "$1"'


@mutable
class Builder:
    """Makes the actions of a plan; collects the stages that they belong to."""

    inventory: Inventory
    general: Mapping[str, object]
    batches: tuple[tuple[str, ...], ...]
    secrets: frozenset[str]
    files: Files
    expectations: Expectations = from_file
    history: History | None = None
    ambiguous: frozenset[str] = frozenset()
    """Names, as the run keeps them, that several steps save."""
    recalled: dict[tuple[str, str], str] = field(default_factory=dict)
    """By host and name: values of earlier runs that are known already."""
    stages: dict[str, Stage] = field(default_factory=dict)
    shared: dict[int, tuple[Step, Work | None]] = field(default_factory=dict)
    """By the identity of a step: the step, and its work where that is the same everywhere."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that the run is about."""
        return tuple(host for batch in self.batches for host in batch)

    def actions(self, placed: Placed, spot: Spot) -> list[Action]:
        """Make the actions of a step at a spot: one, or one for each item."""
        names = self._names(placed, spot)
        if placed.step.kind == "index":
            return self._each_index(placed, spot, names)
        if placed.step.for_each is None:
            return [self._action(placed, spot, names, 0, "")]
        written = placed.step.for_each  # a string is an expression: load took its braces off
        where = placed.step.places.get("for_each", placed.step.place)
        try:
            items = evaluate(written, names) if isinstance(written, str) else value(written, names)
        except TemplateError as error:
            raise misses(str(error), names, where) from error
        if not isinstance(items, (list, tuple)):
            raise InputError("`for_each` is not a list", where=str(where))
        return [
            self._action(placed, spot, {**names, "item": item, "index": n}, n, f"#{n}")
            for n, item in enumerate(items)
        ]

    def _each_index(self, placed: Placed, spot: Spot, names: Mapping[str, object]) -> list[Action]:
        """Make an action for each index that a step is about: each is begun and told of alone."""
        args = self._renderer(placed, names, spot).arguments()
        args |= database(self.inventory, placed.step, args)
        count = len(repairs(args, placed.step))
        return [self._action(placed, spot, {**names, "index": n}, n, f"#{n}") for n in range(count)]

    def _names(self, placed: Placed, spot: Spot) -> dict[str, object]:
        """Return what the templates of a step can name at a spot."""
        base = dict(self.general)
        if spot.host:
            base |= local(host_of(self.inventory, spot.host))
        base["target"] = host_view(host_of(self.inventory, spot.target))
        if spot.batch >= 0:
            base["batch"] = {"index": spot.batch, "hosts": list(self.batches[spot.batch])}
        return placed.frame.names(base)

    def _action(
        self, placed: Placed, spot: Spot, names: Mapping[str, object], index: int, suffix: str
    ) -> Action:
        step = placed.step
        self._stage(placed, step)
        render = self._renderer(placed, names, spot)
        when = self._when(placed, names, spot)
        work = self._left_out(placed, when)
        work = work or self._recall(placed, self._work(placed, render, spot), when)
        target = server_of(work) or spot.target
        elsewhere = f">{target}" if target != spot.host else ""
        key = f"{step.position}/{spot.host}{elsewhere}{suffix}"
        if spot.batch > 0 and not spot.host:
            key += f"@{spot.batch}"
        return Action(
            key=key,
            position=step.position,
            batch=spot.batch,
            host=spot.host,
            target=target,
            work=work,
            when=when,
            skip_if=self._skip_if(render, work),
            done_when=self._done_when(placed, names, spot),
            undo=self._undo(placed, spot, names, key, work),
            index=index,
        )

    def _renderer(self, placed: Placed, names: Mapping[str, object], spot: Spot) -> Renderer:
        saved = placed.frame.saved.items()
        known = {
            n: self.recalled[spot.host, k] for n, k in saved if (spot.host, k) in self.recalled
        }
        return Renderer(
            placed=placed,
            names={**names, **known},
            late=placed.frame.late - known.keys(),
            secrets=self.secrets,
            files=self.files,
            expectations=self.expectations,
        )

    def _work(self, placed: Placed, render: Renderer, spot: Spot) -> Work:
        """Make the work of a step: one for all hosts where nothing in it has to be rendered."""
        step = placed.step
        found = self.shared.get(id(step))
        if found is None:
            same = self._own_work(placed, render, spot) if _same_everywhere(step) else None
            found = self.shared[id(step)] = (step, same)
        return found[1] or self._own_work(placed, render, spot)

    def _own_work(self, placed: Placed, render: Renderer, spot: Spot) -> Work:
        args = render.arguments()
        if placed.step.kind == "health":
            args = health.opened(args, placed.step)
        if placed.step.kind in ("traffic", "colours", "gate"):
            args |= pool(self.inventory, placed.step, args, spot.target, self.hosts)
        if placed.step.kind == "gate":
            reached = self.batches[: max(spot.batch, 0) + 1]
            args["reached"] = tuple(known(host) for batch in reached for host in batch)
        if placed.step.kind == "warm" and args.get("file") is not None:
            args.pop("sql", None)  # rows are in the file that is named
        if placed.step.kind in _OF_DATABASES or "sql" in args:
            args |= database(self.inventory, placed.step, args)
        if placed.step.kind == "notify":
            args |= channels(self.inventory, placed.step, args)
        if placed.step.kind == "index":
            args["number"] = known(str(render.names["index"]))
        if placed.step.kind in _OF_REDIS or args.keys() & {"redis", "info"}:
            from opskit.plan.redis import server  # few plans have any

            args |= server(self.inventory, placed.step, args)
        work = _equipped(KINDS[placed.step.kind].work(args, placed.step), render)
        return replace(work, host=spot.host) if isinstance(work, Recall) else work

    def _left_out(self, placed: Placed, when: Text | None) -> Work | None:
        """Return what stands for a gate that is left out: nobody need say where requests are."""
        parts = when.parts if when is not None and placed.step.kind == "gate" else ()
        left_out = any(isinstance(part, Fixed) and part.text == "False" for part in parts)
        return Command(text=known("exit 7"), summary="no gate", verdict=True) if left_out else None

    def _recall(self, placed: Placed, work: Work, when: Text | None) -> Work:
        """Look a recalled value up, so that what uses it is known; the run holds to that value."""
        step = placed.step
        if not isinstance(work, Recall) or step.save is None or self.history is None:
            return work
        kept = placed.frame.saved.get(step.save.name, "")
        sure = when is None or str(when) == "True"
        alone = step.on.scope == "each" and step.for_each is None and kept not in self.ambiguous
        if not (sure and alone) or (work.run is not None and work.run.late):
            return work
        value = self.history(work)
        value = work.default if value is None else value
        if value is not None:
            self.recalled[work.host, kept] = value
        return replace(work, planned=value)

    def _when(self, placed: Placed, names: Mapping[str, object], spot: Spot) -> Text | None:
        """Join the conditions of the step and of the includes around it; None: always."""
        texts = []
        for expression, frame in placed.conditions:
            outer = self._renderer(replace(placed, frame=frame), frame.names(names), spot)
            texts.append(outer.condition(expression, "when"))
        if placed.step.when is not None:
            own = self._renderer(placed, names, spot)
            texts.append(own.condition(placed.step.when, "when"))
        parts = tuple(p for one in texts for p in one.parts)
        return Text(parts=parts) if parts else None

    def _skip_if(self, render: Renderer, work: Work) -> Work | None:
        """Return the read that tells that nothing needs doing (`creates`, `unless`)."""
        step = render.step
        like = work if isinstance(work, Command) else None
        cwd, sudo = (like.cwd, like.sudo) if like else (None, None)
        if step.creates is not None:
            path = render.text(step.creates, "creates")
            said = f"test -e {path}"  # a shell text: a script would lie on the host for a moment
            return Command(text=known(_EXISTS), args=(path,), cwd=cwd, sudo=sudo, summary=said)
        if step.unless is not None:
            return Command(text=render.text(step.unless, "unless", "word"), cwd=cwd, sudo=sudo)
        if isinstance(work, Repair) and work.do in ("create", "tidy"):
            return replace(work, probe=True)
        return None

    def _done_when(self, placed: Placed, names: Mapping[str, object], spot: Spot) -> Work | None:
        step = placed.step.done_when
        if step is None:
            return None
        inner = replace(placed, step=step)
        return self._work(inner, self._renderer(inner, names, spot), spot)

    def _undo(
        self, placed: Placed, spot: Spot, names: Mapping[str, object], key: str, work: Work
    ) -> tuple[Action, ...]:
        if not placed.step.undo:
            return self._own_undo(placed, spot, key, work)
        found: list[Action] = []
        for number, step in enumerate(placed.step.undo, 1):
            inner = replace(placed, step=step, conditions=())
            for there in self._undo_spots(placed.step, step, spot):
                scope = {**names, "target": host_view(host_of(self.inventory, there.target))}
                elsewhere = f">{there.target}" if there.target != spot.target else ""
                action = self._action(inner, there, scope, 0, "")
                found.append(replace(action, key=f"{key}!{number}{elsewhere}", undo=(), undoes=key))
        return (*found[:-1], *(replace(action, last=True) for action in found[-1:]))

    def _undo_spots(self, parent: Step, step: Step, spot: Spot) -> list[Spot]:
        """An undo runs where its step ran, unless it says otherwise."""
        if step.on.scope != "group" or step.on == parent.on:
            return [spot]
        batch = [spot.host] if spot.host else list(self.batches[max(spot.batch, 0)])
        return list(spread(step.on, spot.batch, batch, self.inventory, step.place))

    def _own_undo(self, placed: Placed, spot: Spot, key: str, work: Work) -> tuple[Action, ...]:
        """An upload takes itself back: it removes what it created, restores what it replaced.

        So does what builds or drops an index, what holds payouts, and what keeps the rows or keys
        that it removes, and what fills a cache.
        """
        taken = taken_back(work, key)
        if taken is None:
            return ()
        step = replace(
            placed.step,
            position=f"{placed.step.position}u1",
            name=f"Take back: {placed.step.name}",
            save=None,
            until=None,
            retry=None,
        )
        self._stage(placed, step)
        target = spot.target
        if isinstance(taken, (Repair, Payouts, Rows)):
            target = database_target(taken.database)
        if isinstance(taken, (Keys, Warm, Messages)):
            target = redis_target(taken.server)
        return (
            Action(
                key=f"{key}!1",
                position=step.position,
                batch=spot.batch,
                host=spot.host,
                target=target,
                work=taken,
                undoes=key,
                last=True,
            ),
        )

    def _stage(self, placed: Placed, step: Step) -> None:
        if step.position in self.stages:
            return
        frame = placed.frame
        phase: Phase = placed.phase
        save = step.save and replace(
            step.save, name=frame.saved.get(step.save.name, step.save.name)
        )
        self.stages[step.position] = Stage(
            position=step.position,
            name=step.name,
            kind=step.kind,
            place=step.place,
            phase=phase,
            effect=step.effect,
            scope=step.on.scope,
            per_run=step.on.scope == "group" and step.on.per == "run",
            save=save,
            until=step.until,
            retry=step.retry,
            repeatable=step.repeatable,
            on_unknown=step.on_unknown,
            on_failure=step.on_failure,
            timeout=self._timeout(placed, step),
            silent=step.silent,
            lasting=step.lasting and step.kind not in _LEAVES_NOTHING,
            prepares=step.prepares,
            at_once=self._at_once(placed, step),
            names={n: k for n, k in frame.saved.items() if n != k},
        )

    def _number(self, placed: Placed, step: Step, key: str, written: str) -> float:
        """Return a number among the common keys that is a template, with what a run has."""
        names = placed.frame.names(dict(self.general))
        spot = Spot(batch=0, host="", target="")
        render = self._renderer(replace(placed, step=step), names, spot)
        return a_number(known(render.word(written, key)), step, key)

    def _at_once(self, placed: Placed, step: Step) -> int:
        number: float | str = step.at_once
        if isinstance(number, str):
            number = self._number(placed, step, "at_once", number)
        if number not in range(1, _AT_ONCE + 1):
            told, hint = f"`at_once` came to {number:g}", f"write 1, 2, … or {_AT_ONCE}"
            raise InputError(told, where=str(step.place), hint=hint)
        return int(number)

    def _timeout(self, placed: Placed, step: Step) -> float:
        """Return a step's limit in seconds, where it is a template rendered with what a run has."""
        if not isinstance(step.timeout, str):
            return step.timeout
        seconds = self._number(placed, step, "timeout", step.timeout)
        if seconds <= 0:
            raise InputError("`timeout` came to 0", where=str(step.place), hint="write more than 0")
        return seconds


_LEAVES_NOTHING = ("indexes", "gate")
"""Kinds that may be carried like changes and leave nothing: what indexes call is rolled back."""


_AT_ONCE = 8
"""So many reads at once has a host: each is a shell, and many an sshd gives ten to a connection."""
_OF_DATABASES = frozenset(
    {"sql", "indexes", "index", "duplicates", "payouts", "rows", "activity", "sessions", "bloat"}
)
"""Kinds whose steps work on a database of the inventory."""
_OF_REDIS = frozenset({"redis", "keys", "warm", "queues", "messages"})
"""Kinds whose steps work on a Redis server of the inventory."""
_PLAIN_KINDS = frozenset({"run", "script", "http", "wait", "notify"})
"""Kinds whose work follows from the step alone when there is no template in it."""


def _same_everywhere(step: Step) -> bool:
    written = [step.args, step.sudo, step.cwd, step.stdin]
    return step.kind in _PLAIN_KINDS and not any(map(_has_braces, written))


def _has_braces(written: Json) -> bool:
    if isinstance(written, Mapping):
        return any(map(_has_braces, written.values()))
    if isinstance(written, (list, tuple)):
        return any(map(_has_braces, written))
    return isinstance(written, str) and "{" in written


def _equipped(work: Work, render: Renderer) -> Work:
    """Put what is common to all kinds on a work: directory, user, input, secrets."""
    step = render.step
    sudo = None if step.sudo is None else render.word(step.sudo, "sudo")
    match work:
        case Command():
            return replace(
                work,
                cwd=None if step.cwd is None else render.text(step.cwd, "cwd"),
                stdin=render.stdin(),
                secrets=step.secrets,
                sudo=sudo or work.sudo,
            )
        case Upload():
            return replace(work, sudo=sudo or work.sudo)
        case _:
            return work
