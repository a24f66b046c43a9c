"""What a person sees on a terminal of 80 columns: no line breaks within a word."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.test_commands import folder
from tests.support.terminal import terminal

__all__ = ["folder"]
pytestmark = pytest.mark.acceptance

WORDS = "which is said in more words than a terminal has room for, as people do, on one line"
COMMAND = "echo this line is sent as it stands here, and longer than eighty columns, to be copied"
RUNBOOK = """\
opskit: 1
name: wide
version: 1.0.0
summary: A summary WORDS
hosts: all
params: {why: {default: 'a value WORDS'}}
on_failure: stop
steps:
  - name: A name WORDS
    run: COMMAND
    on: controller
    undo: {manual: 'Take it back by hand, WORDS', on: controller}
  - {name: asks, confirm: 'A question WORDS?', on: controller}
  - {name: fails, run: 'echo an output WORDS >&2; exit 3', on: controller}
  - {name: never, assert: {that: 'why == 1', message: 'A message WORDS'}, on: controller}
"""
SHOWN = {
    "show wide": ["A summary which", "A name which"],
    "plan wide --undo --no-reads": ["a value which", "A question which", "A message which",
                                    "Take it back by hand,", f"$ {COMMAND}\n"],
    "run wide --no-live": ["A name which", "A question which"],
    "decide last": ["A question which"],
    "decide last yes --no-live": ["A question which", f"an output {WORDS}\n"],
    "audit log": ["A question which"],
    "run wide -p wy=x": ["wide has no parameter 'wy'"],
}  # fmt: skip
"""By what is typed: of what is seen then, the beginnings of what is too long, and what is whole."""
WHOLE = re.compile(r"\$ echo |\| +an output |  opskit |/runbooks/")


def seen(typed: str, folder: Path) -> str:
    """Return what stands on the screen in the end; a run is let go on, and then left waiting."""
    environ = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    with terminal(typed.split(), environ=environ, folder=folder, columns=80) as found:
        if typed.startswith("run wide --no-live"):
            found.until("[y/N] ")
            found.type("y\n")
        if typed in ("run wide --no-live", "decide last"):
            found.until("Your answer: ")
            found.type("\x04")
        found.end()
        return re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", found.text()).replace("\r\n", "\n")


def test_no_line_breaks_within_a_word_and_what_is_copied_stays_whole(folder: Path) -> None:
    text = RUNBOOK.replace("WORDS", WORDS).replace("COMMAND", COMMAND)
    (folder / "runbooks" / "wide.yaml").write_text(text)
    for typed, parts in SHOWN.items():
        screen = seen(typed, folder)
        wide = [line for line in screen.splitlines() if len(line) > 80 and not WHOLE.search(line)]
        assert not wide, f"{typed}: {wide}\n{screen}"
        assert not [part for part in parts if part not in screen], f"{typed}\n{screen}"
