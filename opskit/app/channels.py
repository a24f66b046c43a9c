"""What a run needs to send messages: its channels' secrets, and what the record has of others."""

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial
from threading import Lock

from opskit.app import secrets as fetching
from opskit.app.inventories import of_inventory
from opskit.audit import Store
from opskit.audit.masking import Masker, usable
from opskit.errors import InputError, OpskitError
from opskit.execute import Outside
from opskit.execute.messenger import Messenger
from opskit.model.channel import Channel, Message
from opskit.model.event import Event
from opskit.model.inventory import Inventory
from opskit.model.plan import Plan
from opskit.model.value import Secret
from opskit.notify.sending import Sender
from opskit.steps.units import duration

_OF_THE_STORE = ("OPSKIT_STORE", "PGPASSWORD")
"""Variables that the password of the record may stand in."""
_LONG = 3600.0
_LEAST = 0.1
_OVER = "over "
_STANDS = 7 * 86400.0
"""So long a message that nothing has ended is looked for."""
_MOST = 3000
"""So many runs are looked at: ten days of one every five minutes."""


def messenger(store: Store, outside: Outside, plan: Plan) -> Messenger:
    """Return what sends the messages of a run.

    A secret that is at hand is fetched now, so that it is kept out of the record from the start,
    and that it is not there is told now rather than at the end. One that a command brings is
    fetched when it is wanted: the run does not wait for it, nor fail without.
    """
    purse = Purse(plan, outside, os.environ)
    for channel in plan.channels.values():
        for name in channel.wanted:
            if not plan.secrets[name].source.startswith("cmd:"):
                try:
                    purse.fetch(name, 0.0)
                except InputError as error:
                    told = f"channel {channel.name} gets nothing: {error.what}"
                    outside.watch(Event(kind="message", data={"text": told}))
    hidden = [*fetching.variables(plan, outside.secrets), *_OF_THE_STORE]
    return Messenger(Sender(purse.fetch, hidden, partial(lately, store), _masked))


def _masked(text: str) -> str:
    """Take every secret that this process has come by out of a text."""
    return _masker(tuple(fetching.seen())).mask(text)


@lru_cache(maxsize=1)
def _masker(secrets: tuple[Secret, ...]) -> Masker:
    """Make a masker, which takes a while where there are many secrets; they seldom change."""
    return Masker.of(filter(usable, secrets))


def lately(store: Store, channel: Channel, message: Message) -> str:
    """Say when a channel has had the same message, where that was a moment ago; else ""."""
    since = time.time() - channel.every
    with suppress(OpskitError):  # what can't be looked up is no reason to say nothing
        mine = store.plan(message.run)
        # One that was begun earlier may have said it since then; few take longer than this.
        for run in store.runs(
            since=since - _LONG, runbook=message.runbook, limit=_MOST, previews=False
        ):
            if run.id == message.run and run.kind == "notify" and run.version.startswith(_OVER):
                return ""  # it is said to those only who were told since it was over last
            if run.kind == "notify" and run.reason != message.text:
                if run.version == over(message.text) and _had(store, run.id, channel.name):
                    return ""  # that was over since then, so this is none that it has had
                continue  # its step is named by what is said, but not by all of it
            for entry in store.entries(run.id):
                if entry.at >= since and _same(entry.event, channel, message):
                    if not of_inventory(store, run, mine.inventory, mine.hosts):
                        break  # what is so there may be otherwise here
                    if entry.event.data.get("severity") != message.severity:
                        return ""  # it is not any more as it was told last
                    ago = duration(round(time.time() - entry.at))
                    return f"it had the same {ago} ago, of run {run.id}"
    return ""


def over(text: str) -> str:
    """Return the version of what says that something is over that was told before, by its text."""
    return f"{_OVER}{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def stands(store: Store, channel: str, text: str, inventory: Inventory) -> bool:
    """Tell whether a channel of an inventory was told something, and not yet that it is over."""
    since = time.time() - _STANDS
    for run in store.runs(since=since, runbook="notify", limit=_MOST, previews=False):
        if (
            (run.reason == text or run.version == over(text))
            and _had(store, run.id, channel)
            and of_inventory(store, run, inventory.file, inventory.hosts)
        ):
            return run.version != over(text)
    return False


def _had(store: Store, run: str, channel: str) -> bool:
    """Tell whether a channel has what a run said."""
    return any(
        one.event.kind == "message"
        and one.event.data.get("channel") == channel
        and one.event.data.get("delivered") is True
        for one in store.entries(run)
    )


def _same(event: Event, channel: Channel, message: Message) -> bool:
    """Tell whether an event says that a channel has had a message, however severe it was."""
    data = event.data
    return (
        event.kind == "message"
        and data.get("channel") == channel.name
        and data.get("delivered") is True
        and (event.step, event.host) == (message.step, message.host)
    )


class Purse:
    """Secrets of channels, each fetched once. Called from many threads."""

    def __init__(self, plan: Plan, outside: Outside, environ: Mapping[str, str]) -> None:
        self._plan = plan
        self._outside = outside
        self._environ = environ
        self._found: dict[str, Secret] = {}
        names = {name for channel in plan.channels.values() for name in channel.wanted}
        self._locks = {name: Lock() for name in names}  # a command that hangs holds up its own only

    def fetch(self, name: str, end: float) -> Secret:
        """Return a secret, which is masked from then on; InputError says why it can't be had.

        A command that brings it has until `end`, a monotonic time.
        """
        left = max(_LEAST, end - time.monotonic())
        if not self._locks[name].acquire(timeout=left):
            told = f"the secret {name!r} can't be had: another message waits for its command"
            raise InputError(told, where=self._plan.inventory)
        try:
            if name not in self._found:
                left = max(_LEAST, end - time.monotonic())
                found = fetching.lazily(self._plan, name, self._environ, left)
                self._outside.hide(found)
                self._found[name] = found
            return self._found[name]
        finally:
            self._locks[name].release()
