"""What every store promises when a process dies or a store is used by several at once."""

import random
import signal
import time

import pytest

from opskit import audit
from opskit.audit import Store
from tests.contract.samples import python

APPEND_AND_TELL = """
import sys
from opskit import audit
from opskit.model.event import Event
from tests.contract import samples
journal = samples.begin(audit.open(sys.argv[1]), locks=())
print(journal.run, flush=True)
number = 0
while number < int(sys.argv[2]):
    number += 1
    sink = journal.output("1/web1", "web1", number)
    sink.write("stdout", b"line %d\\n" % number * 200)
    where = {"key": "1/web1", "host": "web1", "attempt": number}
    data = {"outcome": "succeeded", **sink.close()}
    journal.append(Event(kind="step started", **where), wait=False)
    journal.append(Event(kind="step ended", data=data, **where))
    print(number, flush=True)
journal.close()
"""

OPEN_AND_RUN = """
import sys
from opskit import audit
from tests.contract import samples
sys.stdin.readline()
store = audit.open(sys.argv[1])
for turn in range(int(sys.argv[2])):
    with samples.begin(store, locks=()) as journal:
        for host in samples.HOSTS:
            journal.append(samples.started(host))
            journal.append(samples.ended(host))
        journal.append(samples.finished())
store.close()
"""


@pytest.mark.parametrize("seed", range(3))
def test_every_append_that_had_returned_is_there_after_kill_9(
    store: Store, location: str, seed: int
) -> None:
    process = python(APPEND_AND_TELL, location, "100000")
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    time.sleep(random.Random(seed).uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    told = process.communicate(timeout=30)[0].split()

    assert store.verify() == []
    outcomes = [e.event.attempt for e in store.entries(run) if e.event.kind == "step ended"]
    assert outcomes == list(range(1, len(outcomes) + 1))
    assert len(outcomes) >= len(told)
    for number in (1, len(told) // 2, len(told)):
        if number > 0 and told:
            expected = b"line %d\n" % number * 200
            assert b"".join(store.output(run, "1/web1", number, "stdout")) == expected


def test_several_processes_use_one_store_at_once(location: str) -> None:
    processes = [python(OPEN_AND_RUN, location, "5") for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)

    store = audit.open(location)
    runs = store.runs(limit=100)
    findings = store.verify()
    store.close()
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sorted(run.number for run in runs) == list(range(1, 21))
    assert {run.state for run in runs} == {"succeeded"}
    assert findings == []
