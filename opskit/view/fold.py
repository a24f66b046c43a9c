"""Actions that are the same on many hosts, brought together so that a long plan stays short."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from opskit.model.frozen import frozen
from opskit.model.inventory import Host
from opskit.model.plan import Action, Plan, Stage
from opskit.view import works
from opskit.view.labels import machine

PREFLIGHT, ALWAYS = -1, -2


@frozen
class Group:
    """Actions of one step whose texts differ at most in what their hosts are called.

    `signature` is equal for two groups exactly when that holds between them too.
    """

    stage: Stage
    actions: tuple[Action, ...]
    signature: tuple[str, ...]
    same: bool
    """Whether the texts are equal to the letter."""

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(machine(action) for action in self.actions))

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(action.target for action in self.actions))

    @property
    def elsewhere(self) -> bool:
        """Whether the work is done on another machine than the host that it is for."""
        return any(action.target != machine(action) for action in self.actions)


@frozen
class Section:
    """Preflight, one batch, or always, with its groups in order."""

    batch: int
    hosts: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def actions(self) -> Iterator[Action]:
        return (action for group in self.groups for action in group.actions)

    @property
    def steps(self) -> Mapping[str, tuple[tuple[str, ...], ...]]:
        """The signatures of each step's groups, by position."""
        found: dict[str, tuple[tuple[str, ...], ...]] = {}
        for group in self.groups:
            position = group.stage.position
            found[position] = (*found.get(position, ()), group.signature)
        return found


class Generic:
    """Replaces what is a host's own (name, address, vars) by what it is called."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts
        self._made: dict[tuple[str, str], tuple[re.Pattern[str], Mapping[str, str]]] = {}

    def text(self, action: Action, text: str) -> str:
        pattern, names = self._words(action.host, action.target)
        return pattern.sub(lambda match: names[match[0]], text)

    def _words(self, host: str, target: str) -> tuple[re.Pattern[str], Mapping[str, str]]:
        found = self._made.get((host, target))
        if found is None:
            names = {**self._own(target, "target"), **self._own(host, "host")}
            longest = sorted(names, key=len, reverse=True)
            words = "|".join(re.escape(word) for word in longest)
            pattern = re.compile(rf"(?<![\w.-])(?:{words})(?![\w-])" if words else r"(?!)")
            found = self._made[host, target] = (pattern, names)
        return found

    def _own(self, name: str, role: str) -> dict[str, str]:
        names = {name: f"\0{role}\0"} if name else {}
        host = self._hosts.get(name)
        if host is None:
            return names
        for key, value in host.vars.items():
            if (isinstance(value, str) and len(value) > 2) or (type(value) is int and value > 99):
                names[str(value)] = f"\0{role}.{key}\0"
        names[host.address] = f"\0{role}.address\0"
        names[name] = f"\0{role}\0"
        return names


def sections(plan: Plan, *, apart: bool = False) -> list[Section]:
    """Cut a plan into sections, in its order, and fold each; with `apart` actions stay alone."""
    parts: dict[int, list[Action]] = {}
    for action in plan.actions:
        parts.setdefault(action.batch, []).append(action)
    generic = Generic(plan.hosts)
    return [
        Section(
            batch=batch,
            hosts=_hosts(plan, batch, actions),
            groups=tuple(fold(actions, plan.stages, generic, apart=apart)),
        )
        for batch, actions in parts.items()
    ]


def _hosts(plan: Plan, batch: int, actions: Sequence[Action]) -> tuple[str, ...]:
    if 0 <= batch < len(plan.batches):
        return plan.batches[batch]
    return tuple(dict.fromkeys(machine(action) for action in actions))


def fold(
    actions: Iterable[Action],
    stages: Mapping[str, Stage],
    generic: Generic,
    *,
    apart: bool = False,
) -> Iterator[Group]:
    """Group actions, in the order in which each group's first one stands."""
    groups: dict[tuple[object, ...], list[Action]] = {}
    exact: dict[tuple[object, ...], set[str]] = {}
    for action in actions:
        raw = _raw(action)
        signature = (action.position, str(action.index), generic.text(action, raw))
        key: tuple[object, ...] = (*signature, action.key) if apart else signature
        groups.setdefault(key, []).append(action)
        exact.setdefault(key, set()).add(raw)
    for key, members in groups.items():
        yield Group(
            stage=stages[members[0].position],
            actions=tuple(members),
            signature=tuple(str(part) for part in key[:3]),
            same=len(exact[key]) == 1,
        )


def _raw(action: Action) -> str:
    """Everything about an action that a reader would call its text."""
    parts = [*works.lines(action.work, full=True), f"when {action.when}"]
    if action.skip_if is not None:
        parts += works.lines(action.skip_if, full=True)
    for undo in action.undo:
        parts += [f"undo when {undo.when}", *works.lines(undo.work, full=True)]
    return "\n".join(parts)
