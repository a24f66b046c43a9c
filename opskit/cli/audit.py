"""opskit audit: read the record as it stands, and verify it."""

import click

from opskit.app import record
from opskit.cli import complete, screen
from opskit.cli.call import Call, options
from opskit.cli.group import Group
from opskit.errors import Exit
from opskit.view import amounts, jsonl, safe
from opskit.view.labels import Labels
from opskit.view.lines import said
from opskit.view.margins import fitted

DAMAGED = """\
The file is damaged. What can be done:
  - copy it, with the files beside it (-wal, -shm, .key), before anything writes to it again;
  - `opskit runs` and `opskit report RUN` may still show what can be read;
  - put a copy from a backup in its place;
  - where nothing was ever recorded in it, move it and its -wal away: that begins a new record;
  - until then go on with another store: --store FILE, or OPSKIT_STORE.
"""


@click.group(cls=Group)
def audit() -> None:
    """The record: append-only, each entry chained to the one before."""


@audit.command()
@click.argument("run", default="last", shell_complete=complete.run_ids)
@options
def log(call: Call, run: str) -> None:
    """Print every entry of a run, with its time."""
    found = record.load_run(call.settings, run)
    plan = Labels(record.plan_of(call.settings, found.id))
    for entry in record.entries(call.settings, found.id):
        if call.json:
            screen.out(jsonl.line(jsonl.entry(entry)))
            continue
        word, what = said(entry.event, plan)
        host = safe.one_line(entry.event.host or "-")
        lead = f"{entry.number:>5} {amounts.moment(entry.at)} {entry.hash[:8]} "
        rows = fitted(f"{lead}{host} {word} {what}".rstrip(), screen.margin(), len(lead))
        screen.out("".join(f"{row}\n" for row in rows))


@audit.command()
@click.argument("run", required=False, shell_complete=complete.run_ids)
@options
def verify(call: Call, run: str | None) -> Exit:
    """Find every edit, gap, reorder and cut end. Without RUN: the whole record.

    Ends with 1 when something is found.
    """
    found = record.verify(call.settings, run)
    whole = f"run {run}" if run else "the record"
    call.answer(
        lambda: (
            "".join(safe.one_line(str(finding)) + "\n" for finding in found)
            + (DAMAGED if any(finding.damage for finding in found) else "")
            or f"{whole} is whole: nothing was edited, removed, reordered or cut off\n"
        ),
        [
            *(
                {
                    "kind": "finding",
                    "run": f.run,
                    "number": f.number,
                    "what": f.what,
                    "damage": f.damage,
                }
                for f in found
            ),
            {"kind": "verified", "run": run, "findings": len(found)},
        ],
    )
    return Exit.FAILED if found else Exit.OK
