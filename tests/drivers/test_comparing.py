"""What is expected and what is there → findings, as values; no server."""

from dataclasses import replace

import pytest

from opskit.drivers.postgres.catalog import Actual, Facts, ForeignKey, Relation
from opskit.drivers.postgres.comparing import compare, matchers
from opskit.drivers.postgres.findings import Found, Weighed, told, weighed, worst
from opskit.drivers.postgres.meaning import NONE
from opskit.model.expected import Expected, Index
from opskit.model.expected import Relation as Wanted

MONTH = 30 * 86400.0
SOUND = Actual(
    oid=10, relation=1, name="item_a", text=None,
    valid=True, unique=False, constraint=False, identity=False, child=False, scans=5, pages=2,
    columns="1", classes="1978", collations="0", options="0", width=1, expressions=None,
    where=None, method="btree", nulls_distinct=True,
)  # fmt: skip
ITEM = Relation(
    oid=1, schema="public", name="item", kind="r", populated=True,
    columns=[["a", 1, 23, -1, 0], ["b", 2, 23, -1, 0]], indexes=[SOUND],
)  # fmt: skip
WANTED = Wanted(name="item", indexes=(Index(keys=("a",), name="item_a"),))


def facts(*relations: Relation, **more: object) -> Facts:
    groups: dict[str, list[Relation]] = {}
    for one in relations:
        groups.setdefault(one.name, []).append(one)
    base = Facts(relations=groups, building=frozenset(), hidden=0, version=170000)
    return replace(base, **more)  # type: ignore[arg-type]


def found(
    *indexes: Actual, wanted: Wanted = WANTED, after: float = MONTH, **more: object
) -> list[tuple[str, str]]:
    made = facts(replace(ITEM, indexes=indexes), **more)
    everything = compared(Expected(relations=(wanted,)), made, after)
    return [(one.check, one.name) for one in everything]


def compared(expected: Expected, made: Facts, after: float = MONTH) -> list[Found]:
    return list(compare(expected, made, matchers(expected, made), NONE, after))


def test_what_is_as_expected_is_not_told_of() -> None:
    assert found(SOUND) == []


def test_a_build_that_runs_is_no_broken_index() -> None:
    broken = SOUND._replace(valid=False)
    assert found(broken) == [("invalid", "item_a")]
    assert found(broken, building=frozenset([1])) == [("building", "item_a")]
    assert found(broken, building=frozenset([2])) == [("invalid", "item_a")]


def test_a_build_that_the_role_can_not_see_makes_it_unknown() -> None:
    made = facts(replace(ITEM, indexes=[SOUND._replace(valid=False)]), hidden=1)
    (one,) = compared(Expected(relations=(WANTED,)), made)
    assert (one.check, one.unknown) == ("invalid", True)
    assert worst(weighed([one], (), ())) == "UNKNOWN"


def test_a_sound_index_is_taken_before_a_broken_one_of_the_expected_name() -> None:
    broken = SOUND._replace(valid=False)
    other = SOUND._replace(oid=11, name="other")
    assert found(broken, other) == [("name", "other"), ("invalid", "item_a")]


def test_a_leftover_is_one_only_while_nothing_is_built() -> None:
    left = SOUND._replace(oid=11, name="item_a_ccnew1", valid=False)
    assert found(SOUND, left) == [("leftover", "item_a_ccnew1")]
    assert found(SOUND, left, building=frozenset([1])) == [("building", "item_a_ccnew1")]
    assert found(SOUND, left._replace(valid=True)) == [("duplicate", "item_a_ccnew1")]


def test_of_twins_the_one_that_a_constraint_needs_is_kept() -> None:
    key = SOUND._replace(oid=12, name="item_pkey", unique=True, constraint=True)
    assert found(SOUND, key) == [("duplicate", "item_a")]
    other = SOUND._replace(oid=9, name="older")
    assert found(SOUND, other) == [("duplicate", "older")]


@pytest.mark.parametrize(
    "change",
    [{"classes": "3126"}, {"collations": "950"}, {"options": "3"}, {"where": "(b > 0)"},
     {"expressions": "lower(a)"}, {"method": "hash"}, {"columns": "1 2"}, {"valid": False}],
)  # fmt: skip
def test_what_differs_in_anything_is_no_duplicate(change: dict[str, object]) -> None:
    other = SOUND._replace(oid=11, name="other", **change)  # type: ignore[arg-type]
    assert ("duplicate", "other") not in found(SOUND, other)


