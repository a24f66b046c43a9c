"""Whole commands, on a runbook that needs no other machine than this one."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit import audit
from opskit.app import configuration, record
from opskit.app.again import foreseen
from opskit.app.incident import incident
from opskit.cli import failure
from opskit.cli.root import call
from opskit.plan import reverse
from opskit.view.plan import Look, text

INVENTORY = "opskit: 1\nhosts:\n  one: {address: 127.0.0.1}\n"
RUNBOOK = """\
opskit: 1
name: local
version: 1.0.0
summary: Something on this machine alone
params:
  word: {type: string, default: hello, help: what to write}
  code: {type: int, default: 0}
  folder: {type: string}
hosts: all
on_failure: undo
steps:
  - name: Look
    run: test ! -e {{ folder }}/word || cat {{ folder }}/word
    effect: read
    on: controller
    save: before
  - name: Write
    run: printf '%s\\n' {{ word }} > {{ folder }}/word
    on: controller
    undo:
      - run: rm -f {{ folder }}/word
  - name: End
    run: "printf 'out\\\\n'; printf 'err \\\\033[31mred\\\\n' >&2; exit {{ code }}"
    on: controller
    undo: []
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "local.yaml").write_text(RUNBOOK)
    (tmp_path / "hosts.yaml").write_text(INVENTORY)
    (tmp_path / "opskit.yaml").write_text("inventory: hosts.yaml\nstore: store.db\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OPSKIT_STORE", raising=False)
    monkeypatch.setattr(failure, "_secrets", [])
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield tmp_path


Capture = pytest.CaptureFixture[str]


def run(folder: Path, *words: str) -> int:
    return call(["run", "local", "-p", f"folder={folder}", *words])


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_without_a_terminal_needs_yes_and_touches_nothing(
    folder: Path, capsys: Capture
) -> None:
    assert run(folder) == 2
    told = capsys.readouterr().err
    assert "--yes" in told
    assert not (folder / "word").exists()
    assert not (folder / "store.db").exists()


@pytest.mark.parametrize("what", ["folder", "other", "nowhere"])
def test_a_run_whose_record_can_not_be_begun_is_refused(
    folder: Path, capsys: Capture, what: str
) -> None:
    (folder / "folder").mkdir()
    (folder / "other").write_text("a shopping list")
    place = "/proc/nowhere/store.db" if what == "nowhere" else str(folder / what)
    assert run(folder, "--yes", "--store", place) == 5
    assert "nothing was sent anywhere\n  → " in capsys.readouterr().err
    assert not (folder / "word").exists()


def test_a_run_does_what_its_plan_says_and_tells_it_in_lines(folder: Path, capsys: Capture) -> None:
    assert run(folder, "--yes", "--reason", "INC-7") == 0
    told = capsys.readouterr().out
    assert (folder / "word").read_text() == "hello\n"
    assert " ok       2 Write (" in told
    assert "SUCCEEDED after" in told
    assert "\x1b" not in told


def test_a_failed_run_shows_why_and_has_its_exit_status(folder: Path, capsys: Capture) -> None:
    status = run(folder, "--yes", "-p", "code=7")
    told = capsys.readouterr().out
    assert "FAILED   3 End (" in told
    assert "exit 7)" in told
    assert "|        err red\n" in told
    assert not (folder / "word").exists()
    assert status in (1, 3)


def test_json_is_an_object_a_line_and_each_names_the_run(folder: Path, capsys: Capture) -> None:
    assert run(folder, "--yes", "--json") == 0
    found = objects(capsys.readouterr().out)
    assert found[0]["event"] == "run created"
    assert found[-1]["event"] == "summary"
    assert found[-1]["exit"] == 0
    assert all("event" in row for row in found)
    assert {row["run"] for row in found} == {found[-1]["run"]}


def test_going_on_with_a_run_names_it_in_every_line_too(folder: Path, capsys: Capture) -> None:
    assert run(folder, "--yes") == 0
    capsys.readouterr()
    assert call(["undo", "last", "--yes", "--json"]) == 0
    found = objects(capsys.readouterr().out)
    assert "undo began" in [row["event"] for row in found]
    assert {row["run"] for row in found} == {found[-1]["run"]}


