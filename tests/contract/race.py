"""Processes that want the same thing at the same moment."""

import subprocess
from collections.abc import Sequence


def one_wins(processes: Sequence["subprocess.Popen[str]"], times: int) -> None:
    """Let all of them begin at once, so many times; each time one must win. End them.

    Each says "ready" first, "won" or "refused" to each "begin", and "done" to the "end" of the one
    that has won.
    """
    try:
        assert {_answer(process) for process in processes} == {"ready"}
        for _ in range(times):
            for process in processes:
                _say(process, "begin")
            answers = [_answer(process) for process in processes]
            assert sorted(answers) == ["refused"] * (len(processes) - 1) + ["won"]
            for process, answer in zip(processes, answers, strict=True):
                _say(process, "end")
                assert answer == "refused" or _answer(process) == "done"
    finally:
        for process in processes:
            process.communicate(timeout=30)


def _say(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
