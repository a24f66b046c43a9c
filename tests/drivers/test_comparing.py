"""What is expected and what is there → findings, as values; no server."""

from dataclasses import replace

import pytest

from opskit.drivers.postgres.catalog import (
    Actual,
    Collation,
    Facts,
    ForeignKey,
    Relation,
    Routine,
    Width,
)
from opskit.drivers.postgres.comparing import compare, matchers, refusals, resolved
from opskit.drivers.postgres.findings import Found, Weighed, told, weighed, worst
from opskit.drivers.postgres.meaning import NONE
from opskit.model.expected import Expected, Function, Index
from opskit.model.expected import Relation as Wanted

MONTH = 30 * 86400.0
SOUND = Actual(
    oid=10, relation=1, name="item_a", text=None,
    valid=True, unique=False, constraint=False, identity=False, child=False, pages=2,
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


def found(*indexes: Actual, wanted: Wanted = WANTED, **more: object) -> list[tuple[str, str]]:
    made = facts(replace(ITEM, indexes=indexes), **more)
    everything = compared(Expected(relations=(wanted,)), made)
    return [(one.check, one.name) for one in everything]


def compared(expected: Expected, made: Facts) -> list[Found]:
    return list(compare(expected, made, matchers(expected, made, resolved(expected, made)), NONE))


def refused(expected: Expected, made: Facts) -> list[str]:
    return refusals(expected, resolved(expected, made))


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


def test_an_idle_index_is_told_of_unless_it_enforces_something() -> None:
    idle = frozenset([10])
    assert found(SOUND) == []
    assert found(SOUND, idle=idle, counted=MONTH) == [("unused", "item_a")]
    assert found(SOUND._replace(identity=True), idle=idle) == []
    assert found(SOUND._replace(valid=False), idle=idle) == [("invalid", "item_a")]


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


def test_a_table_of_several_schemas_is_refused_until_one_is_named() -> None:
    twice = facts(ITEM, replace(ITEM, oid=2, schema="old"))
    (why,) = refused(Expected(relations=(WANTED,)), twice)
    assert "item: it is in several schemas (old, public)" in why
    named = Expected(relations=(replace(WANTED, name="public.item"),))
    assert refused(named, twice) == []
    assert compared(named, twice) == []


@pytest.mark.parametrize(("kind", "word"), [("v", "a view"), ("m", "a materialized view")])
def test_another_kind_of_relation_is_no_table(kind: str, word: str) -> None:
    other = facts(replace(ITEM, kind=kind))
    told = [f"item: it is {word}, and a table is expected"]
    assert refused(Expected(relations=(WANTED,)), other) == told


def test_a_table_that_is_not_there_is_refused_and_a_view_is_missed() -> None:
    gone = Expected(relations=(replace(WANTED, name="gone"), Wanted(name="v", view=True)))
    assert refused(gone, facts(ITEM)) == ["gone: there is no such table"]
    (one,) = compared(Expected(relations=(Wanted(name="v", view=True),)), facts(ITEM))
    assert (one.check, one.text) == ("view", "there is no such materialized view")
    ordinary = facts(replace(ITEM, name="v", kind="v"))
    (one,) = compared(Expected(relations=(Wanted(name="v", view=True),)), ordinary)
    assert one.text == "it is a view, and a materialized view is expected"


def test_an_extension_that_is_not_there_is_told_of() -> None:
    wanted = Expected(relations=(WANTED,), extensions=("pg_trgm", "postgis"))
    there = facts(replace(ITEM, indexes=(SOUND,)), extensions=frozenset({"pg_trgm"}))
    assert [(one.check, one.name) for one in compared(wanted, there)] == [("extension", "postgis")]


def test_what_is_found_of_an_index_has_its_definition() -> None:
    wide = SOUND._replace(oid=11, name="wide", columns="2 1", width=2, classes="1978 1978",
                          collations="0 0", options="3 0")  # fmt: skip
    made = facts(replace(ITEM, indexes=[wide, SOUND._replace(oid=12, valid=False)]))
    wanted = Wanted(name="item", indexes=(Index(keys=("a",), where="b > 0", name="item_x"),))
    everything = compared(Expected(relations=(wanted,)), made)
    assert {(one.check, one.definition) for one in everything} == {
        ("missing", "(a) WHERE b > 0"), ("extra", "btree (b DESC, a)"), ("invalid", "btree (a)"),
    }  # fmt: skip


ROUTINE = Routine(True, ["f(integer)"], "public", "f", ["integer"], "json", "app", False, "stable")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"owner": "app", "security": "invoker", "volatility": "stable", "returns": "json"}, None),
        ({"owner": "root"}, "its owner is app, and root is expected"),
        ({"security": "definer"}, "it acts as its invoker, and definer is expected"),
        ({"volatility": "volatile"}, "it is declared stable, and volatile is expected"),
        ({"returns": "text"}, "it returns json, and text is expected"),
    ],
)
def test_a_function_is_what_is_expected_of_it(how: dict[str, str], told: str | None) -> None:
    wanted = Function(signature="f(integer)", **how)  # type: ignore[arg-type]
    expected = Expected(functions=("f(integer)",), traits=(wanted,))
    found = compared(expected, facts(functions={"f(integer)": ROUTINE}))
    assert [one.text for one in found] == ([told] if told else [])
    gone = compared(expected, facts(functions={"f(integer)": Routine(False, ["f(text)"])}))
    assert [one.text for one in gone] == [
        "there is no such function; of that name there is only f(text)"
    ]


