"""What a message looks like in a channel: what stands in it may be anybody's."""

import json

import pytest

from opskit.model.channel import SEVERITIES, Message, Severity, severity_of
from opskit.notify import texts


def message(text: str, severity: Severity = "info", step: str = "say") -> Message:
    return Message(
        id="r1:1/:1", text=text, severity=severity, run="r1", runbook="deploy", step=step, host="",
        who="ann", at=0.0, inventory="/etc/opskit/production.yaml",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("<!channel> <@U123> <https://x|y>", "&lt;!channel&gt; &lt;@U123&gt; &lt;https://x|y&gt;"),
        ("a & b &lt; c", "a &amp; b &amp;lt; c"),
        ("@here @CHANNEL me@example.org", "@\u200bhere @\u200bCHANNEL me@example.org"),
        ("1\r\n2\t3\x00\x1b[31m\x9b4\u202e5\ud800", "1\n2\t3\ufffd\ufffd[31m\ufffd4\ufffd5\ufffd"),
        ('"},{"text":"\\', '"},{"text":"\\'),
    ],
)  # fmt: skip
def test_nothing_in_a_message_is_a_mention_a_link_or_a_control(said: str, sent: str) -> None:
    body = json.loads(texts.slack(message(said)).encode())
    assert body["text"] == f"{sent}\ndeploy · run r1 · production · 1970-01-01T00:00:00Z · by ann"
    assert (body["mrkdwn"], body["unfurl_links"], body["unfurl_media"]) == (False, False, False)


def test_a_long_message_is_cut_and_says_so() -> None:
    found = json.loads(texts.document(message("x" * 5000, "critical")))
    assert found["text"] == "x" * 3000 + "… (2000 more characters are in the record)"
    assert (found["severity"], found["id"], found["at"]) == (
        "critical", "r1:1/:1", "1970-01-01T00:00:00Z",
    )  # fmt: skip


def test_no_line_of_a_mail_is_taken_for_a_command_or_a_head() -> None:
    said = message("~!id\nBcc: all@example.com\n~ x", "critical", step="a\nb")
    assert texts.mail(said).startswith("[critical] ~!id\nBcc: all@example.com\n ~ x\ndeploy · ")
    assert texts.mail(message("~!id")).startswith(" ~!id\n")
    assert texts.subject(said) == "[critical] ~!id Bcc: all@example.com ~ x"
    assert len(texts.subject(message("word " * 100))) == 120


def test_every_state_of_a_run_is_so_severe() -> None:
    assert {word: severity_of(word) for word in (*SEVERITIES, "P0", "P1", "P2", "P3", "x")} == {
        "info": "info", "warning": "warning", "critical": "critical", "P0": "critical",
        "P1": "critical", "P2": "warning", "P3": "info", "x": None,
    }  # fmt: skip
    ended = ("succeeded", "undone", "failed", "unknown", "aborted")
    assert [severity_of(word) for word in ended] == ["info", "warning", *["critical"] * 3]