def test_a_plan_shows_text_and_changes_nothing(folder: Path, capsys: Capture) -> None:
    assert call(["plan", "local", "-p", f"folder={folder}"]) == 0
    told = capsys.readouterr().out
    assert f"$ printf '%s\\n' hello > {folder}/word" in told
    assert "2 change  Write" in told
    assert not (folder / "word").exists()
    assert call(["run", "local", "-p", f"folder={folder}", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("2 change  Write") == 1


def test_a_plan_as_json_has_every_action_with_its_text(folder: Path, capsys: Capture) -> None:
    assert call(["plan", "local", "-p", f"folder={folder}", "--json", "--no-reads"]) == 0
    whole, *actions = objects(capsys.readouterr().out)
    assert whole["kind"] == "plan"
    assert whole["counts"]["change"] == 2
    assert [a["step"] for a in actions] == ["Look", "Write", "End"]
    assert actions[1]["undo"] == [f"$ rm -f {folder}/word"]
    assert all(a["determined"] for a in actions)


def test_a_saved_plan_is_held_to(folder: Path, capsys: Capture) -> None:
    assert call(["plan", "local", "-p", f"folder={folder}", "--no-reads", "-o", "p.json"]) == 0
    assert run(folder, "--yes", "--plan", "p.json", "-p", "word=other") == 5
    assert "parameter word has changed" in capsys.readouterr().err
    assert not (folder / "word").exists()
    assert run(folder, "--yes", "--plan", "p.json") == 0


def test_what_was_done_can_be_looked_up_and_taken_back(folder: Path, capsys: Capture) -> None:
    run(folder, "--yes", "--reason", "INC-7")
    capsys.readouterr()
    assert call(["status"]) == 0
    assert "SUCCEEDED" in capsys.readouterr().out
    assert call(["runs", "--since", "1h"]) == 0
    assert "INC-7" in capsys.readouterr().out
    assert call(["note", "last", " "]) == 2
    assert "the note is empty" in capsys.readouterr().err
    assert call(["note", "last", "looks", "good"]) == 0
    assert call(["report"]) == 0
    assert "looks good" in capsys.readouterr().out
    assert call(["audit", "log"]) == 0
    assert "started 2 Write" in capsys.readouterr().out
    assert call(["audit", "verify"]) == 0
    assert call(["undo", "last"]) == 2
    assert call(["undo", "last", "--yes"]) == 0
    assert not (folder / "word").exists()


def test_output_is_shown_by_step_name_and_number(folder: Path, capsys: Capture) -> None:
    run(folder, "--yes")
    capsys.readouterr()
    assert call(["output", "last", "End", "controller"]) == 0
    assert capsys.readouterr() == ("out\n", "err \x1b[31mred\n")
    assert call(["output", "last", "3", "controller", "--stderr"]) == 0
    assert capsys.readouterr() == ("err \x1b[31mred\n", "")
    assert call(["output", "last", "3", "controller", "--json"]) == 0
    both = objects(capsys.readouterr().out)
    assert [found["stream"] for found in both] == ["stdout", "stderr"]
    assert call(["output", "last", "3"]) == 0
    assert "  out\n  stderr| err red\n" in capsys.readouterr().out


def test_output_of_one_of_several_is_asked_for_as_it_is_shown(
    folder: Path, capsys: Capture
) -> None:
    head = "opskit: 1\nname: each\nversion: 1.0.0\nsummary: a test\nhosts: all\nsteps:\n"
    step = (
        "  - {name: Each, run: 'echo {{ item }}', for_each: [a, b], on: controller, effect: read}"
    )
    (folder / "each.yaml").write_text(f"{head}{step}\n")
    assert call(["run", "./each.yaml", "--yes"]) == 0
    capsys.readouterr()
    for step, said in (("each", "a\nb\n"), ("Each #2", "b\n"), ("1 Each #1", "a\n")):
        assert call(["output", "last", step, "controller"]) == 0
        assert capsys.readouterr().out == said


def test_output_that_is_no_text_comes_whole_in_json(folder: Path, capsys: Capture) -> None:
    (folder / "bytes.yaml").write_text(
        RUNBOOK.replace("name: local", "name: bytes").replace("'out\\\\n'", "'a\\\\377b'")
    )
    assert call(["run", "./bytes.yaml", "-p", f"folder={folder}", "--yes"]) == 0
    capsys.readouterr()
    for where in (["controller"], ["--diff"]):
        assert call(["output", "last", "3", *where, "--json"]) == 0
        out, err = objects(capsys.readouterr().out)
        assert (out["stream"], out["text"]) == ("stdout", "a\ufffdb")
        assert base64.b64decode(out["base64"]) == b"a\xffb"
        assert (err["stream"], "base64" in err) == ("stderr", False)


def test_a_step_that_printed_nothing_says_so(folder: Path, capsys: Capture) -> None:
    run(folder, "--yes")
    capsys.readouterr()
    assert call(["output", "last", "2", "controller"]) == 0
    assert capsys.readouterr() == ("", "step 2 printed nothing on controller\n")


def test_output_of_what_is_not_there_says_what_is(folder: Path, capsys: Capture) -> None:
    run(folder, "--yes")
    capsys.readouterr()
    assert call(["output", "last", "nothing", "controller"]) == 2
    assert "steps on controller: 1 " in capsys.readouterr().err
    assert call(["output", "last", "End", "web9"]) == 2
    assert "hosts: " in capsys.readouterr().err
    assert call(["output", "last", "nothing"]) == 2


def test_an_edited_record_is_found(folder: Path, capsys: Capture) -> None:
    import sqlite3
    from contextlib import closing

    run(folder, "--yes")
    capsys.readouterr()
    with closing(sqlite3.connect(folder / "store.db")) as store:
        names = [row[0] for row in store.execute(
            "select name from sqlite_master where type = 'trigger'")]  # fmt: skip
        for name in names:
            store.execute(f"drop trigger {name}")
        store.execute("delete from events where number = 3")
        store.commit()
    assert call(["audit", "verify"]) == 1
    assert "entry" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["run"], "missing argument 'RUNBOOK'", "`opskit list` shows what there is"),
        (["undo"], "missing argument 'RUN'", "give the id of a run, or `last`"),
        (["output", "last"], "missing argument 'STEP'", "by number or name"),
        (["retry", "last"], "missing option '--hosts'", "failed, unknown, undone, not-started"),
        (["exec", "all"], "missing argument 'WORDS...'", "as in: opskit exec web -- uptime"),
        (["run", "local", "--reason"], "option '--reason' requires", "opskit run --help"),
        (["run", "local", "--limit", "a", "--limit", "b"], "--limit is given twice", "with commas"),
        (["lab", "up", "--data", "a", "--data", "b"], "--data is given twice", "with commas"),
        (["hello"], "no command 'hello'", "opskit run RUNBOOK"),
        (["run", "lokal"], "there is no runbook 'lokal'", "did you mean local?"),
        (["run", "x"], "there is no runbook 'x'", "`opskit list`"),
        (["run", "hosts.yaml"], "this is an inventory, not a runbook", "-i hosts.yaml"),
        (["run", "local", "-i", "runbooks/local.yaml"], "this is a runbook", "opskit run runbooks"),
        (["run", "local", "-i", "prod"], "there is no inventory 'prod'", "with -i FILE"),
        (["run", "local", "-i", "lab/inventory.yaml"], "no inventory", "opskit lab up --dir lab"),
        (["plan", "local", "-p", "folder=x", "--from", "9"], "no step '9'", "1 Look; 2 Write"),
        (["exec", "two", "--", "id"], "no host or group 'two'", "(hosts: one)"),
    ],
)
def test_a_wrong_word_is_told_with_what_to_write(
    folder: Path, capsys: Capture, words: list[str], what: str, hint: str
) -> None:
    assert call(words) == 2
    told, _, next_ = capsys.readouterr().err.partition("\n  → ")
    assert what in told
    assert hint in told + next_
    assert not (folder / "store.db").exists() or call(["runs"]) == 0