MIB = 128
"""Pages."""
ENTRIES = 10 * MIB * 7344 // 20
"""As many of 20 bytes as ten MiB have, nine tenths full."""


@pytest.mark.parametrize(
    ("pages", "rows", "width", "weight"),
    [
        (10 * MIB, ENTRIES, Width(10, 4, 0, 90, 0.0), None),
        (19 * MIB, ENTRIES, Width(10, 4, 0, 90, 0.0), None),
        (21 * MIB, ENTRIES, Width(10, 4, 0, 90, 0.0), "WARN"),
        (41 * MIB, ENTRIES, Width(10, 4, 0, 90, 0.0), "WARN"),
        (1030 * MIB, ENTRIES, Width(10, 4, 0, 90, 0.0), "CRIT"),
        (1030 * MIB, 30 * ENTRIES, Width(10, 4, 0, 90, 0.0), "WARN"),
        (9 * MIB, 1, Width(10, 4, 0, 90, 0.0), None),
        (21 * MIB, ENTRIES, Width(10, 4, 1, 90, 0.0), "INFO"),
        (21 * MIB, ENTRIES, Width(10, 4, 0, 90, 0.5), "INFO"),
        (21 * MIB, ENTRIES, Width(10, 4, 0, 40, 0.0), None),
        (21 * MIB, -1, None, "INFO"),
    ],
)
def test_an_index_that_is_mostly_air_is_told_of_where_that_can_be_told(
    pages: int, rows: float, width: Width | None, weight: str | None
) -> None:
    one = SOUND._replace(pages=pages, rows=rows)
    made = facts(replace(ITEM, indexes=[one]), widths={10: width} if width else {})
    found = compared(Expected(relations=(WANTED,)), made)
    assert [(f.check, f.weight) for f in found] == ([("bloat", weight)] if weight else [])


@pytest.mark.parametrize(
    ("collation", "level"),
    [
        (Collation("de", "2.28", "2.36"), "CRIT"), (Collation("de", "2.28", None), "CRIT"),
        (Collation("de", None, "2.36"), "INFO"), (Collation("de", "2.36", "2.36"), None),
        (Collation("C", None, None), None),
    ],
)  # fmt: skip
def test_a_collation_that_orders_otherwise_now_is_told_of_with_its_indexes(
    collation: Collation, level: str | None
) -> None:
    one = SOUND._replace(collations="77")
    wanted = Wanted(name="item", indexes=(Index(keys=(f'a COLLATE "{collation.name}"',)),))
    made = facts(replace(ITEM, indexes=[one]), collations={"77": collation})
    found = weighed(compared(Expected(relations=(wanted,)), made), (), ())
    assert [(w.level, w.found.check) for w in found] == ([(level, "collation")] if level else [])
    assert all("item_a" in w.found.text for w in found)


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
