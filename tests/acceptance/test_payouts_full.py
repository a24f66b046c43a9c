"""A disk that gets full while evidence is written: there is no report, and nothing is acted on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_payouts import Money
from tests.support.database import base
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
ROOM = 64 * 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own with little room."""
    if os.geteuid() != 0:
        pytest.skip("a small file system is mounted by root only")
    folder = tmp_path / "evidence"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left", [0, 4096, 12288])
def test_no_report_is_left_and_nothing_is_held(
    postgres: Server, small: Path, tmp_path: Path, left: int
) -> None:
    desk = Money(base(postgres), tmp_path)
    desk.fill()  # there is room for one report
    first = Path(desk.manifest)
    (small / "other").write_bytes(b"x" * (ROOM - used(small) - left))
    before = desk.rows()
    said = desk.search(status=6)
    assert f"no evidence can be kept in {small}: No space left on device" in said
    assert [path for path in small.iterdir() if path.is_dir()] == [first.parent]
    run = str(desk.events("run created")[0]["run"])
    wanted = str(small / run / "manifest.json")
    assert "is not there" in desk.payouts("hold", report=wanted, status=2)
    assert desk.rows() == before
    desk.payouts("hold")  # the whole one of before is as good as ever
    assert desk.held() == [2, 4]


def used(folder: Path) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
