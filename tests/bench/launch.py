"""Runs a command as a whole process and says what it took: launch.py OUTPUT WORD …

A program of its own, and a small one: Linux counts the largest memory of whoever started a process
as that of the process itself, so what a large program starts seems to be at least as large.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def _main(path: str, words: list[str]) -> None:
    with Path(path).open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    took = {"wall": wall, "cpu": cpu, "memory": usage.ru_maxrss / 1024}
    print(json.dumps({"code": process.returncode, "took": took}))


_main(sys.argv[1], sys.argv[2:])
