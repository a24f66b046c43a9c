"""Something that a person or a clock has to say in channels: recorded and sent like any message."""

from collections.abc import Sequence

from opskit.app import find
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
) -> Run:
    """Say something in channels (none: those under `notify` of the inventory); wait until it came.

    No host is connected to.
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
    runbook = _runbook(text, to, severity)
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


def _runbook(text: str, to: Sequence[str], severity: str) -> Runbook:
    """The text is a parameter: nothing in it is a template."""
    line = " ".join(text.split())
    step = Step(
        position="1",
        name=line if len(line) <= _NAME else f"{line[: _NAME - 1]}…",
        kind="notify",
        place=PLACE,
        args={"message": "{{ text }}", "to": tuple(to), "severity": severity, "required": True},
        effect="read",
        on=On(scope="controller"),
    )
    return Runbook(
        file=PLACE.file,
        name="notify",
        version="0",
        summary=line,
        sources={},
        params=(Param(name="text", type="string", place=PLACE),),
        urgent=True,
        steps=(step,),
    )
