"""A lock has one name however that is named which it is for."""

import re
from pathlib import Path

import pytest

from opskit import load
from opskit.plan.make import make
from tests.support.world import no_files

HOSTS = (
    "opskit: 1\nhosts:\n  c1: 10.0.0.7\n  c2: 10.0.0.8\n"
    "  n1: {address: 127.0.0.1, connection: {port: 2222}}\n"
)
BOOK = (
    "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\nhosts: c1\n"
    "params: {database: {default: ''}, server: {default: ''}}\n"
)
ACTS = "steps:\n  - {name: a, run: a}\n"
QUEUE = "lock: queue {{ server }}\n"
ROWS = "lock: rows {{ database }}\n"


def locks(folder: Path, book: str, inventory: str, **given: str) -> tuple[str, ...]:
    (folder / "t.yaml").write_text(BOOK + book)
    (folder / "i.yaml").write_text(HOSTS + inventory)
    runbook = load.runbook(folder / "t.yaml", [])
    given = {"database": "", "server": "", **given}
    return make(runbook, load.inventory(folder / "i.yaml"), given, files=no_files).locks


def redis(**urls: str) -> str:
    return "redis:\n" + "".join(f"  {name}: {{{url}}}\n" for name, url in urls.items())


def databases(**urls: str) -> str:
    return "databases:\n" + "".join(f"  {name}: {{{url}}}\n" for name, url in urls.items())


def test_the_only_server_or_database_is_called_so_in_a_lock_where_none_is_named(
    tmp_path: Path,
) -> None:
    one = redis(cache="url: 'redis://c1'") + databases(main="url: 'postgresql://app@c1/app'")
    for given in ({}, {"server": "cache"}, {"database": "main"}):
        assert locks(tmp_path, QUEUE + ACTS, one, **given) == ("queue cache",)
        assert locks(tmp_path, ROWS + ACTS, one, **given) == ("rows main",)
    both = "lock: '{{ server or database }} of {{ database | upper }}'\n"
    assert locks(tmp_path, both + ACTS, one) == ("cache of MAIN",)
    several = redis(cache="url: 'redis://c1'", broker="url: 'redis://c2'")
    assert locks(tmp_path, QUEUE + ACTS, several, server="broker") == ("queue broker",)
    assert locks(tmp_path, QUEUE + ACTS, several) == ("queue ",)
    assert locks(tmp_path, QUEUE + ACTS, "", server="else") == ("queue else",)


def test_the_lock_of_an_include_is_called_the_same(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(BOOK.replace("name: t", "name: inner") + QUEUE + ACTS)
    one = redis(cache="url: 'redis://c1'")
    for with_ in ("", ", with: {server: '{{ server }}'}", ", with: {server: cache}"):
        steps = f"steps:\n  - {{name: i, runbook: {{name: inner{with_}}}}}\n"
        assert locks(tmp_path, steps, one) == ("queue cache",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("url: 'redis://c1:6379/0'", "url: 'redis://C1'"),
        ("url: 'rediss://c1/1'", "url: 'redis://c1:6379/1', role: master"),
        ("url: 'redis://localhost'", "url: 'redis://127.0.0.1'"),
        ("url: 'redis://[::1]'", "url: 'redis://127.0.0.1'"),
        ("url: 'redis://localhost', via: c1", "url: 'redis://10.0.0.7'"),
        ("url: 'redis://10.0.0.7', via: c1", "url: 'redis://localhost', via: c1"),
        ("url: 'redis://cache', via: c1", "url: 'redis://cache', via: c1"),
        ("url: 'redis://localhost', via: n1", "url: 'redis://127.0.0.1', via: n1"),
    ],
)
def test_two_names_of_one_server_share_their_locks(tmp_path: Path, one: str, other: str) -> None:
    both = redis(far="url: 'redis://c2'", one=one, other=other)
    assert locks(tmp_path, QUEUE + ACTS, both, server="one") == ("queue one", "queue other")
    assert locks(tmp_path, QUEUE + ACTS, both, server="other") == ("queue other", "queue one")
    assert locks(tmp_path, QUEUE + ACTS, both, server="far") == ("queue far",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("url: 'redis://c1/0'", "url: 'redis://c1/1'"),
        ("url: 'redis://c1:6379'", "url: 'redis://c1:6380'"),
        ("url: 'redis://127.0.0.2'", "url: 'redis://127.0.0.3'"),
        ("url: 'redis://localhost', via: c1", "url: 'redis://localhost', via: c2"),
        ("url: 'redis://localhost', via: n1", "url: 'redis://localhost'"),
        ("url: 'redis://cache', via: c1", "url: 'redis://cache', via: c2"),
    ],
)
def test_servers_that_are_not_known_to_be_one_do_not(tmp_path: Path, one: str, other: str) -> None:
    both = redis(one=one, other=other)
    assert locks(tmp_path, QUEUE + ACTS, both, server="one") == ("queue one",)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql://app@c1/app", "postgres://owner@C1:5432/app?sslmode=require", True),
        ("postgresql://a@h1,h2:6000/app", "postgresql://a@h2:6000/app", True),
        ("postgresql://a@%2Fvar%2Frun/app", "postgresql:///app?host=/var/run&user=b", True),
        ("postgresql://a@c1/x?dbname=app&port=5433", "postgresql://a@c1:5433/app", True),
        ("postgresql://a@h1,h2/app?port=6000", "postgresql://a@h2:6000/app", True),
        ("postgresql://a@c1/b%20c", "postgresql://a@c1/b c", True),
        ("postgresql://a@c1/app", "postgresql://a@c1/other", False),
        ("postgresql://a@h1,h2:6000/app", "postgresql://a@h1:6000/app", False),
        ("postgresql://a@c1/app", "postgresql://a@/app?host=/var/run", False),
    ],
)
def test_two_names_of_one_database_share_their_locks(
    tmp_path: Path, one: str, other: str, same: bool
) -> None:
    both = databases(one=f"url: '{one}'", other=f"url: '{other}'")
    found = locks(tmp_path, ROWS + ACTS, both, database="one")
    assert found == (("rows one", "rows other") if same else ("rows one",))


def test_what_ships_locks_by_names_that_mean_one_thing() -> None:
    found = {}
    for path in (Path(__file__).parents[2] / "runbooks").glob("*.yaml"):
        if lock := re.search(r"^lock: (.*)", path.read_text(), re.MULTILINE):
            found[path.stem] = set(re.findall(r"{{ *(.*?) *}}", lock[1]))
    assert found.pop("postgres-restart") == {"on"}  # it refuses all but the host's own name
    assert set().union(*found.values()) == {"database", "server"}
