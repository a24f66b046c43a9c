"""A script that only reads comes through a pipe: nothing is written on the host for it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from opskit.drivers.session import quote, shim

SHELLS = (("dash",), ("bash", "--posix"), ("busybox", "sh"))


def read(shell: tuple[str, ...], folder: Path, script: str, *args: str, stdin: str = "") -> str:
    """Let a shell's shim run a script as a read; return what it and the shim said."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} here")
    words = ("", "1" if stdin else "0", stdin, "script", script, "1", "NAME=v v", *args)
    lines = f"_o_hello 'a' 'b' ''\n_o mark _o_read {' '.join(map(quote, words))}\n"
    done = subprocess.run(
        shell,
        input=shim() + lines.encode(),
        capture_output=True,
        timeout=30,
        check=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)},
    )
    return (done.stdout + done.stderr).decode()


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('#!/bin/sh\nprintf "%s|" "$@" "$NAME"; cat\n', "x y|-z|v v|in\n"),
        ('#! /bin/sh -u \nprintf "%s|" "$@" "$-"\n', "x y|-z|u|"),
        ('#!/usr/bin/env -S sh -eu\nprintf "%s|" "$@"\nfalse\necho no\n', "x y|-z|"),
        ('printf "%s|" "$@"', "x y|-z|"),
        ("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:], sys.stdin.read())\n", "['x y', "),
    ],
    ids=["sh", "one argument", "env -S", "no first line", "python"],
)
def test_a_script_has_its_interpreter_its_arguments_and_its_input(
    shell: tuple[str, ...], tmp_path: Path, script: str, said: str
) -> None:
    assert said in read(shell, tmp_path, script, "x y", "-z", stdin="in\n")
    assert list(tmp_path.iterdir()) == []


def test_its_exit_status_counts_and_a_long_one_need_not_be_read_to_its_end(
    shell: tuple[str, ...], tmp_path: Path
) -> None:
    long = "#!/bin/sh\nexit 7\n" + "# nothing more is read\n" * 50_000
    assert "mark 1 7 " in read(shell, tmp_path, long)
    assert "mark 1 127 " in read(shell, tmp_path, "#!/no/such/interpreter\n")
    assert list(tmp_path.iterdir()) == []
