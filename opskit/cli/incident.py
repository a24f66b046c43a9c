"""opskit incident: what is known of an outage, as a file that is kept up to date."""

import time
from pathlib import Path

import click

from opskit.app import find
from opskit.app import incident as app
from opskit.cli import complete, screen
from opskit.cli.amounts import DURATION
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.errors import Exit, InputError, writing
from opskit.model.incident import Incident, Said
from opskit.model.value import Json
from opskit.view import amounts
from opskit.view import incident as view

_DAY = 86400.0


@click.command(cls=Command)
@click.argument("run", default="", shell_complete=complete.run_ids)
@click.option("-o", "--output", "output", metavar="FILE", type=click.Path(path_type=Path),
              help="Write to this file; what people wrote into it stays.")  # fmt: skip
@click.option("--within", type=DURATION, default="24h", show_default=True, metavar="TIME",
              help="How far back it is told what changed.")  # fmt: skip
@click.option("--to", "to", multiple=True, metavar="CHANNEL",
              help="Say how it stands in this channel of the inventory, too.")  # fmt: skip
@click.option("--said", metavar="TEXT", default="",
              help="Note what you told users elsewhere: the next word is due later.")  # fmt: skip
@click.option("--due", is_flag=True,
              help="Tell only whether a word is due; with --to remind of it, once.")  # fmt: skip
@click.option("--resolved", is_flag=True, help="It is over: no word is due any more.")
@click.option("--unproven", is_flag=True, help="With --resolved: though no look shows it.")
@options
def incident(
    call: Call, *, run: str, output: Path | None, within: float, to: tuple[str, ...], said: str,
    due: bool, resolved: bool, unproven: bool,
) -> Exit | None:  # fmt: skip
    """Tell an outage that RUN looked at: how bad it is, what changed before, what to do next.

    RUN is one of sync-outage or health-check; without it, the incident that was told of last, or
    the newest run of sync-outage where that came after it was resolved. Written to a file again,
    it has what was done since; what people wrote into the file stays. With --to a few lines of it
    go to a channel, now: from the first of them on a word is due every 15 minutes, until it is
    --resolved.

    --due ends with 1 where a word is due, and with 0 where none is; with --to it tells the channel
    so, once for each quarter of an hour.
    """
    _refuse_beside(output, due=due, said=said, resolved=resolved, unproven=unproven)
    if due:
        return _due(call, run, to)
    found = app.incident(call.settings, run, within)
    if resolved:
        return _resolve(call, found, to, unproven=unproven)
    now = time.time()
    text = view.markdown(found, now)
    if output is not None:
        _write(output, text)
        screen.err(f"written to {output}; the next word to users: {view.when_due(found, now)}\n")
    elif not to and not said:
        call.answer(lambda: text, [_json(found, text)])
    word: Said = "update" if found.open else "investigating"
    if said:
        app.note_word(call.settings, found.run.id, word, said, call.person)
        screen.err(f"noted in {found.run.id}; the next word is due by {_clock(now)}\n")
    if not to:
        return None
    return _told(call, found, word, view.word(found, now, word), to)


def _clock(now: float) -> str:
    return amounts.clock(now + view.UPDATES)


def _refuse_beside(
    output: Path | None, *, due: bool, said: str, resolved: bool, unproven: bool
) -> None:
    """Refuse what can't be meant together."""
    for one, other, both in (
        ("--due", "--output", due and output is not None),
        ("--due", "--said", due and bool(said)),
        ("--due", "--resolved", due and resolved),
        ("--resolved", "--said", resolved and bool(said)),
        ("--resolved", "--output", resolved and output is not None),
    ):
        if both:
            raise InputError(f"{one} does not go with {other}", hint="leave one of both out")
    if unproven and not resolved:
        raise InputError("--unproven is for --resolved", hint="add --resolved, or leave it out")


def _due(call: Call, run: str, to: tuple[str, ...]) -> Exit:
    """Say whether a word is due, and remind channels of it, once for each time that one is."""
    meant = find.inventory(call.settings, call.inventory) if to or call.inventory else None
    name = run or app.open_one(call.settings, meant)
    found = app.incident(call.settings, name, _DAY) if name else None
    now = time.time()
    since = None if found is None else view.overdue(found, now)
    if found is None or since is None:
        what = "no incident is open" if found is None else f"next: {view.when_due(found, now)}"
        _answer(call, found, f"no word is due; {what}", overdue=False)
        return Exit.OK
    text = f"a word is due since {amounts.moment(since)}, on the incident of run {found.run.id}"
    if not to:
        _answer(call, found, text, overdue=True)
        return Exit.FAILED
    if view.reminded(found, since):
        _answer(call, found, f"{text}; that was told", overdue=True)
        return Exit.OK
    return _told(call, found, "due", view.reminder(found, since), to)


def _answer(call: Call, found: Incident | None, text: str, *, overdue: bool) -> None:
    run = None if found is None else found.run.id
    call.answer(lambda: text + "\n", [{"kind": "due", "run": run, "due": overdue, "text": text}])


def _resolve(call: Call, found: Incident, to: tuple[str, ...], *, unproven: bool) -> Exit | None:
    """Say that it is over, in channels too, where any are named."""
    if found.told is not None and not found.open:
        raise InputError(
            f"the incident of run {found.run.id} is resolved already", hint="name another RUN"
        )
    if not unproven:
        app.refuse_resolved(found)
    text = view.resolved(found, proven=not unproven)
    if to:
        return _told(call, found, "resolved", text, to)
    app.note_word(call.settings, found.run.id, "resolved", text, call.person)
    screen.err(f"noted in {found.run.id}\n")
    return None


def _told(call: Call, found: Incident, said: Said, text: str, to: tuple[str, ...]) -> Exit:
    """Say it in channels; that it was, where one of them has it, is kept with the incident."""
    from opskit.cli.notify import said as say

    done, status = say(call, text, to, view.gravity(found))
    came = app.heard(call.settings, done.id)
    if came:
        noted = f"{said}, to {', '.join(came)} (run {done.id})"
        app.note_word(call.settings, found.run.id, said, noted, call.person)
    return status


def _write(path: Path, text: str) -> None:
    with writing(path):
        raw = path.read_bytes() if path.exists() else None
        try:  # as bytes: the ends of lines are whoever's wrote them
            after = view.whole(text, None if raw is None else raw.decode())
        except UnicodeDecodeError:
            after = None
        if after is None:
            raise InputError(
                f"{path} is there, and no incident that opskit wrote; it was left as it is",
                hint="name another file",
            )
        beside = path.with_name(f".{path.name}.new")
        beside.write_bytes(after.encode())
        if raw is not None:
            beside.chmod(path.stat().st_mode & 0o7777)
        beside.replace(path)


def _json(found: Incident, text: str) -> dict[str, Json]:
    wrong = view.findings(found)
    severity = view.classified(wrong)
    due = view.next_update(found)
    return {
        "kind": "incident",
        "run": found.run.id,
        "severity": severity.severity,
        "perhaps": list(severity.perhaps),
        "next": list(dict.fromkeys(one.following for one in wrong if one.following)),
        "before": [one.run.id for one in found.before],
        "next_update": None if due is None else round(due),
        "markdown": text,
    }
