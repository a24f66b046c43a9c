"""How a run is told to stop, and by whom."""

from collections.abc import Mapping

import pytest

from opskit.execute import Stop


@pytest.mark.parametrize(("hard", "ends"), [(False, 0), (True, 1)])
def test_what_is_asked_for_where_nobody_listens_presses_it(hard: bool, ends: int) -> None:
    stop, killed = Stop(), []

    def kill() -> Mapping[str, str]:
        killed.append(1)
        return {}

    stop.arm(kill)
    stop.asked(hard)
    assert (stop.pressed, len(killed)) == (True, ends)


def test_who_has_been_overtaken_ends_nothing_that_runs() -> None:
    stop, killed = Stop(), []

    def kill() -> Mapping[str, str]:
        killed.append(1)
        return {}

    stop.arm(kill)
    stop.forsake()
    stop.press()
    stop.press()
    assert (stop.pressed, killed) == (True, [])
