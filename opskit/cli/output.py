"""opskit output: what a step printed."""

from collections.abc import Iterator

import click

from opskit import app
from opskit.cli import complete, screen
from opskit.cli.call import Call, options
from opskit.errors import InputError
from opskit.execute.journal import Stream
from opskit.model.run import Run
from opskit.view import labels, outputs, safe


@click.command()
@click.argument("run", shell_complete=complete.run_ids)
@click.argument("step")
@click.argument("host", required=False)
@click.option("--stderr", is_flag=True, help="What it wrote to standard error.")
@click.option("--diff", is_flag=True, help="Compare all hosts: who printed the same?")
@options
def output(call: Call, *, run: str, step: str, host: str | None, stderr: bool, diff: bool) -> None:
    """Show what a step (by name or number) printed on a host, secrets masked.

    On a terminal control characters are taken out; into a file or pipe every byte goes as it was.
    """
    stream: Stream = "stderr" if stderr else "stdout"
    found = app.load_run(call.settings, run)
    if diff or host is None:
        _compare(call, found, step, stream)
        return
    pieces = app.output(call.settings, found.id, step, host, stream)
    if call.json:
        text = b"".join(pieces).decode("utf-8", "replace")
        about = {"run": found.id, "step": step, "host": host, "stream": stream, "text": text}
        call.answer(str, [{"kind": "output", **about}])
        return
    for data in pieces:
        if screen.is_terminal():
            screen.out(safe.decoded(data))
        else:
            screen.out_bytes(data)


def _compare(call: Call, found: Run, step: str, stream: Stream) -> None:
    texts = dict(_of_hosts(call, found, step, stream))
    if not texts:
        raise InputError(
            f"run {found.id} has no output of a step {step!r}",
            hint=f"`opskit status {found.id}` and `opskit report {found.id}` name its steps",
        )
    call.answer(
        lambda: outputs.compared(texts, paint=screen.paint()),
        (
            {"kind": "output", "run": found.id, "step": step, "host": host, "text": text}
            for host, text in texts.items()
        ),
    )


def _of_hosts(call: Call, found: Run, step: str, stream: Stream) -> Iterator[tuple[str, str]]:
    plan = app.plan_of(call.settings, found.id)
    for host in dict.fromkeys([*labels.run_hosts(plan), *plan.hosts]):
        try:
            data = b"".join(app.output(call.settings, found.id, step, host, stream))
        except InputError:
            continue  # this host did not get that far
        yield host, data.decode("utf-8", "replace")
