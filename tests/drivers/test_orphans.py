"""Leftovers of reads are seen whoever adopts orphans: the first process, or one between."""

import os
import subprocess
import sys

import pytest

from opskit.drivers.session import quote, shim
from tests.drivers.kit import SHELLS

pytestmark = pytest.mark.acceptance

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER

LEAVES = "setsid sleep 1 9>&- & echo x"
CLEAN = "setsid sleep 1 >/dev/null 2>&1 9>&- & echo x; sleep 0.1"
REQUESTS = "".join(
    f"_o M{number} _o_read '' 0 '' sh {quote(text)} 0\n"
    for number, text in enumerate([CLEAN, LEAVES, "echo y"])
)
SCRIPT = shim() + b"_o_hello a b ''\n" + REQUESTS.encode()


def answers(words: tuple[str, ...]) -> list[str]:
    done = subprocess.run(words, input=SCRIPT, capture_output=True, check=True, timeout=30)
    lines = done.stdout.decode().splitlines()
    return [line.split(" ", 2)[2] for line in lines if line.startswith("M")]


@pytest.mark.parametrize("shell", list(SHELLS))
def test_below_the_first_process(shell: str) -> None:
    assert answers(SHELLS[shell]) == ["0 clean", "0 dirty", "0 clean"]


@pytest.mark.parametrize("shell", list(SHELLS))
def test_below_a_process_that_adopts(shell: str) -> None:
    code = (
        "import ctypes, subprocess, sys, signal; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    )
    words = (sys.executable, "-S", "-E", "-c", code, *SHELLS[shell])
    assert answers(words) == ["0 clean", "0 dirty", "0 clean"]


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of its own need root")
@pytest.mark.parametrize("shell", list(SHELLS))
def test_in_a_process_tree_of_its_own(shell: str) -> None:
    words = ("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh")
    tried = subprocess.run((*words, "true"), capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("no namespaces here")
    assert answers((*words, *SHELLS[shell])) == ["0 clean", "0 dirty", "0 clean"]
