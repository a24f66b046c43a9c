"""Messages to channels: beside the run, in their order, at least once wherever it crashes."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opskit import load
from opskit.execute import Outside, Stop, execute, messenger, take_back
from opskit.execute.messenger import Messenger
from opskit.model.channel import Channel, Delivery, Message
from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.states import RunState
from opskit.model.value import Json
from opskit.plan.make import make
from tests.support.world import FACTS, Crash, Paper, World, no_files, runbook

INVENTORY = """opskit: 1
hosts: {web1: 10.0.0.1, web2: 10.0.0.2}
groups: {web: [web1, web2]}
channels:
  chat: {webhook: address}
  pager: {webhook: address, severity: critical, timeout: 100ms}
notify: [chat, pager]
secrets: {address: 'env:ADDRESS'}
"""
BEGIN = "  - {name: begin, notify: begins, on: controller}\n"
WORK = "  - {name: work, run: work, undo: [{run: back}, {name: say, notify: taken back}]}\n"
ALWAYS = "always:\n  - {name: end, notify: '{{ run.status }}', on: controller}\n"


@dataclass
class Post:
    """Takes messages; `refuses` and `delays`: channel → what becomes of them there."""

    world: World
    came: list[tuple[str, str, str]] = field(default_factory=list)
    """Of each: channel, text, id."""
    severities: list[str] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)

    def __call__(
        self, channel: Channel, message: Message, end: float, stopped: Callable[[], bool]
    ) -> Delivery:
        time.sleep(self.delays.get(channel.name, 0.0))
        if self.world.dead:
            raise Crash
        reason = self.refuses.get(channel.name, "")
        if not reason:
            self.came.append((channel.name, message.text, message.id))
            self.severities.append(message.severity)
        return Delivery(delivered=not reason, reason=reason)

    def texts(self, channel: str) -> list[str]:
        return [text for name, text, _ in self.came if name == channel]


def planned(folder: Path, steps: str, head: str = ALWAYS) -> Plan:
    (folder / "r.yaml").write_text(runbook(steps, head))
    (folder / "i.yaml").write_text(INVENTORY)
    found = load.runbook(folder / "r.yaml", [])
    return make(found, load.inventory(folder / "i.yaml"), {}, files=no_files)


def process(
    paper: Paper, post: Post, watch: Callable[[object], None] = lambda item: None
) -> Outside:
    post.world.dead = False
    return Outside(
        targets=post.world, journal=paper, secrets={}, watch=watch, stop=Stop(),
        hide=lambda secret: None, messenger=Messenger(post),
    )  # fmt: skip


def go(
    plan: Plan, paper: Paper, post: Post, watch: Callable[[object], None] = lambda item: None
) -> RunState:
    """Execute a plan; no thread outlives it, whose end would be told to another test."""
    outside = process(paper, post, watch)
    try:
        return execute(plan, list(paper.entries), outside, FACTS)
    finally:
        for thread in threading.enumerate():
            if thread.name.startswith("message-"):
                thread.join(5)


def outcomes(paper: Paper) -> list[Mapping[str, Json]]:
    found = [entry.event for entry in paper.entries]
    return [one.data for one in found if one.kind == "message" and "channel" in one.data]


def test_channels_get_what_is_severe_enough_and_an_undo_sends_nothing(tmp_path: Path) -> None:
    plan = planned(tmp_path, BEGIN + WORK, f"on_failure: undo\n{ALWAYS}")
    paper = Paper(world := World(fails={"2/web2": -1}))
    post = Post(world)
    assert go(plan, paper, post) == "undone"
    assert (post.texts("chat"), post.texts("pager")) == (["begins", "undone"], [])
    assert post.severities == ["info", "warning"]
    said = [str(one.event.data.get("text")) for one in paper.entries if one.event.kind == "message"]
    assert "taken back" in said
    assert paper.entries[-1].event.kind == "run ended", "it ends when all it says has an outcome"
    paper = Paper(world := World(fails={"2/web2": -1, "2/web1!1": -1}))
    post = Post(world)
    assert go(plan, paper, post) == "failed"
    assert post.texts("pager") == ["failed"]
    outside = process(paper, post)
    take_back(plan, list(paper.entries), outside, FACTS)
    assert post.texts("chat") == ["begins", "failed"]


def test_no_channel_holds_the_run_up_and_a_dead_one_costs_its_time_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messenger, "_LONG", 0.05)
    steps = "".join(
        f"  - {{name: s{n}, notify: {{message: m{n}, severity: P0}}, on: controller}}\n"
        for n in range(6)
    )
    steps += "  - {name: last, notify: {message: last, severity: P0}, on: controller}\n"
    plan = planned(tmp_path, steps + WORK)
    paper = Paper(world := World())
    post = Post(world, refuses={"pager": "no answer"}, delays={"pager": 0.06})
    assert go(plan, paper, post) == "succeeded"
    assert post.texts("chat") == [*(f"m{n}" for n in range(6)), "last", "succeeded"]
    ended = [entry.event.kind for entry in paper.entries].index("run ended")
    work = [entry.number for entry in paper.entries if entry.event.key == "8/web2"]
    lost = [one for one in outcomes(paper) if one["channel"] == "pager"]
    *tries, last_try = [int(str(one["tries"])) for one in lost]
    assert (tries[0], tries[5], last_try) == (1, 0, 1)
    assert tries == sorted(tries, reverse=True), "once it is given up only the last is tried"
    assert str(lost[5]["text"]).endswith("not tried, as those before it did not come")
    last = max(entry.number for entry in paper.entries if "channel" in entry.event.data)
    assert max(work) < last < ended


def test_a_message_that_must_come_fails_its_step_and_is_not_repeated_where_it_came(
    tmp_path: Path,
) -> None:
    steps = (
        "  - name: must\n    notify: {message: m, severity: P1, required: true}\n"
        "    on: controller\n    retry: {times: 1, backoff: 0}\n"
    )
    plan = planned(tmp_path, steps + WORK)
    paper = Paper(world := World())
    post = Post(world, refuses={"pager": "it answered 500"})
    assert go(plan, paper, post) == "failed"
    assert world.sent == [], "nothing comes after it"
    assert post.texts("chat") == ["m", "failed"]
    ended = [one.event for one in paper.entries if one.event.kind == "step ended"]
    assert ended[0].data["reason"] == "pager: it answered 500"
    for key in ("1/>controller", "a1/>controller"):
        paper.append(Event(kind="decided", key=key, data={"choice": "retry", "who": "me"}))
    post.refuses.clear()
    assert go(plan, paper, post) == "succeeded"
    assert post.texts("chat") == ["m", "failed", "m", "succeeded"], "a retry is told as a run is"
    assert post.texts("pager") == ["m"]
    assert len({ident for _, _, ident in post.came}) == 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("keeps", [True, False])
def test_a_message_comes_at_least_once_wherever_it_crashes(tmp_path: Path, keeps: bool) -> None:
    plan = planned(tmp_path, BEGIN + WORK)
    for crash in range(30):
        paper = Paper(world := World(), crash_at=crash, keeps=keeps)
        post = Post(world)
        state: RunState | None = None
        try:
            state = go(plan, paper, post)
        except Crash:
            known = {str(one["text"]) for one in outcomes(paper)}
            before = list(post.came)
            state = go(plan, paper, post)
            again = [one for one in post.came[len(before) :] if one in before]
            assert {f"{step}: chat: delivered" for step in ("begin", "end")} >= known
            said = {"begins": "begin: chat: delivered", "succeeded": "end: chat: delivered"}
            assert [one for one in again if said[one[1]] in known] == [], crash
        assert state == "succeeded"
        assert list(dict.fromkeys(post.texts("chat"))) == ["begins", "succeeded"], crash
        assert len({ident for _, _, ident in post.came}) <= 3
        if crash > len(paper.entries):
            return
    pytest.fail("a run has fewer entries than that")


@pytest.mark.parametrize("back", [False, True])
def test_an_outcome_that_nobody_waited_for_is_sent_again_by_whoever_goes_on(
    tmp_path: Path, back: bool
) -> None:
    plan = planned(tmp_path, BEGIN + WORK)
    paper = Paper(world := World())
    message = Event(
        kind="message", key="1/>controller", step="begin", attempt=1,
        data={"text": "begins", "severity": "info", "to": ["chat", "pager"], "first": 1},
    )  # fmt: skip
    began = Event(kind="step started", key="1/>controller", step="begin", attempt=1,
                  data={"target": "controller"})  # fmt: skip
    over = Event(kind="step ended", key="1/>controller", step="begin", attempt=1,
                  data={"outcome": "succeeded"})  # fmt: skip
    had = Event(kind="message", key="1/>controller", step="begin", attempt=1,
                data={"text": "", "channel": "pager", "delivered": True})  # fmt: skip
    paper.append(began, message, over, had)
    if back:  # by what a person has decided at a question; there is nothing to take back
        paper.append(Event(kind="decided", key="2/web1", data={"choice": "undo", "who": "me"}))
    post = Post(world)
    state = "failed" if back else "succeeded"
    assert go(plan, paper, post) == state
    chat = [(text, ident) for name, text, ident in post.came if name == "chat"]
    assert chat == [("begins", "r1:1/>controller:1"), (state, "r1:a1/>controller:1")]
    assert "begins" not in post.texts("pager")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("behind", [False, True])
def test_what_breaks_a_message_keeps_none_after_it_from_being_sent(
    tmp_path: Path, behind: bool
) -> None:
    """What nobody carries would be waited for without an end. `behind`: it waits already."""
    more = "  - {name: more, notify: {message: more, required: true}, on: controller}\n"
    plan = planned(tmp_path, BEGIN + WORK + more)
    paper = Paper(world := World())
    post = Post(world)
    broken, waits = threading.Event(), threading.Event()

    def watch(item: object) -> None:
        if not isinstance(item, Event) or item.kind != "message":
            return
        if item.step == "more":
            waits.set()
        if "channel" in item.data and not broken.is_set():
            broken.set()
            if behind:
                waits.wait(20)
                time.sleep(0.3)  # until it has been handed over
            raise BrokenPipeError

    assert go(plan, paper, post, watch) == "succeeded"
    assert post.texts("chat") == ["begins", "more", "succeeded"]