def test_a_wrong_folder_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(["run", "hello"]) == 2
    assert f"there is no opskit.yaml in {tmp_path} or above" in capsys.readouterr().err


def test_a_broken_runbook_is_listed_as_one(folder: Path, capsys: Capture) -> None:
    (folder / "runbooks" / "bad.yaml").write_text("opskit: 1\nname: {")
    assert call(["list"]) == 0
    assert "broken: `opskit lint bad` says where" in capsys.readouterr().out
    assert call(["lint", "bad"]) == 2
    assert "bad.yaml:3:1: error: not YAML" in capsys.readouterr().out


def test_a_runbook_may_be_named_by_its_path_without_ending(folder: Path, capsys: Capture) -> None:
    assert call(["show", "runbooks/local"]) == 0
    assert "if a host fails, everything is undone" in capsys.readouterr().out


def test_undo_after_a_look_around_names_the_run_before_it(folder: Path, capsys: Capture) -> None:
    run(folder, "--yes")
    found = record.load_run(configuration.settings(), "last")
    store = audit.open(configuration.settings().store)
    plan = store.plan(found.id)
    store.create(plan, kind="exec", who="me", origin="here", documents={}).close()
    store.close()
    capsys.readouterr()
    assert call(["undo", "last", "--yes"]) == 2
    told = capsys.readouterr().err
    assert "(exec) did nothing that can be taken back" in told
    assert f"the last runbook was local 1.0.0: `opskit undo {found.id}`" in told


