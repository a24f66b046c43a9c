"""Something that a person or a clock has to say in channels: recorded and sent like any message."""

from collections.abc import Sequence

from opskit import audit
from opskit.app import find
from opskit.app.channels import over, stands
from opskit.app.person import Person
from opskit.app.prepare import Prepared, describe
from opskit.app.runs import run
from opskit.errors import InputError
from opskit.execute import Stop, Watcher
from opskit.model.channel import NOWHERE, concerns, severity_of
from opskit.model.inventory import Inventory
from opskit.model.problem import Place
from opskit.model.run import Run
from opskit.model.runbook import On, Param, Runbook, Step
from opskit.plan.make import make
from opskit.settings import Settings

PLACE = Place(file="the command line")
_NAME = 60


def tell(
    settings: Settings,
    inventory: str | None,
    text: str,
    *,
    to: Sequence[str],
    severity: str,
    person: Person,
    watch: Watcher,
    command: str = "",
    stop: Stop | None = None,
    ends: str = "",
) -> Run | None:
    """Say something in channels (none: those under `notify` of the inventory); wait until it came.

    `ends`: what was told before and is over now: it is said to those who had that, and have not
    heard of its end; None where nobody is such a one. No host is connected to.
    """
    if not text.strip():
        raise InputError("the message is empty", hint="write what is to be said")
    if NOWHERE in to:
        raise InputError(
            f"--to {NOWHERE} would tell nobody", hint="name channels, or leave --to out"
        )
    found = find.inventory(settings, inventory)
    if not to and not found.notify:
        there = ", ".join(sorted(found.channels))
        raise InputError(
            "no channel is named, and the inventory has none under `notify`",
            where=found.file,
            hint=f"--to one of: {there}" if there else "write channels: {NAME: …} into it",
        )
    _refuse_unheard(found, to, severity)
    if ends:
        to = _standing(settings, found, to or found.notify, ends)
        if not to:
            return None
    runbook = _runbook(text, to, severity, ends)
    plan = make(runbook, found, {"text": text}, files=describe)
    prepared = Prepared(runbook=runbook, inventory=found, plan=plan)
    return run(
        settings, prepared, person, watch, reason=text, command=command, kind="notify", stop=stop
    )


def _refuse_unheard(found: Inventory, to: Sequence[str], severity: str) -> None:
    """Refuse what a channel that is named, or all that are not, would not get."""
    grave = severity_of(severity) or "critical"
    deaf = [
        found.channels[name]
        for name in to or found.notify
        if name in found.channels and not concerns(found.channels[name], grave)
    ]
    if deaf and (to or len(deaf) == len(found.notify)):
        wanted = ", ".join(f"{one.name} takes from {one.severity} on" for one in deaf)
        raise InputError(
            f"nothing would come there: it is {grave}, and {wanted}",
            where=found.file,
            hint="name another channel with --to, or say it with opskit notify --severity",
        )


def _standing(
    settings: Settings, found: Inventory, to: Sequence[str], ends: str
) -> tuple[str, ...]:
    """Return the channels that were told something, and not yet that it is over."""
    store = audit.open(settings.store)
    try:
        return tuple(name for name in to if stands(store, name, ends, found))
    finally:
        store.close()


def _named(text: str) -> str:
    """Return the name of the step that says a text."""
    line = " ".join(text.split())
    return line if len(line) <= _NAME else f"{line[: _NAME - 1]}…"


def _runbook(text: str, to: Sequence[str], severity: str, ends: str) -> Runbook:
    """The text is a parameter: nothing in it is a template."""
    line = " ".join(text.split())
    step = Step(
        position="1",
        name=_named(text),
        kind="notify",
        place=PLACE,
        args={"message": "{{ text }}", "to": tuple(to), "severity": severity, "required": True},
        effect="read",
        on=On(scope="controller"),
    )
    return Runbook(
        file=PLACE.file,
        name="notify",
        version=over(ends) if ends else "0",
        summary=line,
        sources={},
        params=(Param(name="text", type="string", place=PLACE),),
        urgent=True,
        steps=(step,),
    )
