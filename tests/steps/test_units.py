"""Durations and sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.steps.units import bytes_of, duration, seconds_of


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
