"""Plans made from a plan and its record: what is left, how to take back, what may be looked at."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import assert_never

from opskit.model.plan import Action, Plan, Stage
from opskit.model.run import ActionRecord
from opskit.model.states import ActionState
from opskit.model.work import Ask, Check, Notify, Upload, Wait
from opskit.plan.spread import ALWAYS
from opskit.plan.survey import never

Records = Mapping[str, ActionRecord]


def state_of(records: Records, key: str) -> ActionState:
    record = records.get(key)
    return record.state if record else "planned"


def remaining(plan: Plan, records: Records) -> Plan:
    """Return what is still to do. A change that may have run is never silently repeated.

    A started change stays in the plan, as does a failed or unknown one: the executor does not run
    them, but stops there for a person's decision where the rules ask for one.
    """
    return replace(plan, actions=tuple(a for a in plan.actions if _left(plan, records, a)))


def _left(plan: Plan, records: Records, action: Action) -> bool:
    state = state_of(records, action.key)
    match state:
        case "planned" | "started" | "unknown" | "failed":
            return True
        case "succeeded" | "skipped" | "undone" | "undo failed":
            return False
        case _:
            assert_never(state)


def repeated(plan: Plan, records: Records, hosts: Collection[str]) -> list[str]:
    """Return the keys that a retry on these hosts does again: what failed there or was taken back.

    Unknown changes are among them: whoever names the host has decided that they may be repeated.
    So is what rests on a change that was taken back, below it on its hosts.
    """
    again = ("failed", "unknown", "undone", "undo failed")
    back: set[str] = set()
    keys: list[str] = []
    for action in plan.actions:
        if action.host and action.host not in hosts:
            continue
        state = state_of(records, action.key)
        if state in again or (
            back & set(concerned(plan, action)) and _rests(plan, records, action)
        ):
            keys.append(action.key)
        if state == "undone":
            back.update(concerned(plan, action))
    return keys


def closing(plan: Plan, records: Records, hosts: Collection[str] | None = None) -> list[str]:
    """Return the keys of what comes at the end of a run and was done, and is due once more.

    It follows the work, and there is more work: on these hosts (None: wherever something is left).
    What is unknown of it is not among them: it is asked for.
    """
    return [
        action.key
        for action in plan.actions
        if action.batch == ALWAYS
        and state_of(records, action.key) in ("succeeded", "failed", "skipped")
        and (not action.host or hosts is None or action.host in hosts or _any(plan, action))
    ]


def _any(plan: Plan, action: Action) -> bool:
    """Tell whether an action is done on one host for all of them."""
    return plan.stage(action).scope in ("once", "batch")


def _rests(plan: Plan, records: Records, action: Action) -> bool:
    """Tell whether what was done is worth nothing once a change above it was taken back.

    A restart that leaves nothing to take back (`undo: []`) ran what is there no more; a check found
    that to be well. What a read has saved stays the run's: it may tell how things were before. What
    lasts and has no undo still stands, and where a person had a step skipped, that holds.
    """
    stage = plan.stage(action)
    if action.batch == ALWAYS or stage.save is not None:
        return False
    record = records.get(action.key)
    if record is None or record.data.get("choice") == "skip":
        return False
    return record.state in ("succeeded", "skipped") and (
        stage.effect == "read" or not stage.lasting
    )


def reverse(
    plan: Plan,
    records: Records,
    hosts: Collection[str] | None = None,
    *,
    again: bool = False,
    without: Collection[str] = (),
) -> Plan:
    """Return how to take back what was done: batch by batch in reverse, last step first.

    With `hosts`, only the stacks of these hosts; what was done once for several hosts stays.
    Taken back are changes that succeeded or failed. What lies under a change of which nobody knows
    whether it happened stays: that one is settled first. So does what lies under an undo that
    failed, unless a person wants it tried `again`, and all that was done on or for hosts `without`.
    """
    unsettled = _hosts_of(plan, records, lambda a: records[a.key].stands in _UNSETTLED)
    stuck = set() if again else _hosts_of(plan, records, lambda a: _stuck(records, a))
    wanted = [
        _as_made(records[action.key], action)
        for action in plan.actions
        if action.batch != ALWAYS
        and _undoable(plan, records, action, hosts)
        and not {action.host, action.target} & set(without)
        and not unsettled & set(concerned(plan, action))
        and not stuck >= set(concerned(plan, action))
    ]
    actions: list[Action] = []
    for _, group in groupby(reversed(wanted), key=lambda a: (a.batch, a.position)):
        actions += _in_step(list(group))
    open_ = {"planned", "started", "unknown"} | ({"failed"} if again else set())
    return replace(
        plan,
        actions=tuple(a for a in actions if state_of(records, a.key) in open_),
        max_failures=len(plan.hosts),
        on_failure="stop",
    )


def failed_undos(plan: Plan, records: Records, hosts: Collection[str] | None) -> list[str]:
    """Return the keys of undo steps that failed and that a further undo does again."""
    again = reverse(plan, records, hosts, again=True).actions
    return [action.key for action in again if state_of(records, action.key) == "failed"]


def concerned(plan: Plan, action: Action) -> Sequence[str]:
    """Return the hosts that an action is for: its own, all of its batch, or all of the run."""
    stage = plan.stage(action)
    if action.host and stage.scope not in ("once", "batch", "controller"):
        return (action.host,)
    if action.batch >= 0 and not _once(action, stage):
        return plan.batches[action.batch]
    return [host for batch in plan.batches for host in batch]


def _once(action: Action, stage: Stage) -> bool:
    """Tell whether an action is done once for the whole run rather than for its batch."""
    return stage.scope in ("once", "controller") or (not action.host and stage.per_run)


_UNSETTLED: frozenset[ActionState] = frozenset({"unknown", "started"})


def _hosts_of(plan: Plan, records: Records, holds: Callable[[Action], bool]) -> set[str]:
    """Return the hosts for which something is true of one of their changes that were begun."""
    found: set[str] = set()
    for action in plan.actions:
        change = action.batch != ALWAYS and plan.stage(action).effect == "change"
        if change and action.key in records and holds(action):
            found |= set(concerned(plan, action))
    return found


def _stuck(records: Records, action: Action) -> bool:
    """Tell whether an undo of a change failed and has not been given another try."""
    return any(state_of(records, undo.key) == "failed" for undo in action.undo)


def _as_made(record: ActionRecord, action: Action) -> Action:
    """Leave to a change only the undo of attempts that were made: some have another than others."""
    return replace(action, undo=tuple(one for one in action.undo if one.since <= record.reached))


def _in_step(changes: Sequence[Action]) -> Iterator[Action]:
    """Yield the undo steps of one step's changes: the first undo everywhere, then the second …"""
    stacks = [list(change.undo) for change in changes]
    while any(stacks):
        step = next((s[0].position, s[0].since) for s in stacks if s)
        for stack in stacks:
            while stack and (stack[0].position, stack[0].since) == step:
                yield stack.pop(0)