def test_a_refused_dry_run_says_what_the_host_said(folder: Path, capsys: Capture) -> None:
    (folder / "runbooks" / "local.yaml").write_text(
        RUNBOOK.replace("    effect: read\n", "    effect: read\n    phase: preflight\n").replace(
            "    run: test ! -e {{ folder }}/word || cat {{ folder }}/word",
            "    run: echo no room in {{ folder }} >&2; exit 1",
        )
    )
    assert call(["plan", "local", "-p", f"folder={folder}"]) == 5
    shown = capsys.readouterr().out
    assert f"no room in {folder}" in shown
    assert "A run would be refused: controller: Look: exit status 1" in shown


def test_an_undo_is_foreseen_with_what_the_run_saved(folder: Path) -> None:
    (folder / "runbooks" / "local.yaml").write_text(
        RUNBOOK.replace("{{ folder }}/word\n  - name: End", "{{ folder }}/word\n"
                        "        when: not before\n"
                        "      - run: printf '%s\\n' {{ before }} > {{ folder }}/word\n"
                        "        when: before\n"
                        "  - name: End")
    )  # fmt: skip
    (folder / "word").write_text("it's old\n")
    run(folder, "--yes")
    found = record.load_run(configuration.settings(), "last")
    plan = record.plan_of(configuration.settings(), found.id)
    back = foreseen(reverse(plan, found.actions), found)
    shown = text(back, Look(undoing=True))
    assert "Undo of local 1.0.0" in shown
    assert "$ printf '%s\\n' 'it'\"'\"'s old' > " in shown
    assert "rm -f" not in shown
    assert "undetermined" not in shown


def test_undo_counts_what_it_takes_back(folder: Path, capsys: Capture) -> None:
    run(folder, "--yes")
    capsys.readouterr()
    assert call(["undo", "last"]) == 2
    assert "this takes back 1 change on one (hosts.yaml), and" in capsys.readouterr().err


def test_lint_ends_with_2_when_something_is_wrong(folder: Path, capsys: Capture) -> None:
    assert call(["lint"]) == 0
    (folder / "runbooks" / "bad.yaml").write_text("opskit: 1\nname: bad\nsteps: []\n")
    assert call(["lint", "runbooks"]) == 2
    assert "bad.yaml:3:" in capsys.readouterr().out
    assert call(["lint", "runbooks", "--json"]) == 2
    *found, count = objects(capsys.readouterr().out)
    assert found
    assert all(row["kind"] == "problem" for row in found)
    assert (count["kind"], count["errors"]) == ("linted", len(found))
    (folder / "runbooks" / "bad.yaml").unlink()
    assert call(["lint", "runbooks", "--json"]) == 0
    (count,) = objects(capsys.readouterr().out)
    assert count == {"kind": "linted", "files": 1, "errors": 0, "warnings": 0}


def test_list_and_show_describe_runbooks(folder: Path, capsys: Capture) -> None:
    assert call(["list"]) == 0
    assert "Something on this machine alone" in capsys.readouterr().out
    assert call(["show", "local"]) == 0
    told = capsys.readouterr().out
    assert "  -p word=STRING  what to write (default hello)" in told
    assert "     2 change  Write (run) · undo: 1" in told


