"""opskit incident: what is known of an outage, as a file that is kept up to date."""

import time
from pathlib import Path

import click

from opskit.app.incident import incident as gathered
from opskit.cli import complete, screen
from opskit.cli.amounts import DURATION
from opskit.cli.call import Call, options
from opskit.errors import Exit, InputError, writing
from opskit.model.incident import Incident
from opskit.model.value import Json
from opskit.view import amounts
from opskit.view import incident as view


@click.command()
@click.argument("run", default="last", shell_complete=complete.run_ids)
@click.option("-o", "--output", "output", metavar="FILE", type=click.Path(path_type=Path),
              help="Write to this file; what people wrote into it stays.")  # fmt: skip
@click.option("--within", type=DURATION, default="24h", show_default=True, metavar="TIME",
              help="How far back it is told what changed.")  # fmt: skip
@click.option("--to", "to", multiple=True, metavar="CHANNEL",
              help="Say how it stands in this channel of the inventory, too.")  # fmt: skip
@options
def incident(
    call: Call, run: str, output: Path | None, within: float, to: tuple[str, ...]
) -> Exit | None:
    """Tell an outage that RUN looked at: how bad it is, what changed before, what to do next.

    RUN is one of sync-outage or health-check. Written to a file again, it has what was done since;
    what people wrote into the file stays. With --to a few lines of it go to a channel, now.
    """
    found = gathered(call.settings, run, within)
    now = time.time()
    text = view.markdown(found, now)
    if output is not None:
        _write(output, text)
        due = amounts.clock(view.next_update(found, now))
        screen.err(f"written to {output}; the next word to users is due by {due}\n")
    elif not to:
        call.answer(lambda: text, [_json(found, text, now)])
    if not to:
        return None
    from opskit.cli.notify import said

    return said(call, view.word(found, now), to, view.gravity(found))


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


def _json(found: Incident, text: str, now: float) -> dict[str, Json]:
    wrong = view.findings(found)
    severity = view.classified(wrong)
    return {
        "kind": "incident",
        "run": found.run.id,
        "severity": severity.severity,
        "perhaps": list(severity.perhaps),
        "next": list(dict.fromkeys(one.following for one in wrong if one.following)),
        "before": [one.run.id for one in found.before],
        "next_update": round(view.next_update(found, now)),
        "markdown": text,
    }
