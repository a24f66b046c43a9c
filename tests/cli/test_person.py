"""Questions on a real terminal (a pty), and none where there is none."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from opskit.app.person import Question
from opskit.cli import person
from opskit.cli.person import Terminal, matching

CHILD = """
import sys
from opskit.app.person import Question
from opskit.cli import screen
from opskit.cli.person import Terminal
from opskit.model.finding import Finding
screen.prepare()
t = Terminal()
"""


def typed(script: str, keys: bytes) -> tuple[str, int]:
    """Run a script on a terminal of its own; type keys once it asks; return all it showed."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", CHILD + script])
    shown = b""
    deadline = time.monotonic() + 20
    try:
        while time.monotonic() < deadline:
            ready, _, _ = select.select([master], [], [], 0.1)
            if ready:
                try:
                    data = os.read(master, 4096)
                except OSError:
                    break
                if not data:
                    break
                shown += data
            if keys and shown.rstrip(b" ").endswith((b"]", b":", b"?")):
                os.write(master, keys)
                keys = b""
    finally:
        os.close(master)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return shown.decode(), status


ASK = 'print("answer", t.ask(Question(text="Go on?", choices=("retry", "skip", "abort"))))'


def test_a_choice_can_be_shortened() -> None:
    shown, _ = typed(ASK, b"sk\n")
    assert "Go on? [retry/skip/abort] " in shown
    assert "answer skip" in shown


def test_what_is_no_choice_is_asked_again() -> None:
    shown, _ = typed(ASK, b"what\nabort\n")
    assert "please answer with one of: retry, skip, abort" in shown
    assert "answer abort" in shown


def test_the_end_of_input_answers_nothing() -> None:
    assert "answer None" in typed(ASK, b"\x04")[0]


def test_evidence_stands_above_the_question_and_is_harmless() -> None:
    script = (
        'print("answer", t.ask(Question(text="Did it happen?", choices=("yes", "no"),'
        ' evidence=(Finding(source="output", lines=("\\x1b[2Jlast line",)),))))'
    )
    shown, _ = typed(script, b"yes\n")
    assert shown.index("    | last line") < shown.index("Did it happen?")
    assert "\x1b" not in shown


def test_a_question_says_what_each_answer_does() -> None:
    script = (
        'print("answer", t.ask(Question(text="Switch failed on web2", choices=("retry", "abort"),'
        ' evidence=(Finding(source="output", lines=("no such file",)),),'
        ' meanings={"retry": "do it again", "abort": "end"})))'
    )
    shown, _ = typed(script, b"r\n")
    rows = [row.rstrip() for row in shown.splitlines()]
    assert rows[:7] == [
        "Switch failed on web2",
        "  it printed",
        "    | no such file",
        "  retry   do it again",
        "  abort   end",
        "  Ctrl-D  answer later, with `opskit resume`; the run waits",
        "Your answer: [retry/abort] r",
    ]
    assert "answer retry" in shown


@pytest.mark.parametrize(
    ("keys", "answer"), [(b"y\n", "True"), (b"\n", "False"), (b"n\n", "False")]
)
def test_only_yes_is_yes(keys: bytes, answer: str) -> None:
    shown, _ = typed('print("answer", t.confirm("Do this?"))', keys)
    assert "Do this? [y/N] " in shown
    assert f"answer {answer}" in shown


def test_a_secret_is_not_shown_while_it_is_typed() -> None:
    shown, _ = typed('print("length", len(t.secret("token") or ""))', b"correct-horse\n")
    assert "token (not shown): " in shown
    assert "length 13" in shown
    assert "correct-horse" not in shown


def test_a_parameter_is_asked_for_with_its_help() -> None:
    shown, _ = typed('print("value", t.text("release", "id to ship"))', b"B\n")
    assert "release (id to ship):" in shown
    assert "value B" in shown


def test_without_a_terminal_nobody_is_asked() -> None:
    script = CHILD + ASK + '; print(t.interactive, t.confirm("x"), t.secret("x"), t.text("x", ""))'
    done = subprocess.run(
        [sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["answer", "None", "False", "False", "None", "None"]


def test_programs_are_not_asked() -> None:
    assert Terminal(allowed=False).interactive is False


def test_behind_sudo_the_person_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    monkeypatch.setenv("LOGNAME", "root")
    assert person.who().startswith("ann@")
    monkeypatch.delenv("SUDO_USER")
    assert person.who().startswith("root@")


def test_over_ssh_the_origin_is_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.9.8.7 50000 10.0.0.1 22")
    assert person.origin() == "10.9.8.7"


def test_a_letter_that_fits_two_choices_is_no_answer() -> None:
    choices = Question(text="", choices=("stop", "skip")).choices
    assert matching("s", choices) is None
    assert matching("sk", choices) == "skip"
    assert matching("", choices) is None
    assert matching("STOP", choices) == "stop"
