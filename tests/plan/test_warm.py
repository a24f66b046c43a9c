"""Filling a cache in a plan: where it is done, what takes that back, how it is shown."""

from pathlib import Path

import pytest

from opskit.errors import InputError
from opskit.model.codec import canonical, from_json, parse, to_json
from opskit.model.plan import Plan
from opskit.model.warm import Warm
from opskit.model.work import RedisLook
from opskit.plan.redis import marked
from opskit.view import works
from tests.plan.test_redis import plan

FILL = (
    "  - warm: {do: fill, server: main, file: rows.jsonl, ttl: 1h, allow: ['{{ x }}:'],"
    " key: '{{ x }}:{id}'}\n"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "value": "a"}\n')
    return tmp_path


def written(made: Plan) -> Warm:
    work = made.actions[-1].work
    assert isinstance(work, Warm)
    return work


def test_a_fill_is_looked_at_before_and_taken_back_at_its_server(place: Path) -> None:
    made = plan(place, FILL, x="team")
    look, fill = made.actions
    assert look.work == RedisLook(server="main")
    assert (fill.key, fill.target) == ("1/>redis:main", "redis:main")
    source = written(made).source
    assert source is not None
    assert (source.key, source.value, source.ttl) == ("team:{id}", "{value}", "3600.0")
    assert (source.size, source.sha256) == (3, "0" * 64), "as the plan has seen the file"
    (undo,) = fill.undo
    assert isinstance(undo.work, Warm)
    assert (undo.target, undo.undoes, undo.work.of) == ("redis:main", fill.key, fill.key)
    assert undo.work.do == "restore"
    assert marked(made) == {"main"}
    assert from_json(Plan, parse(canonical(to_json(made)))) == made


def test_a_look_marks_nothing(place: Path) -> None:
    for do in ("do: show", "do: hits"):
        step = FILL.replace("do: fill", do)
        if "hits" in do:
            step = "  - warm: {do: hits, server: main, window: 1m, crit: 70}\n"
        made = plan(place, step, x="team")
        assert [action.undo for action in made.actions] == [()]
        assert made.stages["1"].effect == "read"
        assert marked(made) == frozenset()
    assert works.lines(written(made)) == ["count lookups for 1m", "under 70 % fails"]


def test_lookups_are_counted_for_no_longer_than_the_step_takes(place: Path) -> None:
    step = "  - warm: {do: hits, server: main, window: 5m}\n    timeout: 5m\n"
    with pytest.raises(InputError, match="a window of 5m does not fit into 5m"):
        plan(place, step, x="team")


def test_what_is_written_is_shown(place: Path) -> None:
    step = FILL.replace("fill,", "refresh, keep_old: false, rate: 500, digest: abc,")
    shown = works.lines(written(plan(place, step, x="team")))
    assert shown[0].startswith(f"write the rows of {place}/rows.jsonl (3 B, sha256 ")
    assert shown[1] == "each as team:{id} = {value}, for 1h"
    assert shown[2].split(" · ") == [
        "only under team:", "at most 100000 keys", "10% longer or shorter, by lot",
        "500 keys a second, fewer where it slows others down", "what is overwritten is NOT kept",
        "only if their digest is abc",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ttl: ''", "`ttl` came to ''"),
        ("ttl: 0", "`ttl` came to '0'"),
        ("ttl: '{{ x | replace(x, \"\") }}'", "`ttl` came to nothing: keys would stay for ever"),
        ("ttl: '{{ x | replace(x, 0) }}'", "`ttl` came to 0"),
        ("ttl: 1h, jitter: 1", "`jitter` came to 1"),
        ("ttl: 1h, rate: '{{ x }}'", "`rate` came to 'team'"),
        ("ttl: 1h, max_wait: 2h", "`max_wait` came to 7200"),
        ("ttl: 1h, max_memory: 101", "`max_memory` came to 101"),
        ("ttl: 1h, evidence: here", "'here' is no whole path"),
    ],
)
def test_what_could_not_be_meant_is_refused(place: Path, words: str, told: str) -> None:
    step = FILL.replace("ttl: 1h", words)
    with pytest.raises(InputError, match=told.replace("'", ".")):
        plan(place, step, x="team")
    with pytest.raises(InputError, match="is the same for each row"):
        plan(place, FILL.replace("{id}", "id"), x="team")


GONE = "  - keys: {do: remove, server: main, pattern: 'team:*', allow: ['team:']%s}\n"


@pytest.mark.parametrize(
    ("more", "begins", "refused"),
    [
        ("", "team", True),
        ("", "team:detail", True),
        ("", "leaderboard", False),
        (", max_keys: 100", "team", False),
        (", override: nobody is there at night", "team", False),
    ],
)
def test_a_cache_is_not_emptied_to_be_filled_then(
    place: Path, more: str, begins: str, *, refused: bool
) -> None:
    if refused:
        with pytest.raises(InputError, match="a stampede") as error:
            plan(place, GONE % more + FILL, x=begins)
        assert "do: refresh" in str(error.value.hint)
        plan(place, FILL + GONE % more, x=begins)  # the other way round he knows why
    else:
        plan(place, GONE % more + FILL, x=begins)


def test_what_is_filled_with_other_keys_or_only_by_an_undo_is_no_stampede(place: Path) -> None:
    wide = FILL.replace("allow: ['", "allow: ['team:', '")
    with pytest.raises(InputError, match="a stampede"):
        plan(place, GONE % "" + wide, x="team")
    plan(place, GONE % "" + wide, x="board")
    other = f"  - run: 'true'\n    on: controller\n    undo:\n    {FILL}"
    made = plan(place, GONE % "" + other, x="team")
    assert [isinstance(undo.work, Warm) for undo in made.actions[-1].undo] == [True]
