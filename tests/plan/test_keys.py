"""Sets of keys in a plan: where they are removed, what takes that back, how it is shown."""

from pathlib import Path

from opskit.model.codec import canonical, from_json, parse, to_json
from opskit.model.keys import Keys
from opskit.model.plan import Plan
from opskit.model.work import RedisLook
from opskit.plan.redis import marked
from opskit.view import works
from tests.plan.test_redis import plan

REMOVE = (
    "  - keys: {do: remove, server: main, pattern: 'team:{{ x }}:*', allow: ['team:'],"
    " max_keys: 5}\n"
)


def removal(made: Plan) -> Keys:
    work = made.actions[-1].work
    assert isinstance(work, Keys)
    return work


def test_a_removal_is_looked_at_before_and_taken_back_at_its_server(tmp_path: Path) -> None:
    made = plan(tmp_path, REMOVE, x="a*[b]")
    look, remove = made.actions
    assert look.work == RedisLook(server="main", spread=True)
    assert (remove.key, remove.host, remove.target) == ("1/>redis:main", "", "redis:main")
    assert removal(made).pattern == r"team:a\*\[b\]:*"
    (undo,) = remove.undo
    assert isinstance(undo.work, Keys)
    assert (undo.target, undo.undoes, undo.last) == ("redis:main", remove.key, True)
    assert (undo.work.do, undo.work.of) == ("restore", remove.key)
    assert marked(made) == {"main"}
    assert list(made.redis) == ["main"]


def test_a_look_marks_nothing(tmp_path: Path) -> None:
    made = plan(tmp_path, REMOVE.replace("do: remove", "do: show"))
    assert [action.undo for action in made.actions] == [()]
    assert made.stages["1"].effect == "read"
    assert marked(made) == frozenset()


def test_what_is_left_out_for_certain_leaves_no_mark(tmp_path: Path) -> None:
    made = plan(tmp_path, f"{REMOVE}    when: x != 'show'\n", x="show")
    assert [action.key for action in made.actions] == ["1/>redis:main"]
    assert marked(made) == frozenset()


def test_where_no_values_are_kept_there_is_no_undo_and_the_plan_says_so(tmp_path: Path) -> None:
    made = plan(tmp_path, REMOVE.replace("max_keys: 5", "max_keys: 5, archive: false"), x="7")
    assert made.actions[-1].undo == ()
    assert marked(made) == {"main"}
    assert works.lines(removal(made))[-1] == (
        "THERE IS NO UNDO: names are kept, and no values (archive: false)"
    )
    assert from_json(Plan, parse(canonical(to_json(made)))) == made


def test_a_plan_with_keys_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    made = plan(tmp_path, REMOVE)
    assert from_json(Plan, parse(canonical(to_json(made)))) == made


def test_what_is_removed_is_shown(tmp_path: Path) -> None:
    made = plan(tmp_path, REMOVE, x="7")
    assert works.lines(removal(made)) == [
        "remove every key that fits team:7:*", "at most 5 keys · at most 20 % of all",
    ]  # fmt: skip
    keys = ", ".join(f"'team:{n}'" for n in range(12))
    exact = (
        f"  - keys: {{do: remove, server: main, keys: [{keys}], allow: ['team:'], override: x}}\n"
    )
    shown = works.lines(removal(plan(tmp_path, exact)))
    assert shown[0] == "remove the keys that are there of:"
    assert shown[-2:] == ["  … 5 more keys (--full shows them)", "no matter how many, because: x"]
    assert works.lines(made.actions[-1].undo[0].work)[0].startswith("put the keys back")