def test_init_makes_an_example_without_problems_and_overwrites_nothing(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(["init", "new"]) == 0
    told = capsys.readouterr().out
    assert told.count("\n  opskit ") == 3
    before = {p: p.read_bytes() for p in (folder / "new").rglob("*") if p.is_file()}
    assert len(before) == 5
    assert call(["init", "new"]) == 2
    assert before == {p: p.read_bytes() for p in (folder / "new").rglob("*") if p.is_file()}
    monkeypatch.chdir(folder / "new")
    capsys.readouterr()
    assert call(["lint", "--strict", "runbooks"]) == 0
    assert capsys.readouterr().out == "No problems in 1 file.\n"


def test_the_schema_of_the_example_accepts_the_example(folder: Path) -> None:
    import jsonschema
    import yaml

    assert call(["init", "new"]) == 0
    schema = json.loads((folder / "new" / "runbook.schema.json").read_text())
    jsonschema.validate(yaml.safe_load((folder / "new/runbooks/hello.yaml").read_text()), schema)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(folder: Path, capsys: Capture, shell: str) -> None:
    assert call(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_OPSKIT_COMPLETE" in script
    assert script.count("2>/dev/null)") == 1


def completed(folder: Path, line: str) -> list[str]:
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "opskit"], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "_OPSKIT_COMPLETE": "bash_complete", "COMP_WORDS": line,
             "COMP_CWORD": str(len(words) - 1)}, cwd=folder,
    )  # fmt: skip
    assert done.stderr == ""
    return [row.partition(",")[2] for row in done.stdout.splitlines() if row]


@pytest.mark.acceptance
def test_names_are_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert completed(folder, "opskit st") == ["status", "store"]
    assert "local" in completed(folder, "opskit run ")
    assert completed(folder, "opskit run local -p wo") == ["word="]
    assert completed(folder, "opskit run local --limit a --limit b --re") == ["--reason"]
    assert completed(folder, "opskit exec o") == ["one"]
    assert completed(folder, "opskit exec all:!o") == ["all:!one"]
    assert completed(folder, "opskit status la") == ["last"]
    run(folder, "--yes")
    assert completed(folder, "opskit run local --from ") == ["1", "2", "3"]
    undo = completed(folder, "opskit undo last --hosts ")
    assert "done" in undo
    assert "not-started" not in undo
    assert completed(folder, "opskit output last ") == ["1", "2", "2u1", "3"]
    assert completed(folder, "opskit output last 2 c") == ["controller"]
    assert completed(folder, "opskit retry last --hosts failed,un") == [
        "failed,unreachable", "failed,unknown", "failed,undone",
    ]  # fmt: skip


def test_a_real_bash_completes_with_the_script(folder: Path, capsys: Capture) -> None:
    assert call(["completion", "bash"]) == 0
    (folder / "script").write_text(capsys.readouterr().out)
    (folder / "bin").mkdir()
    program = folder / "bin" / "opskit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m opskit "$@"\n')
    program.chmod(0o755)
    typed = """
        . ./script
        COMP_WORDS=(opskit run loc) COMP_CWORD=2
        _opskit_completion opskit
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", typed], cwd=folder, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}",
             "PYTHONPATH": str(Path(__file__).parents[2])}, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("local\n", "")


@pytest.mark.acceptance
def test_completion_is_silent_where_everything_is_broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (folder / "opskit.yaml").write_text("\t{")
    (folder / "hosts.yaml").write_text("{")
    for line in ("opskit run ", "opskit exec w", "opskit status x", "opskit run nothing -p "):
        assert completed(folder, line) == []


def test_a_closed_pipe_does_not_end_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words = ["run", "local", "-p", f"folder={folder}", "--yes"]
    child = subprocess.Popen(
        [sys.executable, "-m", "opskit", *words], cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(60) == 0
    assert (folder / "word").read_text() == "hello\n"


def detached(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    every = ["run", "local", "-p", f"folder={folder}", "--yes", "--detach", *words]
    return subprocess.run(
        [sys.executable, "-m", "opskit", *every], cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_run_can_go_on_without_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = detached(folder, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = objects(done.stdout)
    assert [line["event"] for line in told] == ["detached"]
    end = time.monotonic() + 30
    while call(["status", told[0]["run"], "--json"]) == 130:
        assert time.monotonic() < end
        time.sleep(0.1)
    last = objects(capsys.readouterr().out)[-1]
    assert (last["run"], last["state"]) == (told[0]["run"], "succeeded")
    assert (folder / "word").read_text() == "hello\n"


def test_a_detached_run_that_is_refused_says_so_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = detached(folder, "--store", str(folder))
    assert (done.returncode, done.stdout) == (5, "")
    assert "nothing was sent anywhere" in done.stderr


def test_the_next_commands_name_the_store_that_was_given(folder: Path, capsys: Capture) -> None:
    run(folder, "--yes", "-p", "code=7", "--store", "other store.db")
    told = capsys.readouterr().out.partition("Next:\n")[2]
    assert told
    assert all("--store 'other store.db'" in line for line in told.splitlines())


REFUSED = """\
opskit: 1
name: check
version: 1.0.0
summary: A preflight that fails
params:
  patience: {type: duration, default: 90s}
