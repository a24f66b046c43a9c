"""What is said from a prompt, before it is sent anywhere."""

from pathlib import Path

import pytest

from opskit.app import configuration
from opskit.app.person import Question
from opskit.app.telling import tell
from opskit.errors import InputError


@pytest.mark.parametrize(
    ("channels", "hint"),
    [("channels: {chat: {command: cat}, admins: {command: cat}}\n", "--to one of: admins, chat"),
     ("", "write channels: {NAME: …} into it")],
)  # fmt: skip
def test_what_would_be_told_to_nobody_is_refused(tmp_path: Path, channels: str, hint: str) -> None:
    path = tmp_path / "i.yaml"
    path.write_text(f"opskit: 1\nhosts: {{web1: 10.0.0.1}}\n{channels}")
    settings = configuration.settings(store=str(tmp_path / "store.db"), inventory=None)
    with pytest.raises(InputError) as raised:
        tell(settings, str(path), "x", to=(), severity="info", person=Nobody(), watch=print)
    assert raised.value.hint == hint
    assert not (tmp_path / "store.db").exists()


@pytest.mark.parametrize(
    ("text", "to", "what"),
    [
        (" \n", ("chat",), "the message is empty"),
        ("x", ("chat", "none"), "would tell nobody"),
        ("x", ("chat", "pager"), "it is info, and pager takes from critical on"),
        ("x", (), "it is info, and pager takes from critical on"),
    ],
)
def test_what_says_nothing_is_refused(
    tmp_path: Path, text: str, to: tuple[str, ...], what: str
) -> None:
    path = tmp_path / "i.yaml"
    path.write_text(
        "opskit: 1\nhosts: {web1: 10.0.0.1}\nnotify: pager\n"
        "channels: {chat: {command: cat}, pager: {command: cat, severity: critical}}\n"
    )
    settings = configuration.settings(store=str(tmp_path / "store.db"), inventory=None)
    with pytest.raises(InputError, match=what):
        tell(settings, str(path), text, to=to, severity="info", person=Nobody(), watch=print)
    assert not (tmp_path / "store.db").exists()


class Nobody:
    who, origin, interactive = "me", "", False

    def ask(self, question: Question) -> str | None:
        return None

    def secret(self, name: str) -> str | None:
        return None

    def text(self, name: str, help_: str) -> str | None:
        return None

    def tell(self, text: str) -> None:
        pass
