"""Uploads and their undo: aside, checked, renamed; taken back exactly or left alone."""

import hashlib
import os
import shutil
import stat
import tarfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.model.job import Output
from opskit.model.text import Text, text
from opskit.model.value import Json
from opskit.model.work import FileRef, Remove, Upload
from tests.drivers.kit import Kit, here, kit


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.acceptance)])
def any_kit(request: pytest.FixtureRequest) -> Kit:
    made: Kit = request.getfixturevalue(request.param)
    return made


def ref(path: Path) -> FileRef:
    data = path.read_bytes()
    return FileRef(path=str(path), size=len(data), sha256=hashlib.sha256(data).hexdigest())


def put(made: Kit, content: str | FileRef, dest: Path, **more: object) -> Output:
    known: dict[str, object] = {
        "mode": None,
        "unpack": False,
        "sudo": None,
        "key": "up",
        "attempt": 1,
    }
    known |= more
    what: Text | FileRef = text(content) if isinstance(content, str) else content
    work = Upload(
        content=what,
        dest=text(str(dest)),
        mode=known["mode"],  # type: ignore[arg-type]
        unpack=bool(known["unpack"]),
        sudo=known["sudo"],  # type: ignore[arg-type]
    )
    attempt = known["attempt"]
    assert isinstance(attempt, int)
    return made.perform(work, key=str(known["key"]), attempt=attempt).output


def back(made: Kit, dest: Path, of: str = "up") -> Output:
    return made.perform(Remove(dest=text(str(dest)), of=of)).output


def look(
    made: Kit, content: str | FileRef, dest: Path, *, unpack: bool = False, mode: str | None = None
) -> Mapping[str, Json]:
    what: Text | FileRef = text(content) if isinstance(content, str) else content
    output = made.targets.probe(
        made.job(Upload(content=what, dest=text(str(dest)), unpack=unpack, mode=mode))
    )
    assert output.outcome == "succeeded", output.reason
    return output.evidence


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def left_beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if p.name.startswith(f".{path.name}"))


CONTENTS = ["", "hello\n", "no newline", "ä € \U0001f600\n", "$(id) `id` ' \" \\\n", "x" * 100_000]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda c: f"{len(c)}")
def test_a_text_arrives_as_it_is(any_kit: Kit, tmp_path: Path, content: str) -> None:
    dest = tmp_path / "it's a file"
    output = put(any_kit, content, dest, mode="0640")
    assert output.outcome == "succeeded", output.reason
    assert dest.read_text() == content
    assert mode_of(dest) == 0o640
    assert output.evidence["created"] is True
    assert output.evidence["sha256"] == hashlib.sha256(content.encode()).hexdigest()
    assert left_beside(dest) == []


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 5_000_000])
def test_a_file_arrives_as_it_is(any_kit: Kit, tmp_path: Path, size: int) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.write_bytes(os.urandom(size))
    output = put(any_kit, ref(source), dest)
    assert output.outcome == "succeeded", output.reason
    assert dest.read_bytes() == source.read_bytes()
    again = put(any_kit, ref(source), dest, attempt=2)
    assert again.evidence["changed"] is False


