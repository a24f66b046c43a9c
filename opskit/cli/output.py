"""opskit output: what a step printed."""

import sys
from collections.abc import Iterable, Iterator, Mapping

import click

from opskit.app import record
from opskit.cli import complete, screen
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.errors import InputError
from opskit.execute.journal import Stream
from opskit.model.inventory import CONTROLLER, database_target, redis_target
from opskit.model.run import Run
from opskit.model.value import Json
from opskit.view import jsonl, labels, outputs, safe

BOTH: tuple[Stream, ...] = ("stdout", "stderr")


@click.command(cls=Command)
@click.argument("run", shell_complete=complete.run_ids)
@click.argument("step", shell_complete=complete.steps)
@click.argument("host", required=False, shell_complete=complete.hosts_of_run)
@click.option("--stdout", "only", flag_value="stdout", help="Only its standard output.")
@click.option("--stderr", "only", flag_value="stderr", help="Only its standard error.")
@click.option("--diff", is_flag=True, help="Compare all hosts: who printed the same?")
@options
def output(
    call: Call, *, run: str, step: str, host: str | None, only: Stream | None, diff: bool
) -> None:
    """Show what a step (by name or number) printed on a host, secrets masked.

    Its standard error comes on standard error. On a terminal control characters are taken out;
    into a file or pipe every byte goes as it was. Without HOST, all hosts are compared.
    With --json, what is not UTF-8 comes as base64 too.
    """
    found = record.load_run(call.settings, run)
    if diff or host is None:
        _compare(call, found, step, only)
        return
    streams = BOTH if only is None else (only,)
    if call.json:
        call.answer(str, _objects(call, found, step, [host], streams))
        return
    printed = [_print(call, found, step, host, stream, only=only) for stream in streams]
    if not any(printed):
        where = f" to {only}" if only else ""
        screen.err(f"step {safe.one_line(step)} printed nothing{where} on {safe.one_line(host)}\n")


def _print(
    call: Call, found: Run, step: str, host: str, stream: Stream, *, only: Stream | None
) -> int:
    """Pass a stream on; return its length. One that was asked for alone goes to our output."""
    error = stream == "stderr" and only is None
    length = 0
    for data in record.output(call.settings, found.id, step, host, stream):
        length += len(data)
        if screen.is_terminal(sys.stderr if error else sys.stdout):
            (screen.err if error else screen.out)(safe.decoded(data))
        else:
            screen.raw(data, error=error)
    return length


def _objects(
    call: Call, found: Run, step: str, hosts: Iterable[str], streams: tuple[Stream, ...]
) -> Iterator[Mapping[str, Json]]:
    """Yield an object for each host and stream."""
    for host in hosts:
        for stream, data in _bytes(call, found, step, host, streams).items():
            about: dict[str, Json] = {"kind": "output", "run": found.id, "step": step}
            yield {**about, "host": host, "stream": stream, **jsonl.printed(data)}


def _bytes(
    call: Call, found: Run, step: str, host: str, streams: tuple[Stream, ...]
) -> Mapping[Stream, bytes]:
    return {s: b"".join(record.output(call.settings, found.id, step, host, s)) for s in streams}


def _compare(call: Call, found: Run, step: str, only: Stream | None) -> None:
    texts = dict(_of_hosts(call, found, step, only))
    if not texts:
        raise InputError(
            f"run {found.id} has no output of a step {step!r}",
            hint=f"`opskit status {found.id}` and `opskit report {found.id}` name its steps",
        )
    call.answer(
        lambda: outputs.compared(texts, paint=screen.paint()),
        _objects(call, found, step, texts, BOTH if only is None else (only,)),
    )


def _of_hosts(call: Call, found: Run, step: str, only: Stream | None) -> Iterator[tuple[str, str]]:
    """Yield what each host printed; of both streams, standard error comes last, with a mark."""
    plan = record.plan_of(call.settings, found.id)
    others = [*map(database_target, plan.databases), *map(redis_target, plan.redis), CONTROLLER]
    for host in dict.fromkeys([*labels.run_hosts(plan), *plan.hosts, *others]):
        try:
            said = _bytes(call, found, step, host, BOTH if only is None else (only,))
        except InputError:
            continue  # this host did not get that far
        texts = {stream: data.decode("utf-8", "replace") for stream, data in said.items()}
        yield host, texts[only] if only else outputs.joined(texts["stdout"], texts["stderr"])