def _undoable(plan: Plan, records: Records, action: Action, hosts: Collection[str] | None) -> bool:
    if not action.undo or plan.stage(action).effect == "read":
        return False
    if hosts is not None and (action.host not in hosts or _shared(plan.stage(action))):
        return False
    record = records.get(action.key)
    if record is None or (record.stands == "failed" and not record.sent):
        return False
    return record.stands in ("succeeded", "failed", "undo failed")


def _shared(stage: Stage) -> bool:
    return stage.scope in ("once", "batch", "controller")


def preview(plan: Plan, records: Records) -> Plan:
    """Return the looks that a dry run may take: reads, and probes of changes, nothing else.

    On each host only those before the first change that would act. Where the probes made so far
    (in `records`) show that a change would not act, the next call reaches beyond it.
    """
    changed: set[str] = set()
    stages = dict(plan.stages)
    actions: list[Action] = []
    for action in plan.actions:
        stage = plan.stage(action)
        spots = {action.target, action.host} - {""}
        if action.batch == ALWAYS or isinstance(action.work, (Ask, Wait, Notify)):
            continue
        if stage.effect == "read":
            if not spots & changed:
                actions.append(replace(action, undo=(), done_when=None))
                stages[action.position] = replace(stage, until=None, retry=None, on_failure=None)
            continue
        if not spots & changed:
            actions += _probes(action, stage, stages)
        if not _idle(action, records):
            changed |= spots
    return replace(
        plan,
        actions=tuple(a for a in actions if a.key not in records),
        stages=stages,
        max_failures=len(plan.hosts),
        on_failure="stop",
        locks=(),
    )


def _probes(action: Action, stage: Stage, stages: dict[str, Stage]) -> Iterator[Action]:
    """Yield the looks at what a change would meet: `creates`, `unless`, an upload's dest."""
    looks = (action.skip_if, action.work if isinstance(action.work, Upload) else None)
    for mark, work in zip(("?skip", "?dest"), looks, strict=True):
        if work is None:
            continue
        position = stage.position + mark
        stages[position] = replace(
            stage,
            position=position,
            effect="read",
            on_failure="continue",
            save=None,
            until=None,
            retry=None,
        )
        yield replace(
            action, key=action.key + mark, position=position, work=work, skip_if=None,
            done_when=None, undo=(),
        )  # fmt: skip


def _idle(action: Action, records: Records) -> bool:
    """Tell whether the probes have shown that a change finds nothing to do."""
    skip = records.get(action.key + "?skip")
    if skip is not None and skip.state == "succeeded":
        return True
    dest = records.get(action.key + "?dest")
    evidence = dest.data.get("evidence") if dest else None
    return isinstance(evidence, Mapping) and evidence.get("same") is True


def acts(plan: Plan, action: Action) -> bool:
    """Tell whether an action changes something outside."""
    inert = isinstance(action.work, (Check, Wait, Notify, Ask))
    return not inert and plan.stage(action).effect == "change"


def changes(plan: Plan, action: Action) -> bool:
    """Tell whether an action leaves something that would have to be taken back."""
    return acts(plan, action) and plan.stage(action).lasting


def standing(plan: Plan, records: Records) -> list[Action]:
    """Return the changes of a run that stand: what was sent, may have happened, is not undone."""
    return [
        action
        for action in plan.actions
        if action.batch != ALWAYS
        and changes(plan, action)
        and (record := records.get(action.key)) is not None
        and record.left
    ]


def reads_only(plan: Plan) -> bool:
    """Tell whether nothing in the plan changes anything. A step that is left out does not."""
    return all(
        plan.stage(a).effect == "read"
        or isinstance(a.work, (Check, Wait, Notify, Ask))
        or never(a.when)
        for a in plan.actions
    )
