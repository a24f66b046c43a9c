"""Ctrl-C and its like: the first asks a run to stop, the next ones end what it is running."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from opskit.cli import screen

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ASKED = "\nStopping: nothing new starts, what runs on the hosts goes on to its end.\n"
FIRST = f"{ASKED}Press Ctrl-C again to stop that too.\n"
QUESTION = f"{ASKED}Stop that too? Type y and Enter, or press Ctrl-C again; else it goes on.\n"
SECOND = "\nStopping what runs on the hosts …\n"
MORE = "\nStill stopping. Ctrl-C once more leaves at once; the record can be resumed.\n"


Answer = Callable[[Callable[[], bool]], bool]
"""Waits until a person has said yes (True) or something else, or the argument says: it is over."""


class LeftOpen(KeyboardInterrupt):
    """A signal came while a run's question was being asked: nobody answers it now."""


class Interrupts:
    """Counts signals and presses the run's stop, away from the signal handler.

    A handler runs between two steps of the main thread, which may hold any lock: so it only starts
    a thread. The fourth Ctrl-C gives up waiting. While a question is asked nothing runs, and the
    main thread does nothing but wait for the answer: then a signal ends that.
    """

    def __init__(
        self,
        press: Callable[[], None],
        tell: Callable[[str], None],
        asking: Callable[[], bool] = lambda: False,
        answer: Answer | None = None,
    ) -> None:
        self._press = press
        self._tell = tell
        self._asking = asking
        self._answer = answer
        self._over = threading.Event()
        self._listener: threading.Thread | None = None
        self.count = 0

    def close(self) -> None:
        """Listen no more: the run is over."""
        self._over.set()
        if self._listener is not None:
            self._listener.join(timeout=1)

    def handle(self, number: int, _: FrameType | None) -> None:
        if self._asking():
            raise LeftOpen
        self.count += 1
        again = self.count > 1
        if again and number != signal.SIGINT:
            return  # only a person's second thought ends what is running
        if self.count > 3:
            raise KeyboardInterrupt
        first = ASKED  # only Ctrl-C is heard a second time
        if number == signal.SIGINT:
            first = QUESTION if self._answer is not None else FIRST
        text = first if not again else SECOND if self.count == 2 else MORE
        acting = threading.Thread(target=self._act, args=(text,), daemon=True)
        if text == QUESTION:
            self._listener = acting
        acting.start()

    def asked(self, hard: bool) -> None:
        """Do what somebody asks for who is not here, as a first Ctrl-C would, or a second."""
        if self._asking():  # nothing runs: the question stays open, and that is all
            os.kill(os.getpid(), signal.SIGTERM)
            return
        while self.count < (2 if hard else 1):
            self.count += 1
            self._press()

    def _act(self, text: str) -> None:
        self._say(text)
        if self.count <= 2:
            self._press()
        if text == QUESTION and self._answer is not None and self._answer(self._settled):
            self.count += 1
            self._say(SECOND)
            self._press()

    def _settled(self) -> bool:
        """Tell whether nobody has to answer any more: it has ended, or Ctrl-C was the answer."""
        return self._over.is_set() or self.count > 1 or self._asking()

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be what has gone
            self._tell(text)


@contextmanager
def stopping(
    press: Callable[[], None],
    tell: Callable[[str], None] = screen.err,
    asking: Callable[[], bool] = lambda: False,
    answer: Answer | None = None,
) -> Iterator[Interrupts]:
    """Let signals press a stop while a run goes on; afterwards they mean what they did before.

    `answer`: on a terminal, waits for a person's yes to stopping what runs too.
    """
    handler = Interrupts(press, tell, asking, answer)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:  # nohup
            signal.signal(number, handler.handle)
    try:
        yield handler
    finally:
        handler.close()
        for number, old in before.items():
            signal.signal(number, old)
