"""Commands on a run that is under way or waits: decide, attach, pause."""

import click

from opskit.app import again, deciding, record, steer
from opskit.app.answers import REASONED
from opskit.app.decide import Open, question, refuse_unasked
from opskit.app.decide import decide as answer
from opskit.cli import complete, screen
from opskit.cli.again import live_option, run_argument, steal_option
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.cli.outcome import told
from opskit.cli.watching import renewing, watching
from opskit.errors import Exit, InputError
from opskit.model.value import Json
from opskit.view import evidence, margins, safe
from opskit.view.jsonl import JsonLines, line
from opskit.view.lines import Lines


@click.command(cls=Command)
@run_argument
@click.argument("choice", required=False, shell_complete=complete.choices)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="With retry: another value of a parameter. May be given several times.",
)
@steal_option
@live_option
@options
def decide(
    call: Call,
    *,
    run: str,
    choice: str | None,
    reason: str,
    params: tuple[str, ...],
    steal: str,
    no_live: bool,
) -> Exit:
    """Answer what a run waits for, and go on with it.

    What happened is shown first, with what its hosts say now. Without CHOICE you are asked; where
    nobody can be asked, only the question is shown (exit 4).
    """
    found = record.load_run(call.settings, run)
    if choice is None:
        _refuse_without_choice(call, run, params, steal)
        if not call.person.interactive:
            return _shown(call, question(call.settings, found.id))
        refuse_unasked(call.settings, found.id, steal=steal)
    plan = record.plan_of(call.settings, found.id)
    with watching(call, plan, run=found.id, live=not no_live) as (watch, stop):
        if choice is None:
            done = again.resume(
                call.settings,
                found.id,
                call.person,
                watch,
                stop=stop,
                asking=True,
                steal=steal,
            )
        else:
            done = answer(
                call.settings,
                found,
                deciding.Answer(choice=choice, reason=reason),
                call.person,
                watch,
                show=lambda matter: _known(call, matter),
                words=params,
                stop=stop,
                steal=steal,
            )
    return told(call, done, record.plan_of(call.settings, done.id))


def _refuse_without_choice(call: Call, run: str, params: tuple[str, ...], steal: str) -> None:
    if params:
        raise InputError("-p goes with a choice", hint=f"opskit decide {run} retry -p NAME=VALUE")
    if steal and not call.person.interactive:
        raise InputError(
            "--steal goes with a choice: without one nothing is answered here, and nothing taken",
            hint=f"opskit decide {run} CHOICE --steal {steal}; `opskit decide {run}` shows them",
        )


def _shown(call: Call, matter: Open) -> Exit:
    """Show what a run asks, and leave it as it is."""
    call.answer(
        lambda: evidence.text(
            matter.run, matter.question.text, matter.question.evidence, matter.question.meanings,
            given=call.given, columns=screen.margin(),
        ),
        [_json(matter) | {"exit": int(Exit.WAITING)}],
    )  # fmt: skip
    return Exit.WAITING


def _known(call: Call, matter: Open) -> None:
    """Show what is known before an answer is recorded."""
    if call.json:
        screen.out(line(_json(matter)))
        return
    with call.person.pause():
        said = [safe.visible(matter.question.text), *evidence.lines(matter.question.evidence)]
        screen.out(margins.text("".join(f"{one}\n" for one in said), screen.margin()))


def _json(matter: Open) -> dict[str, Json]:
    asked = matter.question
    return evidence.json(matter.run, asked.text, asked.evidence, asked.meanings, wanting=REASONED)


@click.command(cls=Command)
@run_argument
@options
def attach(call: Call, run: str) -> Exit:
    """Watch a run that somebody else carries out. Ctrl-C leaves it as it is."""
    found = record.load_run(call.settings, run)
    plan = record.plan_of(call.settings, found.id)
    at = found.created
    lines = Lines(screen.out, plan, paint=screen.paint(), now=lambda: at, columns=screen.margin)
    watch = (
        JsonLines(screen.out, run=found.id)
        if call.json
        else renewing(call.settings, found.id, lines, lambda plan, _: lines.renewed(plan))
    )
    try:
        for entry in steer.follow(call.settings, found.id):
            at = entry.at
            watch(entry.event)
    except KeyboardInterrupt:
        screen.err("\nThe run goes on.\n")
        return Exit.OK
    return told(
        call, record.load_run(call.settings, found.id), record.plan_of(call.settings, found.id)
    )


@click.command(cls=Command)
@run_argument
@options
def pause(call: Call, run: str) -> Exit:
    """Let nothing new start in a run that is under way; it can be resumed."""
    paused = record.load_run(call.settings, steer.pause(call.settings, run, call.person))
    told(call, paused, record.plan_of(call.settings, paused.id))
    return Exit.OK
