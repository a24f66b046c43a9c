"""Sending a message to its channel, within its time."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace

from opskit.errors import InputError
from opskit.model.channel import Channel, Delivery, Message
from opskit.model.value import Secret
from opskit.notify import texts

_TRIES = 3
_PAUSE = 0.5
_SLICE = 0.1
_LINE = 200

Fetch = Callable[[str, float], Secret]
"""Gets a secret of the inventory by its name, by a monotonic time; InputError says why not."""


class Sender:
    """Sends messages for one process. `hidden`: variables that no command may see.

    `lately` says, where a channel had the same message a moment ago, when that was. `mask` takes
    secrets out of a text.
    """

    def __init__(
        self,
        fetch: Fetch,
        hidden: Collection[str] = (),
        lately: Callable[[Channel, Message], str] = lambda channel, message: "",
        mask: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._fetch = fetch
        self._hidden = frozenset(hidden)
        self._lately = lately
        self._mask = mask

    def __call__(
        self, channel: Channel, message: Message, end: float, stopped: Callable[[], bool]
    ) -> Delivery:
        """Send a message by `end`; what goes wrong is in the delivery, never raised."""
        try:
            # More people read a channel than the record: it gets nothing that is not there.
            text, step = self._mask(message.text), self._mask(message.step)
            message = replace(message, text=text, step=step)
            if channel.every and (told := self._lately(channel, message)):
                return Delivery(delivered=False, held=True, reason=told, tries=0)
            secrets = {name: self._fetch(name, end) for name in channel.wanted}
            if channel.webhook is not None:
                return _posted(channel, message, secrets[channel.webhook], end, stopped)
            given = {name: secrets[secret].reveal() for name, secret in channel.secrets.items()}
            return self._commanded(channel, message, given, end, stopped)
        except InputError as error:
            return Delivery(delivered=False, reason=error.what, tries=0)
        except Exception as error:  # noqa: BLE001 - a message may fail, the run that says it may not
            return Delivery(delivered=False, reason=f"opskit failed ({type(error).__name__})")

    def _commanded(
        self,
        channel: Channel,
        message: Message,
        given: Mapping[str, str],
        end: float,
        stopped: Callable[[], bool],
    ) -> Delivery:
        """Run the command of a channel; where it is late, all in its session is ended."""
        environ = {name: value for name, value in os.environ.items() if name not in self._hidden}
        environ |= {
            "OPSKIT_SUBJECT": texts.subject(message),
            "OPSKIT_SEVERITY": message.severity,
            "OPSKIT_RUNBOOK": message.runbook,
            "OPSKIT_RUN": message.run,
            "OPSKIT_STEP": " ".join(texts.clean(message.step).split()),
            **given,
        }
        with tempfile.TemporaryFile() as written, tempfile.TemporaryFile() as said:
            written.write(texts.mail(message).encode())
            written.seek(0)
            process = subprocess.Popen(
                ("sh", "-c", channel.command or ""),
                stdin=written,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environ,
                start_new_session=True,
            )
            ended = _waited(process, end, stopped)
            said.seek(0)
            last = said.read(65536).decode("utf-8", "replace").strip().rpartition("\n")[2]
        if not ended:
            return Delivery(delivered=False, reason=f"it took longer than {channel.timeout:g} s")
        if process.returncode == 0:
            return Delivery(delivered=True)
        line = texts.clean(last)[:_LINE]
        told = f"its command ended with status {process.returncode}" + (f": {line}" if line else "")
        return Delivery(delivered=False, reason=told)


def _waited(process: "subprocess.Popen[bytes]", end: float, stopped: Callable[[], bool]) -> bool:
    """Wait for a process; False where it had to be ended, because it is late or nobody waits."""
    while time.monotonic() < end:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SLICE)
            return True
        if stopped():
            end = min(end, time.monotonic() + 1)
            stopped = bool  # it is asked no more
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return False


def _posted(
    channel: Channel, message: Message, address: Secret, end: float, stopped: Callable[[], bool]
) -> Delivery:
    """Post to a webhook, again where another try may do and there is time for it."""
    from opskit.drivers import webhook  # it loads what speaks HTTP

    body = texts.slack(message) if channel.body == "slack" else texts.document(message)
    for number in range(1, _TRIES + 1):
        left = round(max(end - time.monotonic(), _SLICE), 1)
        answer = webhook.post(address, body, message.id, left)
        if answer.well:
            return Delivery(delivered=True, tries=number)
        pause = max(answer.after, _PAUSE * 2 ** (number - 1))
        vain = not answer.again or number == _TRIES or time.monotonic() + pause >= end
        if vain or not _rested(pause, stopped):
            break
    return Delivery(delivered=False, reason=answer.error, tries=number)


def _rested(seconds: float, stopped: Callable[[], bool]) -> bool:
    """Pause; False where nobody waits any more."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopped():
            return False
        time.sleep(min(left, _SLICE))
    return True
