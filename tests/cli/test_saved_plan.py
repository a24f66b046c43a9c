"""A plan that was saved is held to: whatever has changed since is named, and nothing is done."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.cli.root import call

BOOK = """\
opskit: 1
name: book
version: 1.0.0
summary: a test
params: {word: {default: w}, file: {type: file}}
hosts: web
batches: [1, 1]
steps:
  - {name: put, upload: {src: '{{ file }}', dest: /tmp/put}}
  - {name: text, template: {src: t.conf, dest: /tmp/text}, timeout: 1m}
  - {name: within, runbook: {name: inner}}
  - {name: say, run: 'echo {{ word }} {{ vars.zone }}', secrets: {TOKEN: token}}
"""
INNER = "opskit: 1\nname: inner\nversion: 1.0.0\nsummary: a test\nsteps:\n  - run: echo inner\n"
HOSTS = """\
opskit: 1
vars: {zone: z1}
connection: {port: 1}
hosts: {web1: {address: 127.0.0.1}, web2: {address: 127.0.0.2}}
groups: {web: [web1, web2]}
secrets: {token: 'env:TOKEN'}
"""
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A folder with a saved plan; gives what runs it once more with further words."""
    for name in ("book.yaml", "inner.yaml", "i.yaml", "t.conf", "a.bin"):
        (tmp_path / name).write_text(
            {"book.yaml": BOOK, "inner.yaml": INNER, "i.yaml": HOSTS}.get(name, "some text\n")
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPSKIT_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("TOKEN", "a-secret-of-some-length")
    words = ["book.yaml", "-i", "i.yaml", "-p", "file=a.bin"]
    assert call(["plan", *words, "--no-reads", "-o", "saved.json"]) == 0

    def again(*more: str, word: str = "w") -> int:
        return call(["run", *words, "-p", f"word={word}", "--plan", "saved.json", "--yes", *more])

    return again


def edit(name: str, old: str, new: str) -> None:
    path = Path(name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


CHANGES = {
    "a step of it": ("book.yaml", "echo {{", "echo x{{", "file book.yaml has changed"),
    "a rule of a step": ("book.yaml", "timeout: 1m", "timeout: 2m", "book.yaml has changed"),
    "a new step": ("book.yaml", "steps:\n", "steps:\n  - wait: 1s\n", "actions are new"),
    "the batches": ("book.yaml", "[1, 1]", "[2]", "batches of 1, 1 hosts are now of 2"),
    "the version": ("book.yaml", "1.0.0", "1.0.1", "version '1.0.0' is now '1.0.1'"),
    "the lock": ("book.yaml", "hosts: web", "hosts: web\nlock: x", "locks () is now ('x',)"),
    "the budget": ("book.yaml", "hosts:", "max_failures: 1\nhosts:", "max_failures 0 is now 1"),
    "the failing": ("book.yaml", "steps:", "on_failure: undo\nsteps:", "on_failure 'stop'"),
    "a runbook within": ("inner.yaml", "echo inner", "echo other", "inner.yaml has changed"),
    "a template": ("t.conf", "some", "other", "actions are changed ('text' on web1)"),
    "a file to put there": ("a.bin", "some", "other", "a.bin has changed"),
    "an address": ("i.yaml", ".0.0.2", ".0.0.3", "host web2 has changed"),
    "a host more": ("i.yaml", "[web1, web2]", "[web1]", "host web2 is gone"),
    "a variable": ("i.yaml", "zone: z1", "zone: z2", "host web1 has changed"),
    "where a secret is": ("i.yaml", "env:TOKEN", "env:OTHER", "secret token has changed"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_since_is_named_and_nothing_is_done(
    run: Run, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, old, new, said = CHANGES[what]
    edit(name, old, new)
    assert run() == 5
    told = capsys.readouterr().err
    assert "saved.json: the plan has changed since it was saved: " in told
    assert said in told
    assert "save it again with -o" in told
    assert not Path("store.db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit", "web1"), "host web2 is gone"),
        (("--from", "say"), "actions are gone ('put' on web1)"),
    ],
)
def test_other_words_make_another_plan(
    run: Run, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 5
    assert said in capsys.readouterr().err
    assert run(word="other") == 5
    assert "parameter word has changed" in capsys.readouterr().err


def test_a_change_that_is_taken_back_is_none(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    edit("book.yaml", "echo", "echo x")
    edit("book.yaml", "echo x", "echo")
    assert run() == 5, "as nobody listens there: every host is unreachable, and that alone counts"
    assert "has changed" not in capsys.readouterr().err


def spoilt(text: str) -> dict[str, str]:
    """Return a saved plan as somebody may have edited it, or as a full disk may have left it."""
    data = json.loads(text)
    dearer = {**data, "max_failures": 2}
    other = {**data, "actions": data["actions"][1:]}
    sealed = {**data, "digest": "0" * 64}
    return {
        "a number": json.dumps(dearer),
        "an action less": json.dumps(other),
        "the digest": json.dumps(sealed),
        "a text": text.replace("echo ", "reboot #", 1),
        "cut short": text[: len(text) // 2],
        "empty": "",
        "no plan": "[]",
        "a list as a type": text.replace('"type":"Upload"', '"type":[]', 1),
        "a key more": json.dumps({**data, "more": 1}),
        "deep": "[" * 100_000,
        "no text": "\udcff",
    }


@pytest.mark.parametrize("how", spoilt('{"actions": []}').keys())
def test_a_plan_that_was_edited_or_damaged_is_refused(
    run: Run, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("saved.json")
    path.write_bytes(spoilt(path.read_text())[how].encode("utf-8", "surrogateescape"))
    assert run() == 2
    told = capsys.readouterr().err
    assert "error: saved.json: " in told
    assert "this plan was edited" in told or "no plan can be read from it" in told
    assert "  → " in told
    assert not Path("store.db").exists()
