"""What every store promises about outputs, and about secrets in all that it keeps."""

import base64
import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opskit.audit import Journal, Store
from opskit.errors import InputError
from opskit.model.event import Event
from opskit.model.value import Secret
from tests.contract.samples import begin, ended, finished, started, tell_everywhere, waiting

SECRET = Secret("token", "s3cr3t-Pa$$word!&x")


def kept(store: Store, journal: Journal, stream: str = "stdout", attempt: int = 1) -> bytes:
    return b"".join(store.output(journal.run, "1/web1", attempt, stream))  # type: ignore[arg-type]


def test_streams_and_attempts_are_kept_apart_byte_for_byte(store: Store) -> None:
    with begin(store) as journal:
        for attempt, word in ((1, b"one"), (2, b"two")):
            sink = journal.output("1/web1", "web1", attempt)
            sink.write("stdout", word + b" \x00\xff\r\n no newline")
            sink.write("stderr", b"err " + word)
            sink.write("stdout", b"")
            sink.close()
        journal.append(finished())

    assert kept(store, journal) == b"one \x00\xff\r\n no newline"
    assert kept(store, journal, attempt=2) == b"two \x00\xff\r\n no newline"
    assert kept(store, journal, "stderr") == b"err one"
    assert kept(store, journal, attempt=3) == b""


def test_closing_a_sink_tells_size_and_digest_of_what_is_kept(store: Store) -> None:
    with begin(store, secrets=(SECRET,)) as journal:
        sink = journal.output("1/web1", "web1", 1)
        sink.write("stdout", b"a s3cr3t-Pa$$word!&x b")
        told = sink.close()

        assert sink.close() == told

    stored = kept(store, journal)
    assert stored == b"a [secret] b"
    assert told == {
        "stdout": {
            "bytes": len(stored),
            "sha256": hashlib.sha256(stored).hexdigest(),
            "cut": False,
        }
    }


def test_a_command_that_printed_nothing_leaves_nothing(store: Store) -> None:
    with begin(store) as journal:
        assert journal.output("1/web1", "web1", 1).close() == {}


@pytest.mark.parametrize("size", [1, 131_071, 131_072, 131_073, 3_000_000])
def test_large_output_comes_back_whole(store: Store, size: int) -> None:
    data = (random.Random(size).randbytes(size // 2) + b"log line\n" * size)[:size]
    with begin(store) as journal:
        journal.append(started())
        sink = journal.output("1/web1", "web1", 1)
        for start in range(0, len(data), 32_768):
            sink.write("stdout", data[start : start + 32_768])
        journal.append(ended("web1", sink.close()), finished())

    assert kept(store, journal) == data
    assert store.verify(journal.run) == []


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 12))
def test_a_secret_is_masked_wherever_it_is_cut(store: Store, pieces: list[bytes], at: int) -> None:
    value = SECRET.reveal().encode()
    data = b"".join([*pieces[:at], value, base64.b64encode(b"ab" + value), *pieces[at:]])
    with begin(store, locks=(), secrets=(SECRET,)) as journal:
        sink = journal.output("1/web1", "web1", 1)
        for byte in range(0, len(data), 7):
            sink.write("stderr", data[byte : byte + 7])
        sink.close()

    stored = kept(store, journal, "stderr")
    assert value not in stored
    assert stored.count(b"[secret]") >= 2


def test_no_secret_is_recorded_whatever_it_stands_in(store: Store) -> None:
    run = tell_everywhere(store, SECRET)

    entries = list(store.entries(run))
    assert entries[0].event.data["reason"] == "it is [secret]"
    assert entries[2].event.data["deep"] == [{"it is [secret]": "it is [secret]"}]
    assert store.documents(run)["runbook"] == "# it is [secret]\n"
    assert "s3cr3t" not in repr(entries) + repr(store.load(run)) + repr(store.runs())
    assert store.verify() == []


def test_a_plan_that_shows_a_secret_is_refused_before_anything_is_recorded(store: Store) -> None:
    with pytest.raises(InputError, match="stands open in the plan") as raised:
        begin(store, secrets=(Secret("t", "readlink current"),))

    assert "readlink" not in str(raised.value)
    assert store.runs() == []


@pytest.mark.parametrize("value", ["short", "succeeded", "failed", "  ab  "])
def test_a_secret_that_is_a_plain_word_is_refused(store: Store, value: str) -> None:
    with pytest.raises(InputError, match="too short or too common"):
        begin(store, secrets=(Secret("t", value),))

    assert store.runs() == []


def test_a_line_of_a_secret_that_is_a_word_of_the_record_garbles_nothing(store: Store) -> None:
    secret = Secret("file", "first line\nsucceeded\nlast line\n")
    with begin(store, secrets=(secret,)) as journal:
        journal.append(started(), ended(saved={"x": "the last line"}), finished())

    run = store.load(journal.run)
    assert run.state == "succeeded"
    assert run.hosts["web1"] == "done"
    assert run.saved["web1"] == {"x": "the [secret]"}


def test_a_secret_that_the_run_fetches_is_hidden_from_then_on(store: Store) -> None:
    with begin(store) as journal:
        sink = journal.output("1/web1", "web1", 1)
        sink.write("stdout", b"before ")
        journal.hide(Secret("fetched", "v3ry-private"))
        sink.write("stdout", b"after v3ry-private")
        sink.close()
        journal.append(Event(kind="note", data={"text": "it is v3ry-private"}))

    assert kept(store, journal) == b"before after [secret]"
    assert list(store.entries(journal.run))[-1].event.data["text"] == "it is [secret]"


def test_the_output_of_a_step_that_saves_a_secret_is_not_kept(store: Store) -> None:
    with begin(store, secret_save=True) as journal:
        _print_secret(journal, 1)
        journal.append(waiting())
    with store.reopen(journal.run, who="bob", origin="desk") as again:
        _print_secret(again, 2)

    assert kept(store, journal) == b"[secret]"
    assert kept(store, journal, "stderr") == b"warning"
    assert kept(store, journal, attempt=2) == b"[secret]"
    assert store.verify(journal.run) == []


def _print_secret(journal: Journal, attempt: int) -> None:
    journal.append(replace(started(), attempt=attempt))
    sink = journal.output("1/web1", "web1", attempt)
    sink.write("stdout", b"v3ry-private")
    sink.write("stderr", b"warning")
    journal.append(replace(ended("web1", sink.close()), attempt=attempt))


def test_the_record_knows_whether_a_secret_is_still_the_same(store: Store) -> None:
    with begin(store, secrets=(SECRET,)) as journal:
        pass
    with begin(store, locks=()) as bare:
        pass

    assert store.secrets_match(journal.run, [Secret("token", SECRET.reveal())])
    assert store.secrets_match(journal.run, [SECRET, Secret("other", "something else")])
    assert not store.secrets_match(journal.run, [Secret("token", "another value")])
    assert not store.secrets_match(journal.run, [Secret("other", SECRET.reveal())])
    assert not store.secrets_match(journal.run, [])
    assert not store.secrets_match(journal.run, [], used=["token"])
    assert store.secrets_match(journal.run, [], used=["other"])
    assert store.secrets_match(bare.run, [])
