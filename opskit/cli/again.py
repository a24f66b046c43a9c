"""Commands on a run that has begun: resume, retry, undo, abort."""

import re
from collections.abc import Sequence
from dataclasses import replace

import click

from opskit.app import again as begun
from opskit.app import record, runs, steer
from opskit.app.again import foreseen, refuse_driven, refuse_undo, select_hosts, unheard_of
from opskit.cli import complete, screen
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.cli.outcome import told
from opskit.cli.run import agreed
from opskit.cli.watching import watching
from opskit.errors import Exit, InputError
from opskit.model.plan import Action, Plan
from opskit.model.run import Run
from opskit.plan import closing, repeated, reverse
from opskit.view.status import exit_status
from opskit.view.summary import title

run_argument = click.argument("run", shell_complete=complete.run_ids)
yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask before changing anything.")
steal_option = click.option(
    "--steal",
    default="",
    metavar="RUN",
    help="Take the run from the process that carries it out; RUN is its full id.",
)
live_option = click.option("--no-live", is_flag=True, help="Plain lines, no live picture.")


@click.command(cls=Command)
@run_argument
@steal_option
@live_option
@options
def resume(call: Call, run: str, steal: str, no_live: bool) -> Exit:
    """Go on with a run that was interrupted or that waits for an answer. RUN may be `last`."""
    found = record.load_run(call.settings, run)
    plan = record.plan_of(call.settings, found.id)
    with watching(call, plan, run=found.id, live=not no_live) as (watch, stop):
        done = begun.resume(call.settings, found.id, call.person, watch, stop=stop, steal=steal)
    return told(call, done, plan)


@click.command(cls=Command)
@run_argument
@steal_option
@options
def abort(call: Call, run: str, steal: str) -> Exit:
    """End a run as it stands. What it is running on hosts is stopped, nothing is taken back.

    With --steal the process that carries it out is not asked, and what runs on hosts goes on.
    """
    if not steal and record.load_run(call.settings, run).driver:
        run = steer.stop(call.settings, run, call.person)
    done = runs.abort(call.settings, run, call.person, steal=steal)
    told(call, done, record.plan_of(call.settings, done.id))
    return Exit.OK


@click.command(cls=Command)
@run_argument
@click.option(
    "--hosts",
    required=True,
    metavar="HOSTS",
    shell_complete=complete.hosts_or_states,
    help="Names of hosts, or failed,unreachable,unknown,undone,excluded,not-started (begun too).",
)
@yes_option
@steal_option
@live_option
@options
def retry(call: Call, run: str, *, hosts: str, yes: bool, steal: str, no_live: bool) -> Exit:
    """Do again what failed, was taken back or never began on these hosts, in the same run."""
    words = listed(hosts)
    plan = record.plan_of(call.settings, run)
    found = _free(call, run, steal)
    refuse_driven(found)
    chosen = select_hosts(found, words)
    again = {*repeated(plan, found.actions, chosen), *closing(plan, found.actions, chosen)}
    left = tuple(
        action
        for action in plan.actions
        if action.key in again
        or (action.key not in found.actions and action.batch != -2 and _meant(action, chosen))
    )
    if not yes and not agreed(call, replace(plan, actions=left), verb="Do this again"):
        screen.err("Nothing was done.\n")
        return Exit.REFUSED
    with watching(call, plan, run=found.id, live=not no_live) as (watch, stop):
        done = begun.retry(
            call.settings, found.id, words, call.person, watch, stop=stop, steal=steal
        )
    return told(call, done, plan)


def _free(call: Call, run: str, steal: str) -> Run:
    """Look at a run that is to be taken as if nobody carried it out."""
    if not steal:
        return record.free_run(call.settings, run)
    found = record.load_run(call.settings, run)
    return replace(found, driver="") if steal == found.id else found


def _meant(action: Action, hosts: Sequence[str]) -> bool:
    return not action.host or action.host in hosts


@click.command(cls=Command)
@run_argument
@click.option(
    "--hosts",
    metavar="HOSTS",
    shell_complete=complete.hosts_to_undo,
    help="Only on these: names, or done,failed,begun. Default: all hosts of the run.",
)
@yes_option
@steal_option
@live_option
@options
def undo(call: Call, run: str, *, hosts: str | None, yes: bool, steal: str, no_live: bool) -> Exit:
    """Take back what a run did: last step first, from the record of what really happened."""
    plan = record.plan_of(call.settings, run)
    found = _free(call, run, steal)
    refuse_driven(found)
    if unheard_of(plan, found, select_hosts(found, listed(hosts)) if hosts else None):
        heard = _heard_of(call, plan, found, steal)
        if heard is None:
            return Exit.INTERRUPTED
        found = heard
    chosen = select_hosts(found, listed(hosts)) if hosts else None
    refuse_undo(plan, found, chosen)
    back = reverse(plan, found.actions, chosen, again=True)
    if not back.actions:
        undone = any(record.state == "undone" for record in found.actions.values())
        why = "was taken back already" if undone else "did nothing that can be taken back"
        raise InputError(f"run {found.id} ({title(found)}) {why}", hint=_another(call, found))
    if not yes and not agreed(call, foreseen(back, found), verb="Take back"):
        screen.err("Nothing was done.\n")
        return Exit.REFUSED
    with watching(call, plan, run=found.id, live=not no_live) as (watch, stop):
        done = begun.undo(
            call.settings, found.id, call.person, watch, chosen, stop=stop, steal=steal
        )
    if exit_status(done) == Exit.OK and not call.json:
        screen.out("What was asked for is taken back.\n")
    return told(call, done, plan)


def _heard_of(call: Call, plan: Plan, found: Run, steal: str) -> Run | None:
    """Ask hosts what became of changes that were lost from sight, as when opskit was killed.

    What is to be taken back is shown only after that: a change that still runs comes to its end.
    None: a person has stopped that, and wants nothing taken back now.
    """
    open_ = ", ".join(unheard_of(plan, found, None))
    with watching(call, plan, run=found.id, live=False) as (watch, stop):
        screen.err(  # a Ctrl-C of whoever has read it stops the asking
            f"The record does not say what became of a change on {open_}: asking there.\n"
            "What still runs there comes to its end first.\n"
        )
        heard = begun.heard_of(call.settings, found.id, call.person, watch, stop=stop, steal=steal)
    if stop.pressed:
        screen.err(f"Nothing was taken back; `opskit undo {found.id}` does that.\n")
        return None
    return heard


def _another(call: Call, found: Run) -> str:
    """Name the run that was perhaps meant: an `exec` in between is easily forgotten."""
    hint = f"`opskit report {found.id}` shows what it did"
    newest = record.runs(call.settings, limit=20, previews=False)
    other = next((run for run in newest if run.kind == "run" and run.id != found.id), None)
    if found.kind == "run" or other is None:
        return hint
    return f"{hint}; the last runbook was {title(other)}: `opskit undo {other.id}`"


def listed(words: str) -> tuple[str, ...]:
    """Split names that are separated by commas or spaces."""
    return tuple(word for word in re.split(r"[,\s]+", words) if word)
