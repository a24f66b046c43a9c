"""opskit run: carry out a runbook."""

from collections.abc import Collection
from pathlib import Path
from typing import TypedDict, Unpack

import click

from opskit.app import admission, prepare, runs
from opskit.cli import screen
from opskit.cli.amounts import DURATION
from opskit.cli.asking import prepared, runbook_options, typed
from opskit.cli.call import Call, options
from opskit.cli.detach import fork
from opskit.cli.group import Command
from opskit.cli.outcome import told
from opskit.cli.plugin import as_plugin
from opskit.cli.watching import watching
from opskit.errors import Exit, InputError
from opskit.model.plan import Plan
from opskit.view import amounts, names, safe
from opskit.view.labels import run_hosts

_NOT_NEEDED = (
    "--override-window was not needed: this may be done now. The reason is recorded only if a"
    " window closes while it goes on.\n"
)


class How(TypedDict):
    """What a run is told beyond what it does."""

    reason: str
    pause_after_batch: bool
    steal: str
    patience: float
    override: str


@click.command(cls=Command)
@runbook_options
@click.option("--yes", "-y", is_flag=True, help="Don't ask before changing anything.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option("--pause-after-batch", is_flag=True, help="Wait for a person after each batch.")
@click.option("--plan", "plan_file", metavar="FILE", type=click.Path(path_type=Path),
              help="Refuse if the plan is not the one saved in this file.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="The same as `opskit plan`.")
@click.option(
    "--wait",
    "patience",
    type=DURATION,
    default=0.0,
    metavar="TIME",
    help="Wait as long as this for a lock that another run has, as in 10m.",
)
@click.option(
    "--steal",
    default="",
    metavar="RUN",
    help="Take the locks of this run away from it, whoever carries it out; RUN is its full id.",
)
@click.option(
    "--override-window",
    "override",
    default="",
    metavar="REASON",
    help="Change something though the inventory allows it at other times only; REASON is recorded.",
)
@click.option("--detach", is_flag=True, help="Let it go on in the background.")
@click.option("--no-live", is_flag=True, help="Plain lines instead of the live picture.")
@options
@as_plugin
def run(
    call: Call,
    *,
    ask: prepare.Ask,
    yes: bool,
    plan_file: Path | None,
    dry_run: bool,
    detach: bool,
    no_live: bool,
    **how: Unpack[How],
) -> Exit:
    """Carry out a runbook. On a terminal the plan is shown first, and you are asked.

    `opskit show RUNBOOK` says which parameters it takes.
    """
    made = prepared(call, ask)
    if plan_file is not None:
        prepare.check_plan(made, plan_file)
    if dry_run:
        return _dry(call, made)
    if not admission.in_hours(made.plan, how["override"]) and how["override"].strip():
        screen.err(_NOT_NEEDED)
    if not yes and not agreed(call, made.plan, durations=made.durations):
        screen.err("Nothing was done.\n")
        return Exit.REFUSED
    watcher = fork(call) if detach else None
    if isinstance(watcher, Exit):
        return watcher
    with watching(call, made.plan, live=not no_live, watcher=watcher) as (watch, stop):
        done = runs.run(call.settings, made, call.person, watch, command=typed(), stop=stop, **how)
    return told(call, done, made.plan)


def _dry(call: Call, made: prepare.Prepared) -> Exit:
    from opskit.cli import plan as planning

    return planning.dry_run(call, made, reads=True, full=False, undo=False)


def agreed(
    call: Call, plan: Plan, *, verb: str = "Do this", durations: Collection[str] = ()
) -> bool:
    """Show what will be done and ask. What only reads needs no leave.

    The question names the hosts: the plan above it may have scrolled away.
    """
    from opskit.view import plan as view  # with --yes nothing is shown

    if not view.counts(plan.actions, plan.stages).change:
        return True
    back = {action.undoes for action in plan.actions} - {None}
    count = len(back) or view.counts(plan.actions, plan.stages).change
    what = f"{amounts.count(count, 'change')} on {_where(plan)}"
    if not call.person.interactive:
        does = "takes back" if back else "makes"
        raise InputError(
            f"this {does} {what}, and there is no terminal to ask on",
            hint="add --yes to do it without asking"
            + ("" if back else " (`opskit plan` shows what it does)"),
        )
    look = view.Look(
        asking=True,
        undoing=bool(back),
        durations=durations,
        paint=screen.paint(),
        columns=screen.margin(),
    )
    screen.out(view.text(plan, look) + "\n")
    return call.person.confirm(f"{verb}: {what}?")


def _where(plan: Plan) -> str:
    """Name what the changes are made on, and the inventory that says where that is."""
    changing = [one for one in plan.actions if plan.stage(one).effect == "change" or one.undoes]
    if changing and all(":" in action.target for action in changing):  # db:NAME, redis:NAME
        hosts = list(dict.fromkeys(action.target for action in changing))
    else:
        within = {action.host for action in plan.actions}
        hosts = [host for host in run_hosts(plan) if host in within] or list(run_hosts(plan))
    return f"{names.listed(hosts, 40)} ({safe.one_line(names.path(plan.inventory))})"
