"""Every error on its way out: text for a person or JSON for a program, and an exit status."""

import os
import re
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from opskit import __version__
from opskit.cli import screen
from opskit.cli.pasted import before_dashes, pasted
from opskit.errors import Exit, OpskitError
from opskit.model.problem import ProblemsError
from opskit.model.value import Json, Secret
from opskit.view import jsonl, margins, names, problems, safe

_secrets: list[Secret] = []
"""Values that must not stand in a log, should this process fail. Kept for its life only."""


def keep_out(secrets: Iterable[Secret]) -> None:
    """Name values that no log of a failure may show."""
    _secrets.extend(secrets)


def told(error: BaseException, argv: Sequence[str]) -> int:
    """Tell a person (or a program) about an error; return the exit status.

    To a monitoring system, which knows 0 to 3, whatever went wrong is UNKNOWN.
    """
    status = _told(error, argv)
    words = before_dashes(argv)
    if status == Exit.OK or words[:1] != ["run"] or "--nagios" not in words:
        return status
    from opskit.view import plugin

    what = error.what if isinstance(error, OpskitError) else str(error) or type(error).__name__
    screen.out(plugin.text("opskit", "UNKNOWN", masked(what)))
    return plugin.STATUS["UNKNOWN"]


def _told(error: BaseException, argv: Sequence[str]) -> int:
    as_json = _as_json(argv)
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(Exit.OK)
        case OpskitError():
            _tell(_of_opskit(error, argv), as_json=as_json)
            return int(error.exit)
        case click.exceptions.NoArgsIsHelpError():
            screen.err(error.format_message() + "\n")
            return int(Exit.USAGE)
        case click.ClickException():
            _tell(_of_click(error, argv), as_json=as_json)
            return int(Exit.USAGE)
        case KeyboardInterrupt() | click.Abort():
            _tell(_plain("interrupted", Exit.INTERRUPTED), as_json=as_json)
            return int(Exit.INTERRUPTED)
        case OSError() if isinstance(error.__context__, KeyboardInterrupt):
            return int(Exit.INTERRUPTED)  # it could not even be told: the terminal is gone
        case BrokenPipeError():
            return int(Exit.OK)
        case OSError() if screen.lost():
            return int(Exit.USAGE)  # help that goes to a full disk; it is told when all is over
        case _:
            _tell(_of_bug(error, argv), as_json=as_json)
            return int(Exit.BUG)


def _as_json(argv: Sequence[str]) -> bool:
    return "--json" in before_dashes(argv)


def unheard(error: OSError, argv: Sequence[str], *, acts: bool) -> None:
    """Say that what was printed did not arrive; what was done is done all the same."""
    what = f"standard output can't be written: {error.strerror or error}"
    if acts:
        hint = "what was asked for went on without it: `opskit status` tells how a run ended"
        found = _plain(what, Exit.OK, "", hint)
    else:
        found = _plain(what, Exit.USAGE, "", "send it to a place that has room for it")
    _tell(found, as_json=_as_json(argv))


def _plain(what: str, status: Exit, where: str = "", hint: str = "") -> dict[str, Json]:
    return {"event": "error", "what": what, "where": where, "hint": hint, "exit": int(status)}


def _of_opskit(error: OpskitError, argv: Sequence[str]) -> dict[str, Json]:
    found = _plain(error.what, error.exit, error.where, pasted(error.hint, argv))
    if isinstance(error, ProblemsError):
        found["problems"] = [problems.as_json(problem) for problem in error.problems]
        found["text"] = problems.text(
            error.problems, paint=screen.paint(sys.stderr), columns=screen.margin(sys.stderr)
        )
    return found


def _of_click(error: click.ClickException, argv: Sequence[str]) -> dict[str, Json]:
    context = getattr(error, "ctx", None)
    command = context.command_path if isinstance(context, click.Context) else _command_of(argv)
    hint = f"{command} --help shows how it is used"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        hint = f"{_WANTED[error.param.name]}; {hint}" if error.param.name in _WANTED else hint
    return _plain(_sentence(error), Exit.USAGE, "", hint)


_WANTED: Mapping[str | None, str] = {
    "runbook": "name a runbook: `opskit list` shows what there is",
    "run": "give the id of a run, or `last`: `opskit runs` lists them",
    "step": "name a step, by number or name: `opskit report RUN` lists them",
    "hosts": "say where: names of hosts, or failed, unknown, undone, not-started",
    "words": "write the command for the hosts, as in: opskit exec web -- uptime",
}
"""What to give for an argument that is missing, by its name."""


def _sentence(error: click.ClickException) -> str:
    """Put click's words as ours are: no capital, no full stop."""
    text = error.format_message().rstrip(".")
    return text[:1].lower() + text[1:]


def _command_of(argv: Sequence[str]) -> str:
    """Name the command that was called, where click does not: of an option without its value."""
    return f"opskit {argv[0]}" if argv and re.fullmatch(r"[a-z-]+", argv[0]) else "opskit"


def _of_bug(error: BaseException, argv: Sequence[str]) -> dict[str, Json]:
    log = _log(error, argv)
    where = f"the details are in {log}" if log else "the details could not be written to a file"
    return _plain(
        f"opskit itself failed: {masked(f'{type(error).__name__}: {error}')}",
        Exit.BUG,
        "",
        f"{where}; please report it with that file. A run that was under way is in the record: "
        "opskit status last",
    )


def _tell(found: dict[str, Json], *, as_json: bool) -> None:
    found = {key: _without_secrets(value) for key, value in found.items()}
    text = found.pop("text", None)
    if as_json:
        screen.err(jsonl.line(found))
        return
    if isinstance(text, str):
        screen.err(text)
        return
    paint = screen.paint(sys.stderr)
    where = f"{safe.visible(names.path(str(found['where'])))}: " if found["where"] else ""
    lines = [f"{paint.bad('error')}: {where}{safe.visible(str(found['what']))}"]
    lines += [f"  → {safe.visible(str(found['hint']))}"] if found["hint"] else []
    at = screen.margin(sys.stderr)
    lines = [part for line in lines for part in margins.fitted(line, at, 4)]
    screen.err("\n".join(lines) + "\n")


def masked(text: str) -> str:
    """Return text without any secret that this process has had, however it is encoded."""
    return str(_without_secrets(text))


def _without_secrets(value: Json) -> Json:
    fetched = sys.modules.get("opskit.app.secrets")  # not loaded: it has fetched none
    known = [*_secrets, *(fetched.seen() if fetched else ())]
    if not known:
        return value
    from opskit.audit.masking import Masker

    return Masker.of(known).mask_json(value)


def _log(error: BaseException, argv: Sequence[str]) -> Path | None:
    """Write what a developer needs to a file of one's own; None when that fails too."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    folder = Path(base) / "opskit" / "bugs"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = folder / f"{stamp}-{os.getpid()}.log"
    body = "".join(traceback.format_exception(error))
    about = f"opskit {__version__}, Python {sys.version.split()[0]}\ncommand: {_command(argv)}\n\n"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(masked(about + body))
    except OSError:
        return None
    return path


def _command(argv: Sequence[str]) -> str:
    """Name the command without the values that were given to it."""
    words = ["…" if "=" in word or "://" in word else word for word in argv]
    return " ".join(["opskit", *words[:6], *(["…"] if len(words) > 6 else [])])
