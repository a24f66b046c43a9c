"""A command typed at the prompt, on many hosts: planned, recorded and sent like any step."""

import shlex
from collections.abc import Sequence

from opskit.app import find
from opskit.app.person import Person
from opskit.app.prepare import Prepared, describe
from opskit.app.runs import run
from opskit.errors import InputError
from opskit.execute import Stop, Watcher
from opskit.load.shell import wrong
from opskit.model.problem import Place
from opskit.model.run import Run
from opskit.model.runbook import Effect, Runbook, Step
from opskit.plan.make import make
from opskit.settings import Settings

PLACE = Place(file="the command line")


def exec_(
    settings: Settings,
    inventory: str | None,
    expression: str,
    words: Sequence[str],
    *,
    person: Person,
    watch: Watcher,
    sudo: str | None = None,
    timeout: float = 60.0,
    change: bool = True,
    reason: str = "",
    command: str = "",
    stop: Stop | None = None,
) -> Run:
    """Run words (or, if it is one, a line for the shell) on the hosts of an expression."""
    found = find.inventory(settings, inventory)
    text = words[0] if len(words) == 1 else shlex.join(words)
    for one in wrong(text, reads=False):
        raise InputError(one.what, hint=one.write)
    effect: Effect = "change" if change else "read"
    runbook = _runbook(text, expression, effect, sudo, timeout)
    plan = make(runbook, found, {}, files=describe)
    prepared = Prepared(runbook=runbook, inventory=found, plan=plan)
    return run(
        settings,
        prepared,
        person,
        watch,
        reason=reason,
        command=command,
        kind="exec",
        stop=stop,
    )


def _runbook(text: str, hosts: str, effect: Effect, sudo: str | None, timeout: float) -> Runbook:
    step = Step(
        position="1",
        name=text if len(text) <= 60 else f"{text[:59]}…",
        kind="run",
        place=PLACE,
        args={"text": "{% raw %}" + text + "{% endraw %}" if "{" in text else text},
        effect=effect,
        sudo=sudo,
        timeout=timeout,
    )
    return Runbook(
        file=PLACE.file,
        name="exec",
        version="0",
        summary=text,
        sources={},
        hosts=hosts,
        max_failures="100%",
        urgent=True,  # whoever types a command means it now
        steps=(step,),
    )
