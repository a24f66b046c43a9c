"""Channels of an inventory, and what a plan makes of them."""

from pathlib import Path

import pytest

from opskit import load
from opskit.model.channel import Channel
from opskit.model.codec import from_json, to_json
from opskit.model.plan import Plan
from opskit.model.problem import ProblemsError
from opskit.model.work import Notify
from opskit.plan.make import make
from opskit.settings import shipped
from tests.support.world import no_files

SECRETS = "secrets: {chat_url: 'env:CHAT_URL', pass: 'env:PASS'}\n"
CHANNELS = """channels:
  chat: {webhook: chat_url, body: slack, severity: warning, every: 15m}
  mail: {command: 'mail -s "$OPSKIT_SUBJECT" ops', secrets: {PASS: pass}, timeout: 20s}
"""
ADDRESS = "https://hooks.example.com/services/T0/B0/x0x0"


def planned(folder: Path, steps: str, inventory: str = f"notify: chat\n{CHANNELS}") -> Plan:
    head = "opskit: 1\nname: r\nversion: 1.0.0\nsummary: s\nparams: {to: {default: ''}}\n"
    (folder / "r.yaml").write_text(f"{head}steps:\n{steps}")
    (folder / "i.yaml").write_text(f"opskit: 1\nhosts: {{web1: 10.0.0.1}}\n{inventory}{SECRETS}")
    found = load.runbook(folder / "r.yaml", [])
    return make(found, load.inventory(folder / "i.yaml"), {"to": ""}, files=no_files)


def to(plan: Plan) -> list[tuple[str, ...]]:
    return [action.work.to for action in plan.actions if isinstance(action.work, Notify)]


def test_channels_are_read(tmp_path: Path) -> None:
    plan = planned(tmp_path, "  - notify: {message: m, to: [chat, mail, chat]}\n")
    assert plan.channels == {
        "chat": Channel(
            name="chat", webhook="chat_url", body="slack", severity="warning", every=900.0
        ),
        "mail": Channel(
            name="mail", command='mail -s "$OPSKIT_SUBJECT" ops', secrets={"PASS": "pass"},
            timeout=20.0,
        ),
    }  # fmt: skip
    assert from_json(Plan, to_json(plan)) == plan
    assert plan.channels["mail"].wanted == ("pass",)


def test_a_message_that_names_no_channel_goes_to_those_of_the_inventory(tmp_path: Path) -> None:
    steps = (
        "  - notify: a\n  - notify: {message: b, to: none}\n  - notify: {message: c, to: mail}\n"
        "  - notify: {message: d, to: '{{ to }}'}\n"
        "  - {run: x, undo: [{notify: taken back}, {run: y}]}\n"
    )
    plan = planned(tmp_path, steps)
    assert to(plan) == [("chat",), (), ("mail",), ("chat",)]
    undo = [one.work for action in plan.actions for one in action.undo]
    assert [one.to for one in undo if isinstance(one, Notify)] == [()], "an undo sends nothing"
    bare = planned(tmp_path, "  - notify: a\n", inventory="")
    assert (to(bare), bare.channels) == ([()], {})


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("  - notify: {message: m, to: chet}\n", "no channel 'chet'"),
        ("  - notify: {message: m, severity: bad}\n", "`severity` came to 'bad'"),
        ("  - {run: x, undo: [{notify: {message: m, to: chat}}]}\n", "an undo sends nothing"),
    ],
)
def test_a_message_that_can_go_nowhere_is_refused(tmp_path: Path, steps: str, told: str) -> None:
    with pytest.raises(ProblemsError) as raised:
        planned(tmp_path, steps)
    (problem,) = raised.value.problems
    assert told in problem.what
    assert problem.place.line == 7


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        (f"chat: {{webhook: '{ADDRESS}'}}", "`webhook` must be the name of a secret"),
        ("chat: {webhook: hooks.example.com/services/T0/B0/x0x0}", "must be the name of a secret"),
        ("chat: {webhook: other}", "no secret 'other'"),
        ("chat: {webhook: chat_url, command: mail}", "both `webhook` and `command`"),
        ("chat: {severity: info}", "neither `webhook` nor `command`"),
        ("chat: {command: mail, body: slack}", "`body` is for a channel with `webhook`"),
        ("chat: {webhook: chat_url, secrets: {A: pass}}", "`secrets` is for a channel with"),
        ("chat: {command: mail, secrets: {A: other}}", "no secret 'other'"),
        ("chat: {command: mail, secrets: {A-B: pass}}", "'A-B' can't name a variable"),
        ("none: {command: mail}", "'none' can't name a channel"),
        ("a-b: {command: mail}", "'a-b' can't name a channel"),
        ("chat: {command: mail, severity: bad}", "`severity` can't be 'bad'"),
        ("chat: mail", "the channel `chat` must be a mapping"),
    ],
)  # fmt: skip
def test_a_channel_that_is_none_is_told_and_no_address_is_shown(
    tmp_path: Path, channels: str, told: str
) -> None:
    with pytest.raises(ProblemsError) as raised:
        planned(tmp_path, "  - notify: m\n", inventory=f"channels:\n  {channels}\n")
    said = "\n".join(str(problem) for problem in raised.value.problems)
    assert told in said
    assert "x0x0" not in said


def test_what_notify_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as raised:
        planned(tmp_path, "  - notify: m\n", inventory=f"notify: [chat, chet]\n{CHANNELS}")
    (problem,) = raised.value.problems
    assert (problem.what, problem.write) == ("the inventory has no channel 'chet'", "chat")


@pytest.mark.parametrize("name", ["deploy", "rollback", "blue-green", "canary", "switch-back"])
def test_how_a_release_ended_is_told_where_the_inventory_says(name: str) -> None:
    shelf = shipped() / "runbooks"
    book = load.runbook(shelf / f"{name}.yaml", [shelf])
    inner = [step.include for step in book.steps if step.include is not None]
    ends = [step for one in (book, *inner) for step in one.always if step.kind == "notify"]
    assert ends
    for step in ends:
        assert step.args.get("to") is None
        assert step.args.get("severity") is None, "it is that of how the run ended"
        assert "run.status" in str(step.args["message"])
