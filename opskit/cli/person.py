"""The person at the terminal: who it is, and how they are asked."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opskit.app.person import Question
from opskit.cli import screen
from opskit.cli.interrupts import LeftOpen
from opskit.view import margins, safe
from opskit.view.evidence import lines as known

TRIES = 5


def who() -> str:
    """Return user@host of the person, also behind sudo."""
    user = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or _account()
    return f"{user}@{os.uname().nodename}"


def _account() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account with no name, as containers have
        return f"uid {os.getuid()}"


def origin() -> str:
    """Return where the person is logged in from: the client of the SSH session, or this machine."""
    client = os.environ.get("SSH_CONNECTION", "").split()
    return client[0] if client else os.uname().nodename


class Terminal:
    """Asks on the terminal that the process belongs to; `pause` takes the live view away."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.who = who()
        self.origin = origin()
        self.interactive = allowed and screen.is_terminal(sys.stdin) and _has_console()
        self.pause: Callable[[], AbstractContextManager[None]] = nullcontext
        self.asking = False
        """Whether a question is open, so that a signal is for it and not for the run."""

    def ask(self, question: Question) -> str | None:
        """Return the choice, or None where nobody answers."""
        if not self.interactive:
            return None
        try:
            return self._asked(question)
        except LeftOpen:  # a second signal, while the first was heard
            return None

    def _asked(self, question: Question) -> str | None:
        lines, prompt = _worded(question)
        with self.pause(), _console() as console:
            try:
                self.asking = True
                console.say("".join(f"{line}\n" for line in lines))
                return _chosen(console, prompt, question.choices)
            except (LeftOpen, OSError):  # the terminal may have been closed
                with contextlib.suppress(OSError):
                    console.write("\n")
                return None
            finally:
                self.asking = False

    def secret(self, name: str) -> str | None:
        """Ask for a secret without showing it."""
        if not self.interactive:
            return None
        import getpass

        with self.pause(), contextlib.suppress(EOFError):
            return getpass.getpass(f"{safe.one_line(name)} (not shown): ") or None
        return None

    def text(self, name: str, help_: str) -> str | None:
        """Ask for the value of a parameter."""
        about = f" ({safe.one_line(help_)})" if help_ else ""
        return self.ask(Question(text=f"{safe.one_line(name)}{about}:", choices=())) or None

    def tell(self, text: str) -> None:
        """Say something between two questions, where these are asked."""
        if self.interactive:
            with self.pause(), _console() as console:
                console.say(f"  {safe.visible(text)}\n")

    def confirm(self, text: str) -> bool:
        """Ask whether to go on. Anything but yes, also nothing at all, is no."""
        if not self.interactive:
            return False
        with self.pause(), _console() as console:
            typed = console.read(f"{safe.visible(text)} [y/N] ")
        return (typed or "").lower() in ("y", "yes")


class Console:
    """The terminal itself, so that answers are heard although the streams are redirected."""

    def __init__(self) -> None:
        self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._descriptor)

    def write(self, text: str) -> None:
        os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))

    def say(self, text: str) -> None:
        """Write lines so that none breaks within a word."""
        with contextlib.suppress(OSError, ValueError):
            text = margins.text(text, os.get_terminal_size(self._descriptor).columns or None)
        self.write(text)

    def read(self, prompt: str) -> str | None:
        """Return a line without its end; None at the end of input (Ctrl-D)."""
        self.write(prompt)
        typed = b""
        while not typed.endswith(b"\n"):
            more = os.read(self._descriptor, 1024)
            if not more:
                return None
            typed += more
        return typed.decode("utf-8", "replace").strip()


@contextmanager
def _console() -> Iterator[Console]:
    console = Console()
    try:
        yield console
    finally:
        console.close()


def _has_console() -> bool:
    with contextlib.suppress(OSError), _console():
        return True
    return False


def _worded(question: Question) -> tuple[Sequence[str], str]:
    """Return what to show (what is asked, what was printed, what each answer does) and a prompt."""
    text = safe.visible(question.text)
    evidence = [*known(question.evidence)]
    if not question.meanings:
        return evidence, text
    meant = {**question.meanings, "Ctrl-D": "answer later, with `opskit resume`; the run waits"}
    room = max(map(len, meant))
    answers = (f"  {choice:<{room}}  {what}" for choice, what in meant.items())
    return [text, *evidence, *answers], "Your answer:"


def _chosen(console: Console, text: str, choices: Sequence[str]) -> str | None:
    """Ask until one of the choices is named; its first letters are enough."""
    prompt = f"{text} [{'/'.join(choices)}] " if choices else f"{text} "
    for _ in range(TRIES):
        typed = console.read(prompt)
        if typed is None:
            console.write("\n")
            return None
        if not choices:
            return typed
        meant = matching(typed, choices)
        if meant is not None:
            return meant
        console.write(f"  please answer with one of: {', '.join(choices)}\n")
    return None


def matching(typed: str, choices: Sequence[str]) -> str | None:
    """Return the one choice that was meant: the whole word, or what only it begins with."""
    word = typed.strip().lower()
    if word in choices:
        return word
    found = [choice for choice in choices if word and choice.lower().startswith(word)]
    return found[0] if len(found) == 1 else None