def test_a_file_that_looks_like_requests_is_only_a_file(any_kit: Kit, tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.write_bytes(f"\n}}; touch {tmp_path}/pwned;\n".encode() * 50_000)
    assert put(any_kit, ref(source), dest).outcome == "succeeded"
    put(any_kit, ref(source), tmp_path / "no" / "dest", key="other")
    assert any_kit.do("echo next").out == b"next\n"
    assert not (tmp_path / "pwned").exists()


def test_a_new_file_is_removed_again_and_a_replaced_one_comes_back(
    any_kit: Kit, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    assert put(any_kit, "first", dest, key="one").evidence["created"] is True
    dest.chmod(0o604)
    os.utime(dest, (1_000_000, 1_000_000))
    output = put(any_kit, "second", dest, key="two")
    assert output.evidence["created"] is False
    assert output.evidence["before"] == hashlib.sha256(b"first").hexdigest()
    assert (dest.read_text(), mode_of(dest)) == ("second", 0o604)
    assert back(any_kit, dest, "two").evidence["restored"] is True
    assert (dest.read_text(), mode_of(dest)) == ("first", 0o604)
    assert dest.stat().st_mtime == 1_000_000
    assert back(any_kit, dest, "two").outcome == "succeeded"
    assert back(any_kit, dest, "one").evidence["removed"] is True
    assert not dest.exists()
    assert back(any_kit, dest, "one").outcome == "succeeded"
    assert back(any_kit, dest, "never").outcome == "succeeded"
    assert left_beside(dest) == []


def test_a_second_attempt_does_not_forget_what_the_first_one_met(
    any_kit: Kit, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    dest.write_text("before")
    put(any_kit, "half", dest, attempt=1)
    put(any_kit, "whole", dest, attempt=2)
    assert back(any_kit, dest).outcome == "succeeded"
    assert dest.read_text() == "before"


def test_what_somebody_else_changed_since_is_left_alone(any_kit: Kit, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.write_text("before")
    put(any_kit, "ours", dest)
    dest.write_text("theirs")
    output = back(any_kit, dest)
    assert output.outcome == "failed"
    assert "changed by somebody else" in output.reason
    assert dest.read_text() == "theirs"
    put(any_kit, "new", tmp_path / "fresh", key="fresh")
    (tmp_path / "fresh").write_text("theirs")
    assert back(any_kit, tmp_path / "fresh", "fresh").outcome == "failed"
    assert (tmp_path / "fresh").exists()


def test_undo_finds_its_memory_in_a_later_connection(tmp_path: Path) -> None:
    state, dest = tmp_path / "state", tmp_path / "dest"
    dest.write_text("before")
    made = kit(here(str(state)))
    put(made, "ours", dest)
    made.targets.close()
    made = kit(here(str(state)))
    assert back(made, dest).evidence["restored"] is True
    made.targets.close()
    assert dest.read_text() == "before"


def test_a_destination_that_is_no_place_for_a_file_is_refused(any_kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "target").write_text("t")
    for name, says in (("folder", "not a file"), ("link", "is a link to target"), ("no/x", "no/x")):
        output = put(any_kit, "x", tmp_path / name, key=name)
        assert output.outcome == "failed"
        assert says in output.reason or "irectory" in output.reason
    assert (tmp_path / "target").read_text() == "t"
    assert (tmp_path / "link").is_symlink()


def test_a_file_that_has_changed_since_the_plan_is_refused(any_kit: Kit, tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    for size in (100, 1_000_000):
        source.write_bytes(b"x" * size)
        planned = ref(source)
        for changed in (b"y" * size, b"x" * (size // 2), b"x" * size * 2):
            source.write_bytes(changed)
            output = put(any_kit, planned, dest, key=f"{size}{len(changed)}{changed[:1]!r}")
            assert output.outcome == "failed"
            assert "SHA-256" in output.reason or "changed since" in output.reason
            assert not dest.exists()
    source.unlink()
    output = put(any_kit, planned, dest, key="gone")
    assert (output.outcome, output.sent) == ("failed", False)


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "bin" / "run me").write_text("#!/bin/sh\necho hi\n")
    (tree / "bin" / "run me").chmod(0o755)
    (tree / "größe.txt").write_text("x" * 10_000)
    (tree / "-n").write_text("dash")
    (tree / "link").symlink_to("bin/run me")
    os.link(tree / "-n", tree / "hard")
    path = tmp_path / "release.tgz"
    with tarfile.open(path, "w:gz") as made:
        made.add(tree, ".")
    return path


def listed(root: Path) -> list[tuple[str, str, bytes]]:
    """Return what is in a tree: names, kinds and which can be executed, contents."""
    found = []
    for path in root.rglob("*"):
        kind = "folder" if path.is_dir() else f"file {os.access(path, os.X_OK)}"
        kind = f"link {path.readlink()}" if path.is_symlink() else kind
        content = path.read_bytes() if path.is_file() else b""
        found.append((str(path.relative_to(root)), kind, content))
    return sorted(found)


def test_a_tree_arrives_once_and_is_removed_again(
    any_kit: Kit, tmp_path: Path, tarball: Path
) -> None:
    dest = tmp_path / "releases" / "1"
    dest.parent.mkdir()
    assert look(any_kit, ref(tarball), dest, unpack=True)["exists"] is False
    output = put(any_kit, ref(tarball), dest, unpack=True)
    assert output.outcome == "succeeded", output.reason
    assert output.evidence["created"] is True
    assert listed(dest) == listed(tmp_path / "tree")
    assert look(any_kit, ref(tarball), dest, unpack=True)["same"] is True
    again = put(any_kit, ref(tarball), dest, unpack=True, key="again")
    assert (again.outcome, again.evidence["created"]) == ("succeeded", False)
    assert back(any_kit, dest, "again").outcome == "succeeded"
    assert dest.exists(), "the second one created nothing, so its undo removes nothing"
    (dest / "written later").write_text("")
    assert look(any_kit, ref(tarball), dest, unpack=True)["same"] is False
    other = put(any_kit, ref(tarball), dest, unpack=True, key="other")
    assert other.outcome == "failed"
    assert "not the tree" in other.reason
    assert back(any_kit, dest).evidence["removed"] is True
    assert [path.name for path in dest.parent.iterdir()] == []
    assert back(any_kit, dest).outcome == "succeeded"


def test_a_tree_that_was_replaced_since_is_left_alone(
    any_kit: Kit, tmp_path: Path, tarball: Path
) -> None:
    dest = tmp_path / "release"
    put(any_kit, ref(tarball), dest, unpack=True)
    dest.rename(tmp_path / "moved")
    dest.mkdir()
    output = back(any_kit, dest)
    assert output.outcome == "failed"
    assert "no longer the directory" in output.reason
    assert dest.exists()


@pytest.mark.parametrize("what", ["file", "folder", "link", "dangling"])
def test_what_stands_in_the_way_of_a_tree_is_not_touched(
    local: Kit, tmp_path: Path, tarball: Path, what: str
) -> None:
    dest = tmp_path / "release"
    if what == "file":
        dest.write_text("x")
    elif what == "folder":
        (dest / "x").mkdir(parents=True)
    else:
        dest.symlink_to("nowhere" if what == "dangling" else tmp_path / "tree")
    output = put(local, ref(tarball), dest, unpack=True)
    assert output.outcome == "failed"
    assert "is there already" in output.reason
    assert os.path.lexists(dest)
    assert (
        sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name or p.name[0] == ".") == []
    )


def test_an_archive_that_reaches_out_is_refused_before_it_is_sent(
    local: Kit, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.tar"
    with tarfile.open(bad, "w") as made:
        member = tarfile.TarInfo("../evil")
        made.addfile(member)
    output = put(local, ref(bad), tmp_path / "release", unpack=True)
    assert (output.outcome, output.sent) == ("failed", False)
    assert "must not be unpacked" in output.reason
    assert not (tmp_path / "evil").exists()


def test_a_probe_tells_what_stands_there_and_makes_nothing(local: Kit, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    assert look(local, "new", dest) == {
        "exists": False, "sha256": None, "size": None, "mode": None, "text": None, "same": False,
    }  # fmt: skip
    dest.write_text("old\ncontent yes\nlines")
    dest.chmod(0o600)
    seen = look(local, "new", dest)
    assert (seen["exists"], seen["size"], seen["mode"]) == (True, 21, "600")
    assert seen["text"] == "old\ncontent yes\nlines"
    assert look(local, "old\ncontent yes\nlines", dest)["same"] is True
    assert look(local, "old\ncontent yes\nlines", dest, mode="0644")["same"] is False
    dest.write_bytes(b"a\0b")
    assert look(local, "new", dest)["text"] is None
    dest.write_bytes(b"x" * 300_000)
    assert look(local, "new", dest)["text"] is None
    dest.unlink()
    dest.symlink_to("elsewhere")
    assert look(local, "new", dest)["kind"] == "link"
    assert not (tmp_path / "state").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes others without a password")
def test_another_user_puts_it_there(any_kit: Kit) -> None:
    state = Path("/tmp/opskit-nobody-up")
    host = any_kit.host
    made = kit(replace(host, connection=replace(host.connection, state_dir=str(state))))
    shutil.rmtree(state, ignore_errors=True)
    dest = Path("/tmp/opskit-nobody-file")
    try:
        big = "x" * 100_000
        assert put(made, big, dest, sudo="nobody").outcome == "succeeded"
        assert (dest.owner(), dest.read_text()) == ("nobody", big)
        work = Remove(dest=text(str(dest)), of="up", sudo="nobody")
        assert made.perform(work).output.evidence["removed"] is True
    finally:
        made.targets.close()
        shutil.rmtree(state, ignore_errors=True)
        dest.unlink(missing_ok=True)


def test_an_upload_can_be_stopped_in_the_middle(any_kit: Kit, tmp_path: Path) -> None:
    big, dest = tmp_path / "big", tmp_path / "dest"
    with big.open("wb") as file:
        file.truncate(4 * 1024**3)  # without content it takes no room
    size = big.stat().st_size
    content = FileRef(path=str(big), size=size, sha256="0" * 64)
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(put, any_kit, content, dest)
        until = time.monotonic() + 60
        while not left_beside(dest) and time.monotonic() < until:
            time.sleep(0.01)
        assert left_beside(dest)
        began = time.monotonic()
        assert list(any_kit.targets.stop(1.0).values()) == ["confirmed gone"]
        output = upload.result()
        assert time.monotonic() - began < 30
    assert (output.outcome, output.sent) == ("failed", False)
    assert output.evidence["stopped"] == "confirmed gone"
    assert output.reason == "stopped by a person, confirmed gone"
    assert not dest.exists()
    assert left_beside(dest) == []
    assert put(any_kit, "x", dest).outcome == "succeeded"
