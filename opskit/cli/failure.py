"""Every error on its way out: text for a person or JSON for a program, and an exit status."""

import os
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from opskit import __version__
from opskit.cli import screen
from opskit.errors import Exit, OpskitError
from opskit.model.problem import ProblemsError
from opskit.model.value import Json, Secret
from opskit.view import jsonl, problems, safe

_secrets: list[Secret] = []
"""Values that must not stand in a log, should this process fail. Kept for its life only."""


def keep_out(secrets: Iterable[Secret]) -> None:
    """Name values that no log of a failure may show."""
    _secrets.extend(secrets)


def told(error: BaseException, argv: Sequence[str]) -> int:
    """Tell a person (or, with --json, a program) about an error; return the exit status."""
    as_json = "--json" in list(argv)[: list(argv).index("--") if "--" in argv else None]
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(Exit.OK)
        case OpskitError():
            _tell(_of_opskit(error), as_json=as_json)
            return int(error.exit)
        case click.exceptions.NoArgsIsHelpError():
            screen.err(error.format_message() + "\n")
            return int(Exit.USAGE)
        case click.ClickException():
            _tell(_of_click(error), as_json=as_json)
            return int(Exit.USAGE)
        case KeyboardInterrupt() | click.Abort():
            _tell(_plain("interrupted", Exit.INTERRUPTED), as_json=as_json)
            return int(Exit.INTERRUPTED)
        case BrokenPipeError():
            return int(Exit.OK)
        case _:
            _tell(_of_bug(error, argv), as_json=as_json)
            return int(Exit.BUG)


def _plain(what: str, status: Exit, where: str = "", hint: str = "") -> dict[str, Json]:
    return {"event": "error", "what": what, "where": where, "hint": hint, "exit": int(status)}


def _of_opskit(error: OpskitError) -> dict[str, Json]:
    found = _plain(error.what, error.exit, error.where, error.hint)
    if isinstance(error, ProblemsError):
        found["problems"] = [problems.as_json(problem) for problem in error.problems]
        found["text"] = problems.text(error.problems, paint=screen.paint(sys.stderr))
    return found


def _of_click(error: click.ClickException) -> dict[str, Json]:
    context = getattr(error, "ctx", None)
    command = context.command_path if isinstance(context, click.Context) else "opskit"
    return _plain(error.format_message(), Exit.USAGE, "", f"{command} --help shows how it is used")


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
    text = found.pop("text", None)
    if as_json:
        screen.err(jsonl.line(found))
        return
    if isinstance(text, str):
        screen.err(text)
        return
    paint = screen.paint(sys.stderr)
    where = f"{safe.visible(str(found['where']))}: " if found["where"] else ""
    lines = [f"{paint.bad('error')}: {where}{safe.visible(str(found['what']))}"]
    lines += [f"  → {safe.visible(str(found['hint']))}"] if found["hint"] else []
    screen.err("\n".join(lines) + "\n")


def masked(text: str) -> str:
    """Return text without any secret that this process was given, however it is encoded."""
    if not _secrets:
        return text
    from opskit.audit.masking import Masker

    return Masker.of(_secrets).mask(text)


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
    words = ["…" if "=" in word else word for word in argv]
    return " ".join(["opskit", *words[:6], *(["…"] if len(words) > 6 else [])])
