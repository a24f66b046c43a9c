"""Where actions stand by what was recorded of them."""

from opskit.model.event import Event
from opskit.plan import Progress


def event(kind: str, attempt: int = 1, **data: object) -> Event:
    made: Event = Event(
        kind=kind,  # type: ignore[arg-type]
        key="1/web1",
        host="web1",
        step="s",
        attempt=attempt,
        data=data,  # type: ignore[arg-type]
    )
    return made


def silent_after(*events: Event) -> float | None:
    progress = Progress()
    for number, one in enumerate(events):
        progress.take(one, 100.0 + number)
    return progress.records["1/web1"].silent


def test_what_was_done_in_part_stands_though_another_attempt_is_due() -> None:
    progress = Progress()
    part = event("step ended", outcome="failed", again=True, part=True)
    for one in (event("step started"), part):
        progress.take(one, 1.0)
    record = progress.records["1/web1"]
    assert (record.state, record.stands, record.sent, record.reached) == (
        "planned", "failed", True, 1,
    )  # fmt: skip
    progress.take(event("step started", 2), 2.0)
    progress.take(event("step ended", 2, outcome="failed", sent=False), 3.0)
    assert (progress.records["1/web1"].stands, progress.records["1/web1"].sent) == ("failed", True)


def test_silence_is_of_the_attempt_that_goes_on_alone() -> None:
    began, silent = event("step started"), event("step silent", seconds=60.0)
    ended = event("step ended", outcome="failed", tries_left=1)
    assert silent_after(began, silent) == 41.0
    assert silent_after(began, silent, event("step silent", seconds=70.0, over=True)) is None
    # What watches for silence may be a little late.
    assert silent_after(began, ended, silent) is None
    assert silent_after(began, ended, event("step started", 2), silent) is None
