"""A folder of evidence: closed to others, whole or refused, and no formula in it."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.drivers.evidence import EvidenceError, Folder, guarded, masked, opened, plain
from opskit.errors import InputError
from opskit.model.evidence import FORMAT, MANIFEST, Manifest, Source, Total

SOURCE = Source(
    run="r1", database="main", system="77", server="18.1", role="reader", standby=False,
    ledger="public.payouts", description="d" * 64, snapshot="1:2:", lsn="0/1", now="2026-02-01",
)  # fmt: skip
BODY = Manifest(
    format=FORMAT, source=SOURCE, asked={"since": "2026-01-01"}, rows=7,
    totals=(Total(status="paid", currency="EUR", rows=7, amount="70.00"),),
    level="CRIT", counts={"same_key": 2}, findings=[], pieces=(),
)  # fmt: skip


def made(base: Path) -> tuple[Folder, str]:
    folder = Folder.made(base, "r1")
    folder.text("same-key.sql", "SELECT 1\n")
    sheet = folder.sheet("same-key.csv", ["id", "iban", "note"], mask=["iban"])
    sheet.row(["1", "DE89370400440532013000", "=1+1"])
    sheet.row(["2", None, "a\nb,'\"c"])
    return folder, folder.close(BODY)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    folder, digest = made(tmp_path / "evidence")
    found = opened(folder.path / MANIFEST, digest)
    assert found.digest == digest
    assert (found.manifest.source, found.manifest.totals) == (SOURCE, BODY.totals)
    assert [(p.name, p.rows) for p in found.manifest.pieces] == [
        ("same-key.sql", -1), ("same-key.csv", 2),
    ]  # fmt: skip
    assert list(found.rows("same-key.csv")) == [
        {"id": "1", "iban": "****3000", "note": "=1+1"},
        {"id": "2", "iban": "", "note": "a\nb,'\"c"},
    ]
    raw = (folder.path / "same-key.csv").read_text()
    assert raw.startswith("id,iban,note\n1,****3000,'=1+1\n")
    assert "37040" not in raw


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder, _ = made(tmp_path / "evidence")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert modes == {0o600}
    for path in (folder.path, folder.path.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_each_report_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = (made(tmp_path)[0].path for _ in range(2))
    assert (first.name, second.name) == ("r1", "r1-2")
    third = Folder.made(tmp_path, "r1")
    third.text("a.sql", "x")
    third.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r1", "r1-2"]


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no evidence can be kept"):
        Folder.made(tmp_path / "file" / "evidence", "r1")


def edit(text: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "same-key.csv"
        path.write_text(path.read_text().replace(text, new))

    return change


def forged(folder: Path) -> None:
    path = folder / MANIFEST
    whole = json.loads(path.read_text())
    whole["pieces"][0]["name"] = "../outside"
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (edit("1,", "3,"), "not what it was"),
        (lambda f: (f / "same-key.sql").unlink(), "No such file"),
        (lambda f: (f / "same-key.csv").chmod(0o666), "others may write it"),
        (lambda f: (f / MANIFEST).write_text("{}"), "no manifest"),
        (forged, "no name of a piece"),
        (lambda f: (f / MANIFEST).chmod(0o620), "others may write it"),
    ],
)
def test_evidence_that_was_changed_is_refused(
    tmp_path: Path, change: Callable[[Path], object], told: str
) -> None:
    folder, _ = made(tmp_path)
    change(folder.path)
    with pytest.raises(EvidenceError, match=told):
        opened(folder.path / MANIFEST)


def test_the_manifest_must_be_the_one_of_the_record(tmp_path: Path) -> None:
    folder, digest = made(tmp_path)
    path = folder.path / MANIFEST
    path.write_text(path.read_text().replace('"rows": 7', '"rows": 8', 1))
    with pytest.raises(EvidenceError, match=f"and not {digest}"):
        opened(path, digest)


def test_a_table_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    folder, _ = made(tmp_path)
    found = opened(folder.path / MANIFEST)
    edit("1,", "3,")(folder.path)
    with pytest.raises(EvidenceError, match="not what it was"):
        list(found.rows("same-key.csv"))
    with pytest.raises(EvidenceError, match="no table"):
        list(found.rows("same-key.sql"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    folder, _ = made(tmp_path)
    path = folder.path / "same-key.csv"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvidenceError, match="can't be read"):
        opened(folder.path / MANIFEST)


@given(st.text(max_size=12))
def test_no_cell_is_a_formula_and_each_comes_back(value: str) -> None:
    assert not guarded(value).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain(guarded(value)) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", ""), ("1", "****"), ("1234567", "****"), ("12345678", "****5678")],
)
def test_a_masked_value_keeps_its_end_at_most(value: str, shown: str) -> None:
    assert masked(value) == shown
