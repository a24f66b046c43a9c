"""Durations and sizes."""

import time

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.cli.amounts import DURATION, SINCE
from opskit.steps.units import SHORTER, bytes_of, duration, instead_of, seconds_of


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("10", 10.0), ("1.5", 1.5), ("0", 0.0), ("10s", 10.0), ("1.5s", 1.5), ("250ms", 0.25),
        ("5m", 300.0), ("1h30m", 5400.0), ("2d", 172800.0), ("1m30s", 90.0), ("1s500ms", 1.5),
    ],
)  # fmt: skip
def test_a_duration_is_read(written: str, seconds: float) -> None:
    assert seconds_of(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "-5",
        "1:30",
        "ten",
        "5 m",
        "1.5h",
        "30m1h",
        "1e9",
        "inf",
        "nan",
        "400d",
        "٣s",
        "1s1s",
    ],
)
def test_what_is_no_duration_is_refused(written: str) -> None:
    assert seconds_of(written) is None


@pytest.mark.parametrize(("written", "told"), [("400d", SHORTER), ("ten", "10s"), ("1e9", "10s")])
def test_what_is_too_long_is_told_from_what_is_no_duration(written: str, told: str) -> None:
    assert instead_of(written, "10s") == told


def test_a_time_long_ago_may_be_asked_for() -> None:
    ago = time.time() - SINCE.convert("3000d", None, None)
    assert ago == pytest.approx(3000 * 86400, abs=5)
    assert SINCE.convert("99999d", None, None) == 0
    with pytest.raises(click.BadParameter, match="at most 366d"):
        DURATION.convert("400d", None, None)


@given(st.integers(0, 10**7))
def test_a_written_duration_reads_back(milliseconds: int) -> None:
    assert seconds_of(duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-3)


@pytest.mark.parametrize(
    ("written", "size"),
    [("0", 0), ("512", 512), ("64MiB", 64 * 2**20), ("10kB", 10_000), ("1 GiB", 2**30), ("3B", 3)],
)
def test_a_size_is_read(written: str, size: int) -> None:
    assert bytes_of(written) == size


@pytest.mark.parametrize("written", ["", "MiB", "1.5MiB", "-1", "64M", "1e9", "64 mib"])
def test_what_is_no_size_is_refused(written: str) -> None:
    assert bytes_of(written) is None