def test_an_index_that_another_begins_with_is_told_of() -> None:
    wide = SOUND._replace(
        oid=11, name="wide", columns="1 2", classes="1978 1978", collations="0 0", options="0 0",
        width=2,
    )  # fmt: skip
    assert found(SOUND, wide) == [("prefix", "item_a"), ("extra", "wide")]
    descending = wide._replace(options="3 0")
    assert found(SOUND, descending) == [("extra", "wide")]
    assert found(SOUND._replace(unique=True), wide)[0] != ("prefix", "item_a")
    assert ("prefix", "item_a") not in found(SOUND, wide._replace(where="(b > 0)"))
    assert ("prefix", "item_a") not in found(SOUND, wide._replace(valid=False))


def test_only_what_was_counted_for_long_is_unused() -> None:
    idle = SOUND._replace(scans=0)
    assert found(idle, counted=MONTH - 1) == []
    assert found(idle, counted=MONTH) == [("unused", "item_a")]
    assert found(idle._replace(identity=True), counted=MONTH) == []


def test_an_index_leads_to_a_foreign_key_in_any_order_and_not_by_half() -> None:
    key = ForeignKey(1, "item_b_fkey", [2, 1], "other", "public", True)
    wide = SOUND._replace(
        columns="1 2", width=2,
        classes="1978 1978", collations="0 0", options="0 0",
    )  # fmt: skip
    wanted = Wanted(name="item", indexes=(Index(keys=("a", "b"), name="item_a"),))

    def keys(index: Actual) -> list[str]:
        made = facts(replace(ITEM, indexes=[index], foreign_keys=[key]))
        everything = compared(Expected(relations=(wanted,)), made)
        return [one.check for one in everything if one.name == "item_b_fkey"]

    assert keys(wide) == []
    assert keys(wide._replace(width=1)) == ["foreign_key_index"]
    assert keys(wide._replace(where="(a > 0)")) == ["foreign_key_index"]
    assert keys(wide._replace(valid=False)) == ["foreign_key_index"]


def test_what_is_accepted_is_not_told_of() -> None:
    extra = SOUND._replace(oid=11, name="other", columns="2")
    assert found(SOUND, extra) == [("extra", "other")]
    assert found(SOUND, extra, wanted=replace(WANTED, accept=("other",))) == []


def test_a_table_of_several_schemas_is_unknown_until_one_is_named() -> None:
    twice = facts(ITEM, replace(ITEM, oid=2, schema="old"))
    (one,) = compared(Expected(relations=(WANTED,)), twice)
    assert (one.unknown, one.check) == (True, "table")
    assert "old, public" in one.text
    named = Expected(relations=(replace(WANTED, name="public.item"),))
    assert compared(named, twice) == []


@pytest.mark.parametrize(("kind", "word"), [("v", "a view"), ("m", "a materialized view")])
def test_another_kind_of_relation_is_no_table(kind: str, word: str) -> None:
    other = facts(replace(ITEM, kind=kind))
    (one,) = compared(Expected(relations=(WANTED,)), other)
    assert (one.check, one.text) == ("table", f"it is {word}, and a table is expected")


@pytest.mark.parametrize(("version", "bad"), [(130023, 0), (140000, 1), (140003, 1), (140004, 0)])
def test_servers_that_build_indexes_with_rows_missing_are_named(version: int, bad: int) -> None:
    made = compared(Expected(relations=(WANTED,)), facts(ITEM, version=version))
    assert [one.check for one in made] == ["server"] * bad


def test_the_worst_counts_and_weights_are_data() -> None:
    some = [Found(check="extra", text="x"), Found(check="unused", text="y")]
    assert worst(weighed(some, (), ())) == "WARN"
    assert worst(weighed(some, ("extra",), ())) == "OK"
    assert worst(weighed(some, (), [("unused", "CRIT")])) == "CRIT"
    unknown = Found(check="unused", text="?", unknown=True)
    assert worst(weighed([*some, unknown], (), ())) == "UNKNOWN"
    assert worst([]) == "OK"


def test_one_line_says_how_it_is() -> None:
    bad = [Weighed(level="CRIT", found=Found(check="missing", table="item", text="no (a)"))]
    assert told(bad, "main", "1 index") == "CRIT main: 1 CRIT (1 index); item: no (a)"
    assert told([], "main", "1 index") == "OK main: as expected (1 index)"