hosts: all
steps:
  - name: Look
    run: echo first; echo 'the disk is full' >&2; exit {{ 3 if patience else 4 }}
    phase: preflight
    effect: read
    on: controller
  - name: Change
    run: "true"
    on: controller
    undo: []
"""


def test_a_plan_says_why_a_run_would_be_refused_and_seconds_as_such(
    folder: Path, capsys: Capture
) -> None:
    (folder / "check.yaml").write_text(REFUSED)
    assert call(["plan", "./check.yaml"]) == 5
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == (
        "A run would be refused: controller: Look: exit status 3: the disk is full"
    )
    assert "  patience   1m30s\n" in told


def test_to_abort_a_run_that_changed_nothing_leaves_nothing(folder: Path, capsys: Capture) -> None:
    asking = REFUSED.replace("name: check", "name: ask").replace("exit {{", "true {{")
    asking = asking.replace(
        "  - name: Ch", "  - {name: Sure, confirm: 'Sure?', on: controller}\n  - name: Ch"
    )
    (folder / "ask.yaml").write_text(asking)
    assert call(["run", "./ask.yaml", "--yes"]) == 4
    assert call(["abort", "last"]) == 0
    assert call(["status", "last"]) == 5


def test_a_run_that_was_taken_back_is_not_told_to_have_done_nothing(
    folder: Path, capsys: Capture
) -> None:
    run(folder, "--yes")
    assert call(["undo", "last", "--yes"]) == 0
    capsys.readouterr()
    assert call(["undo", "last", "--yes"]) == 2
    assert "(local 1.0.0) was taken back already" in capsys.readouterr().err


def test_an_incident_has_no_run_that_was_refused_among_what_changed(folder: Path) -> None:
    run(folder, "--yes")
    gate = "    effect: read\n    phase: preflight\n"
    shut = RUNBOOK.replace("    effect: read\n", gate).replace(
        "run: test ! -e", "run: exit 1; test ! -e"
    )
    (folder / "runbooks" / "local.yaml").write_text(shut)
    assert run(folder, "--yes") == 5
    (folder / "runbooks" / "local.yaml").write_text(RUNBOOK)
    run(folder, "--yes")
    found = incident(configuration.settings(), "last", 3600)
    assert [one.run.state for one in found.before] == ["succeeded"]


def test_a_change_of_a_server_is_asked_for_by_the_name_of_that_server(
    folder: Path, capsys: Capture
) -> None:
    (folder / "hosts.yaml").write_text(f"{INVENTORY}redis:\n  main: {{url: 'redis://db1'}}\n")
    steps = "steps:\n  - {name: Set, redis: SET a b}\n"
    (folder / "set.yaml").write_text(
        f"opskit: 1\nname: set\nversion: 1.0.0\nsummary: s\nhosts: all\n{steps}"
    )
    assert call(["run", "./set.yaml"]) == 2
    assert "this makes 1 change on redis:main (hosts.yaml), and" in capsys.readouterr().err


def test_a_service_without_a_port_has_its_checks_too(folder: Path, capsys: Capture) -> None:
    service = "services:\n  s: {hosts: all, checks: [{label: a, run: 'echo 1', warn: '> 2'}]}\n"
    (folder / "hosts.yaml").write_text(INVENTORY + service)
    words = ["health-check", "-p", "on=all", "-p", "servers=false", "--no-reads"]
    assert call(["plan", *words]) == 0
    assert "echo 1" in capsys.readouterr().out


def test_a_plan_names_the_server_that_is_away_and_not_the_hosts_that_are_there(
    folder: Path, capsys: Capture
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens here
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}"
        (folder / "hosts.yaml").write_text(f"{INVENTORY}redis:\n  main: {{url: '{url}'}}\n")
        steps = "steps:\n  - {name: Get, redis: GET a, effect: read, phase: preflight}\n"
        (folder / "get.yaml").write_text(
            f"opskit: 1\nname: get\nversion: 1.0.0\nsummary: s\nhosts: all\n{steps}"
        )
        assert call(["plan", "./get.yaml"]) == 5
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("A run would be refused: redis:main: unreachable: redis main: ")
    assert "Connection refused" in last
    assert "more" not in last
