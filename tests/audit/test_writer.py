"""One thread writes what has gathered, in order, and stops at the first failure."""

import threading
import time
from collections.abc import Sequence

import pytest

from opskit.audit.writer import Writer
from opskit.errors import StoreError


class Disk:
    """Takes batches; can be made slow or to fail at one of them."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.fail_at = fail_at
        self.open = threading.Event()
        self.open.set()

    def commit(self, items: Sequence[int]) -> None:
        self.open.wait(timeout=30)
        if len(self.batches) == self.fail_at:
            raise StoreError("the disk is on fire", where="/disk", hint="run")
        self.batches.append(list(items))

    def written(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


def test_what_gathers_while_it_writes_goes_into_one_batch() -> None:
    disk = Disk()
    writer = Writer(disk.commit, limit=1000, name="w")
    disk.open.clear()
    tickets = [writer.put([n], 1) for n in range(50)]
    disk.open.set()
    writer.wait(tickets[-1])
    writer.close()

    assert disk.written() == list(range(50))
    assert len(disk.batches) <= 2


def test_waiting_ends_only_when_the_batch_is_written() -> None:
    disk = Disk()
    writer = Writer(disk.commit, limit=1000, name="w")
    disk.open.clear()
    done = threading.Event()

    def wait() -> None:
        writer.wait(writer.put([1], 1))
        done.set()

    threading.Thread(target=wait).start()
    assert not done.wait(0.05)
    disk.open.set()
    assert done.wait(10)
    assert disk.batches == [[1]]
    writer.close()


def test_more_than_the_limit_makes_the_caller_wait() -> None:
    disk = Disk()
    writer = Writer(disk.commit, limit=100, name="w")
    disk.open.clear()
    through: list[int] = []

    def put() -> None:
        for n in range(10):
            writer.put([n], 60)
            through.append(n)

    thread = threading.Thread(target=put)
    thread.start()
    time.sleep(0.05)
    assert len(through) == 2
    disk.open.set()
    thread.join(timeout=10)
    writer.close()
    assert disk.written() == list(range(10))


def test_after_a_failure_everyone_is_told_and_nothing_more_is_written() -> None:
    disk = Disk(fail_at=1)
    writer = Writer(disk.commit, limit=1000, name="w")
    writer.wait(writer.put([1], 1))
    for _ in range(2):
        with pytest.raises(StoreError, match="on fire") as raised:
            writer.wait(writer.put([2], 1))
        assert (raised.value.where, raised.value.hint) == ("/disk", "run")
    with pytest.raises(StoreError, match="on fire"):
        writer.close()

    assert disk.batches == [[1]]


def test_those_who_wait_for_room_are_told_of_a_failure_too() -> None:
    disk = Disk(fail_at=0)
    writer = Writer(disk.commit, limit=10, name="w")
    disk.open.clear()
    writer.put([1], 100)
    told: list[StoreError] = []

    def put() -> None:
        try:
            writer.put([2], 1)
        except StoreError as error:
            told.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    time.sleep(0.02)
    disk.open.set()
    thread.join(timeout=10)
    assert len(told) == 1
    with pytest.raises(StoreError):
        writer.close()


def test_an_error_that_nobody_thought_of_is_told_as_well() -> None:
    def commit(items: Sequence[int]) -> None:
        raise ZeroDivisionError

    writer = Writer(commit, limit=10, name="w")
    with pytest.raises(StoreError, match="ZeroDivisionError"):
        writer.wait(writer.put([1], 1))


def test_nothing_can_be_put_after_the_end() -> None:
    writer = Writer(Disk().commit, limit=10, name="w")
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.put([1], 1)


def test_waiting_for_nothing_waits_for_what_is_before_it() -> None:
    disk = Disk()
    writer = Writer(disk.commit, limit=10, name="w")
    writer.put([1], 1)
    writer.wait(writer.put([], 0))
    assert disk.batches == [[1]]
    writer.close()
