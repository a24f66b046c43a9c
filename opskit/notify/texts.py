"""A message as its channel wants it. What stands in it comes from anywhere, so it is escaped."""

import json
import re
import time
from pathlib import Path

from opskit.model.channel import Message
from opskit.model.value import Json

_MOST = 3000
"""Characters of a message that are sent; the record has all."""
_SUBJECT = 120
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Controls, what turns the direction of a text or hides some of it, and what is no character."""
_EVERYBODY = re.compile(r"@(?=(?:channel|here|everyone|all|group)\b)", re.IGNORECASE)
_TILDE = re.compile(r"^~", re.MULTILINE)


def plain(message: Message) -> str:
    """Return a message as lines for a person: what was said, and which run said it."""
    return f"{_headed(message)}\n{_context(message)}\n"


def mail(message: Message) -> str:
    """Return the same for the input of a command.

    Some programs called `mail` take a line that begins with `~` for a command of their own.
    """
    return _TILDE.sub(" ~", plain(message))


def subject(message: Message) -> str:
    """Return a message as one short line: for the head of a mail, where another would count."""
    line = " ".join(_headed(message).split())
    return line if len(line) <= _SUBJECT else f"{line[: _SUBJECT - 1]}…"


def slack(message: Message) -> str:
    """Return the body for Slack, and what speaks its language.

    `<`, `>` and `&` make links and mentions there; others know `@channel` as plain text. Nothing is
    formatted, and no address in it is looked up.
    """
    text = plain(message).rstrip("\n")
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    body: dict[str, Json] = {
        "text": _EVERYBODY.sub("@\u200b", text),
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    return json.dumps(body)


def document(message: Message) -> str:
    """Return the body for whoever reads JSON: all that is known, each under its name."""
    body: dict[str, Json] = {
        "id": message.id,
        "text": _cut(message.text),
        "severity": message.severity,
        "runbook": message.runbook,
        "run": message.run,
        "step": clean(message.step),
        "host": message.host,
        "inventory": _name(message),
        "who": clean(message.who),
        "at": _moment(message.at),
    }
    return json.dumps(body)


def clean(text: str) -> str:
    """Return text with a sign in the place of every character that is none or does harm."""
    return _HARMFUL.sub("\ufffd", text.replace("\r\n", "\n"))


def _cut(text: str) -> str:
    text = clean(text)
    more = len(text) - _MOST
    return text if more <= 0 else f"{text[:_MOST]}… ({more} more characters are in the record)"


def _headed(message: Message) -> str:
    mark = "" if message.severity == "info" else f"[{message.severity}] "
    return mark + _cut(message.text)


def _context(message: Message) -> str:
    parts = (message.runbook, f"run {message.run}", _name(message), _moment(message.at))
    who = f"by {clean(message.who)}" if message.who else ""
    return " · ".join(filter(None, (*parts, who)))


def _name(message: Message) -> str:
    return clean(Path(message.inventory).stem)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
