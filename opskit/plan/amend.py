"""A plan that is being carried out gives way to one with other parameters, as far as it may.

Each host comes to its end with one value: one on which something was done with the old one keeps
the old texts for all that it has to do still. What failed, was taken back or was never begun is
done with the new ones from then on, and an undo takes back each attempt as that one was made. Looks
that have saved nothing bind nobody: they are made again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from opskit.model.frozen import frozen
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord
from opskit.model.work import Upload
from opskit.plan.again import concerned
from opskit.plan.make import seal
from opskit.plan.spread import ALWAYS

_MOST = 5
"""So many things that would be different are named."""


class UnsoundError(ValueError):
    """What was done does not go together with what would be done after it."""


@frozen
class Merged:
    """A plan of which some was carried out before it.

    `hosts`: those that have the new texts from here on, `kept`: those that go on as they began,
    `steps`: position → where its text is a new one, `again`: the keys of looks that are made again.
    """

    plan: Plan
    hosts: tuple[str, ...]
    kept: tuple[str, ...]
    steps: Mapping[str, tuple[str, ...]]
    again: tuple[str, ...]


def merge(old: Plan, new: Plan, records: Mapping[str, ActionRecord], key: str) -> Merged:
    """Put a new plan in the place of the old one, of which `records` tell what was done.

    `key` is the action that is to be done again. UnsoundError where a host would have some of both.
    """
    return _Merge(old, new, records, key).done()


class _Merge:
    def __init__(self, old: Plan, new: Plan, records: Mapping[str, ActionRecord], key: str) -> None:
        self.old = old
        self.new = new
        self.records = records
        self.key = key
        self.before = {action.key: action for action in old.actions}
        self.after = {action.key: action for action in new.actions}

    def done(self) -> Merged:
        if self.key not in self.after:
            raise UnsoundError("the step that this is about would not be in the plan")
        self._refuse_other_rules()
        bound = self._bound()
        actions = tuple(self._ordered(bound))
        plan = replace(
            self.new,
            hosts={**self.new.hosts, **self.old.hosts},
            databases={**self.new.databases, **self.old.databases},
            channels={**self.new.channels, **self.old.channels},
            stages={**self.new.stages, **self.old.stages},
            actions=actions,
        )
        changed = [action for action in actions if self.before.get(action.key) != action]
        steps: dict[str, list[str]] = {}
        for action in changed:
            steps.setdefault(action.position, []).append(action.host or action.target)
        forward = [a for a in changed if a.batch != ALWAYS or a.host]
        hosts = {host for action in forward for host in concerned(plan, action)} - bound
        everyone = [host for batch in plan.batches for host in batch]
        return Merged(
            plan=seal(plan),
            hosts=tuple(host for host in everyone if host in hosts),
            kept=tuple(host for host in everyone if host in bound),
            steps={position: tuple(dict.fromkeys(names)) for position, names in steps.items()},
            again=tuple(a.key for a in changed if a.key != self.key and self._look(a)),
        )

    def _refuse_other_rules(self) -> None:
        stages = self.old.stages, self.new.stages
        for position in stages[0].keys() & stages[1].keys():
            if stages[0][position] != stages[1][position]:
                name = stages[0][position].name
                raise UnsoundError(f"the rules of the step {name!r} would be others")

    # --- which hosts keep the old texts ---

    def _bound(self) -> set[str]:
        """Return the hosts that have come too far for other texts; not where it is to be done."""
        here = set(concerned(self.old, self.before[self.key]))
        done = [a for a in self.old.actions if a.key != self.key and self._concluded(a)]
        done = [a for a in done if self._differs(a.key) and not self._look(a)]
        if mine := [action for action in done if here & set(concerned(self.old, action))]:
            names = self._named(self.old, mine)
            raise UnsoundError(f"there would be other texts for what was begun already: {names}")
        keys = [*self.after]
        added = [self.after[k] for k in keys[: keys.index(self.key)] if k not in self.before]
        if more := [action for action in added if here & set(concerned(self.new, action))]:
            names = self._named(self.new, more)
            raise UnsoundError(f"there would be more to do before this: {names}")
        bound = {host for action in done for host in concerned(self.old, action)}
        return bound | {host for action in added for host in concerned(self.new, action)}

    def _concluded(self, action: Action) -> bool:
        """Tell whether the run rests on how an action was done, or may come to rest on it."""
        if any(self._begun(undo) for undo in action.undo) and self._state(action) != "undone":
            return True
        match self._state(action):
            case "planned":
                return False
            case "failed":
                rule = self.old.stage(action).on_failure or self.old.on_failure
                return rule == "continue" or action.key not in self.after
            case "undone":
                return action.key not in self.after
            case _:
                return True

    def _look(self, action: Action) -> bool:
        """Tell whether an action was a look on which nothing that was done rests."""
        stage = self.old.stages.get(action.position)
        return (
            stage is not None
            and (stage.effect, stage.save) == ("read", None)
            and action.batch != ALWAYS
            and action.key in self.after
            and self._state(action) not in ("planned", "started")
        )

    def _state(self, action: Action) -> str:
        record = self.records.get(action.key)
        return record.state if record is not None else "planned"

    def _begun(self, action: Action) -> bool:
        return self._state(action) != "planned"

    def _differs(self, key: str) -> bool:
        old, new = self.before.get(key), self.after.get(key)
        return old is None or new is None or _shape(old) != _shape(new)

    # --- the actions of the plan ---

    def _ordered(self, bound: set[str]) -> Iterator[Action]:
        """Yield the actions that stay and those that come, in the order of their steps."""
        waves = _waves(self.new), _waves(self.old)
        order = [*waves[0]]
        place = 0
        for wave in waves[1]:
            if wave not in waves[0]:
                order.insert(place, wave)
            place = order.index(wave) + 1
        order.sort(key=lambda wave: (wave[0] == ALWAYS, wave[0]))
        for wave in order:
            for key in dict.fromkeys([*waves[0].get(wave, ()), *waves[1].get(wave, ())]):
                action = self._chosen(key, bound)
                if action is not None:
                    yield action

    def _chosen(self, key: str, bound: set[str]) -> Action | None:
        """Return an action as it is to be done; None where it is not."""
        old, new = self.before.get(key), self.after.get(key)
        if not self._differs(key):
            return old
        either = old or new
        assert either is not None
        whose = set(concerned(self.old if old else self.new, either))
        if self._look(either):
            return old if whose <= bound else new
        if whose <= bound and not (either.batch == ALWAYS and not either.host):
            return old
        if whose & bound and either.batch != ALWAYS:
            name = self._named(self.old if old else self.new, [either])
            raise UnsoundError(
                f"{name} is done once for several hosts, of which {', '.join(sorted(bound))}"
                " would keep the old value and others have the new one"
            )
        if whose & bound and old is not None and self._begun(old):
            return old
        return self._renewed(old, new)

    def _renewed(self, old: Action | None, new: Action | None) -> Action | None:
        """Return an action as it is done from here on, with the undo of attempts made before."""
        record = self.records.get(old.key) if old is not None else None
        if old is None or new is None or record is None or not _stands(record):
            return new
        if _place(old) != _place(new):
            name = self._named(self.old, [old])
            raise UnsoundError(f"{name} may have put a file in one place, and would in another")
        if _shape(old)[1] == _shape(new)[1]:
            return replace(new, undo=old.undo)
        return replace(new, undo=_both(new, old, since=record.attempt + 1))

    def _named(self, plan: Plan, actions: Sequence[Action]) -> str:
        more = [f"and {len(actions) - _MOST} more"] if len(actions) > _MOST else []
        return ", ".join([*(self._one(plan, action) for action in actions[:_MOST]), *more])

    def _one(self, plan: Plan, action: Action) -> str:
        record = self.records.get(action.key)
        state = f" ({record.state})" if record is not None else ""
        return f"{plan.stage(action).name!r} on {action.host or action.target}{state}"


def _stands(record: ActionRecord) -> bool:
    """Tell whether an attempt may have left something on its target."""
    return record.sent and record.stands not in ("planned", "skipped", "undone")


def _place(action: Action) -> object:
    """Return where a file goes: the host remembers of one place what stood there."""
    return action.work.dest if isinstance(action.work, Upload) else None


def _shape(action: Action) -> tuple[Action, tuple[Action, ...]]:
    """Return what an action does, and how its next attempt would be taken back."""
    latest = max((undo.since for undo in action.undo), default=0)
    undo = tuple(
        replace(one, key="", since=0, last=False) for one in action.undo if one.since == latest
    )
    return replace(action, undo=()), undo


def _both(new: Action, old: Action, *, since: int) -> tuple[Action, ...]:
    """Return the undo of a new attempt, and under it the undo of those made before.

    The old steps keep their keys, and with these what the record has of them.
    """
    used = [int(one.key[len(old.key) + 1 :].partition(">")[0]) for one in old.undo]
    first = max(used, default=0)
    added: list[Action] = []
    for one in new.undo:
        number, mark, target = one.key[len(new.key) + 1 :].partition(">")
        key = f"{new.key}!{first + int(number)}{mark}{target}"
        added.append(replace(one, key=key, since=since, last=one.last and not old.undo))
    return (*added, *old.undo)


def _waves(plan: Plan) -> Mapping[tuple[int, str], list[str]]:
    """Return the keys of a plan's actions by batch and step, in their order."""
    found: dict[tuple[int, str], list[str]] = {}
    for action in plan.actions:
        found.setdefault((action.batch, action.position), []).append(action.key)
    return found
