"""Pieces of index definitions: what they are, and what is none."""

import pytest

from opskit.render.definitions import (
    DefinitionError,
    IndexKey,
    canonical,
    definition,
    index_key,
    relation_name,
)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("total_points", IndexKey(expression="total_points")),
        ("Total_Points", IndexKey(expression="total_points")),
        ('"Total"', IndexKey(expression='"Total"')),
        ('"timestamp" asc', IndexKey(expression="timestamp")),
        ("a DESC", IndexKey(expression="a", descending=True, nulls_first=True)),
        ("a DESC NULLS LAST", IndexKey(expression="a", descending=True)),
        ("a NULLS FIRST", IndexKey(expression="a", nulls_first=True)),
        ('a COLLATE "C"', IndexKey(expression="a", collation="C")),
        ('a COLLATE pg_catalog."C" text_ops DESC NULLS LAST',
         IndexKey(expression="a", collation="C", operators="text_ops", descending=True)),
        ("a varchar_pattern_ops", IndexKey(expression="a", operators="text_pattern_ops")),
        ("lower(email)", IndexKey(expression="lower ( email )")),
        ("now()", IndexKey(expression="now ( )")),
        ("s.f(a, b) x.my_ops", IndexKey(expression="s . f ( a , b )", operators="my_ops")),
        ("((a || b)) text_ops", IndexKey(expression="a || b", operators="text_ops")),
        ("(m->>'k')", IndexKey(expression="m ->> 'k'")),
        ("((m ->> 'k'::text))", IndexKey(expression="m ->> 'k' :: text")),
        ("((a COLLATE \"C\"))", IndexKey(expression='a collate "C"')),
    ],
)  # fmt: skip
def test_a_key_is_an_expression_and_its_order(text: str, key: IndexKey) -> None:
    assert index_key(text) == key


@pytest.mark.parametrize(
    "text",
    ["a || b", "a; b", "a)", "(a", "", "  ", "a -- b", "/* a */ b", "'a", '"a', "$$a", "$1",
     "f(a) || b", "a b c d", "(a) (b)", "a[1", "(a]"],
)  # fmt: skip
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        index_key(text)


def test_a_definition_is_read_as_the_server_writes_it() -> None:
    found = definition(
        "CREATE UNIQUE INDEX x ON public.t USING btree (lower(email) text_pattern_ops, name COLLATE"
        ' "C" DESC) INCLUDE (amount, "Big") NULLS NOT DISTINCT WITH (fillfactor=\'70\')'
        " WHERE (status = 'a, (b'::text)"
    )
    assert (found.method, found.unique, found.nulls_distinct) == ("btree", True, False)
    assert [key.operators or key.collation for key in found.keys] == ["text_pattern_ops", "C"]
    assert found.include == ("amount", '"Big"')
    assert found.where == "status = 'a, (b' :: text"


def test_names_and_space_do_not_count_and_texts_do() -> None:
    assert canonical("( Status='Open' )") == canonical("status = 'Open'")
    assert canonical("status = 'Open'") != canonical("status = 'open'")


def test_a_relation_has_a_schema_or_none() -> None:
    assert relation_name('audit."Log"') == ("audit", "Log")
    assert relation_name("Item") == ("", "item")
    for wrong in ("a.b.c", "a b", "a.", "f(x)", "'a'"):
        with pytest.raises(DefinitionError):
            relation_name(wrong)
