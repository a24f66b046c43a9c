"""The command line before any command: help, names, speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from opskit.cli.root import SECTIONS, root

HEAVY = {"fabric", "paramiko", "yaml", "jinja2", "rich", "httpx", "sqlite3", "json", "logging"}
SHOW = "import sys; from opskit.cli.root import call; call(['--help']); print(*sys.modules)"
UNTIL_DIALLING = """
import os, socket, sys
def dial(*_words, **_named):
    print(*sys.modules, flush=True)
    os._exit(0)
socket.getaddrinfo = dial
from opskit.cli import main
main()
"""
SELDOM = {"tarfile", "ctypes", "httpx", "opskit.drivers.upload", "opskit.drivers.rejoin",
          "opskit.drivers.local", "opskit.audit.verify", "opskit.view.live", "opskit.view.plan",
          "opskit.cli.plan", "opskit.lab", "opskit.load.schemas", "opskit.render.sql",
          "opskit.render.shell", "psycopg", "asyncio"}  # fmt: skip


def opskit(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "opskit", *words],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_help_loads_click_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "click" in loaded
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.startswith("opskit.")}
    assert ours == {"opskit.cli", "opskit.cli.root", "opskit.cli.group", "opskit.errors",
                    "opskit.cli.screen", "opskit.view", "opskit.view.paint", "opskit.model",
                    "opskit.model.frozen"}  # fmt: skip


def test_a_plain_run_loads_nothing_that_most_runs_do_without(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "opskit: 1\nname: one\nversion: 1.0.0\nsummary: s\nhosts: all\n"
        "steps:\n  - {name: s, run: /bin/true, effect: read}\n"
    )
    (tmp_path / "hosts.yaml").write_text("opskit: 1\nhosts:\n  h: {address: 127.0.0.1}\n")
    words = ["run", "one.yaml", "-i", "hosts.yaml", "--yes", "--no-live", "--store", "s.db"]
    done = subprocess.run(
        [sys.executable, "-c", UNTIL_DIALLING, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"fabric", "opskit.drivers.command"} <= loaded
    assert not loaded & SELDOM


def test_to_look_at_runs_loads_nothing_of_what_makes_or_carries_out_one(tmp_path: Path) -> None:
    looks = "import sys; from opskit.cli.root import call; call(['runs']); call(['status']); "
    done = subprocess.run(
        [sys.executable, "-c", f"{looks}print(*sys.modules)"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "OPSKIT_STORE": str(tmp_path / "s.db")},
    )  # fmt: skip
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"opskit.app.record", "opskit.view.summary", "sqlite3"} <= loaded
    heavy = {"opskit.load", "opskit.plan.make", "opskit.execute", "opskit.drivers", "yaml"}
    assert not loaded & (heavy | SELDOM | {"fabric", "jinja2"})


def test_all_that_was_said_arrives_and_the_status_with_it() -> None:
    said = opskit("--help")
    assert (said.returncode, said.stdout.endswith("\n")) == (0, True)
    assert "completion" in said.stdout
    assert opskit("show", "no-such-runbook").returncode == 2


def test_every_command_can_be_loaded_and_explains_itself() -> None:
    context = click.Context(root)
    for entries in SECTIONS.values():
        for name in entries:
            command = root.get_command(context, name)
            assert isinstance(command, click.Command)
            assert command.get_short_help_str()


def leaves(command: click.Command, context: click.Context) -> list[click.Command]:
    if not isinstance(command, click.Group):
        return [command]
    found = [command.get_command(context, name) for name in command.list_commands(context)]
    return [leaf for one in found if one is not None for leaf in leaves(one, context)]


@pytest.mark.parametrize("name", [n for part in SECTIONS.values() for n in part if n != "lab"])
def test_every_command_takes_json_inventory_and_store(name: str) -> None:
    context = click.Context(root)
    command = root.get_command(context, name)
    assert command is not None
    for leaf in leaves(command, context):
        flags = {flag for param in leaf.params for flag in param.opts}
        assert flags >= {"--json", "--inventory", "-i", "--store"}, leaf.name


def test_commands_of_the_next_release_are_not_listed() -> None:
    text = opskit("--help").stdout
    for word in ("approve", "worker", "console"):
        assert f"  {word} " not in text


def test_a_wrong_command_names_the_nearest() -> None:
    done = opskit("satus")
    assert done.returncode == 2
    assert "no command 'satus'; did you mean 'status'?" in done.stderr


@pytest.mark.parametrize("words", [(), ("audit",), ("hosts",)])
def test_a_group_alone_shows_its_help(words: tuple[str, ...]) -> None:
    done = opskit(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: opskit")
    assert "error" not in done.stderr.lower().split("options:")[0]


def test_a_wrong_option_is_bad_usage() -> None:
    done = opskit("list", "--nothing")
    assert done.returncode == 2
    assert "--nothing" in done.stderr
    assert "→ opskit list --help shows how it is used" in done.stderr


def test_errors_are_json_for_programs() -> None:
    done = opskit("show", "no-such-runbook", "--json")
    assert done.returncode == 2
    error = json.loads(done.stderr)
    assert error["event"] == "error"
    assert error["exit"] == 2
    assert "no-such-runbook" in error["what"]
