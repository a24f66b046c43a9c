"""SQL text: what is bound, what is refused, and how it is cut into statements."""

import pytest

from opskit.model.codec import from_json, to_json
from opskit.model.text import Bound, Fixed, Text
from opskit.render import TemplateError, fill, text
from opskit.render.bindings import neutral, sql_problems
from opskit.render.sql import control, judged, statements, writes

HOSTILE = [
    "$(id)", "'; DROP TABLE t; --", '"', "\\", "100%", "%s %(x)s $1", "a\nb", "é€🙂", "/* */", "",
    "x" * 65536,
]  # fmt: skip


def bound(template: str, **values: object) -> Text:
    return text(template, values, context="sql")


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_bound_and_never_part_of_the_text(value: str) -> None:
    made = bound("SELECT {{ x }}, 1", x=value)
    assert made.parts == (Fixed(text="SELECT "), Bound(value=value), Fixed(text=", 1"))


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (3, "3"), (2.5, "2.5"), (True, "true"), (None, None),
        ([1, 2], '{"1","2"}'), (["a'b", None, 'c"\\d'], '{"a\'b",NULL,"c\\"\\\\d"}'),
        ([[1], [2]], '{{"1"},{"2"}}'), ([], "{}"), ({"a": [1, None]}, '{"a": [1, null]}'),
    ],
)  # fmt: skip
def test_a_value_is_sent_as_text_that_the_server_reads(value: object, sent: str | None) -> None:
    assert bound("{{ x }}", x=value).parts == (Bound(value=sent),)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_late_value_is_bound_when_it_comes(value: str) -> None:
    made = text("SELECT {{ x }}", {}, frozenset({"x"}), "sql")
    assert made.late
    assert fill(made, {"x": value}).parts == (Fixed(text="SELECT "), Bound(value=value))


def test_a_loop_binds_each_of_its_values() -> None:
    listed = "{% for x in xs %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}"
    made = bound(f"SELECT {listed}", xs=["a", "'"])
    assert made.parts == (
        Fixed(text="SELECT "), Bound(value="a"), Fixed(text=", "), Bound(value="'")
    )  # fmt: skip


def test_what_is_shown_are_literals() -> None:
    assert str(bound("SELECT {{ x }}, {{ y }}", x="it's", y=None)) == "SELECT 'it''s', NULL"


def test_raw_stands_as_it_is_and_an_identifier_is_quoted() -> None:
    made = bound("SELECT {{ c | raw }} FROM {{ t | identifier }}", c="a, b", t='x"; DROP')
    assert made == Text(parts=(Fixed(text='SELECT a, b FROM "x""; DROP"'),))
    assert bound("{{ ['s', 't.u'] | identifier }}").fixed() == '"s"."t.u"'


def test_an_identifier_is_one_word_in_shell_text() -> None:
    made = text("echo {{ x | identifier }}", {"x": "$(id)"}, context="word").fixed()
    assert made == "echo '\"$(id)\"'"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ x | words }}", "= ANY"),
        ("{{ '' | identifier }}", "identifier"),
        ("{{ ('x' * 64) | identifier }}", "63 bytes"),
        ("{% filter upper %}{{ x }}{% endfilter %}", ""),
        ("{% set y %}{{ x }}{% endset %}{{ y }}", "NUL"),
        ("{{ missing }}", "missing"),
        ("{{ [missing] }}", "missing"),
    ],
)
def test_what_can_not_be_bound_is_refused(template: str, told: str) -> None:
    if told == "":
        assert bound(template, x="a").parts == (Bound(value="A"),)
        return
    with pytest.raises(TemplateError, match=told):
        bound(template, x="a")


@pytest.mark.parametrize("value", [None, "", "x'y", "ü"])
def test_a_bound_value_is_in_the_record_as_it_was(value: str | None) -> None:
    made = Text(parts=(Fixed(text="SELECT "), Bound(value=value)))
    assert from_json(Text, to_json(made)) == made
    alone = Text(parts=(Bound(value=value),))
    assert from_json(Text, to_json(alone)) == alone


def places(template: str) -> list[str]:
    return [problem.what for problem in sql_problems(template)]


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ("SELECT '{{ x }}'", "inside quotes"),
        ("SELECT E'\\'{{ x }}'", "inside quotes"),
        ("SELECT E'a'\n  'b\\'{{ x }}'", "inside quotes"),
        ('SELECT "{{ x }}"', "of a name"),
        ("SELECT 1 -- {{ x }}\n", "comment"),
        ("SELECT 1 /* /* */ {{ x }} */", "comment"),
        ("DO $$ {{ x }} $$", "inside $$"),
        ("DO $a$ $$ {{ x }} $a$", "inside $$"),
        ("SELECT t_{{ x }}", "part of a word"),
        ("SELECT {{ x }}5", "part of a word"),
        ("SELECT {{ x }}{{ y }}", "part of a word"),
        ("SELECT * FROM {{ x }}.t", "a name can't be bound"),
        ("SELECT * FROM t_{{ x | identifier }}", "part of a word"),
        ("SELECT $1, {{ x }}", "no value of this step"),
    ],
)
def test_an_expression_where_nothing_can_be_bound_is_a_problem(template: str, where: str) -> None:
    (found,) = set(places(template))
    assert where in found


@pytest.mark.parametrize(
    "template",
    [
        "SELECT {{ x }}", "SELECT {{ x }}::int", "SELECT '--' || {{ x }}", "SELECT a FROM t WHERE",
        "SELECT '' , {{ x }} /* ' */", "SELECT $$'$$, {{ x }}", "a = ANY({{ x }})",
        "({{ x }},{{ y }})",
        "SELECT 'it''s', {{ x }}", "SELECT s.{{ x | identifier }}.y", "'{{ x | raw }}'",
        "SELECT a$b, {{ x }}", "{% if x %}SELECT {{ x }}{% endif %}", "SELECT E'\\\\', {{ x }}",
    ],
)  # fmt: skip
def test_an_expression_where_it_is_bound_is_none(template: str) -> None:
    assert places(template) == []


ATOMIC = (
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END"
)


def split(text: str) -> list[str]:
    return [text[one.start : one.end].strip() for one in statements(text)]


@pytest.mark.parametrize(
    ("written", "cut"),
    [
        ("SELECT 1", ["SELECT 1"]),
        (" ; SELECT 1;; SELECT 2 ; -- end", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT \";\"", ["SELECT ';'", 'SELECT ";"']),
        ("SELECT E'\\';'; SELECT 2", ["SELECT E'\\';'", "SELECT 2"]),
        ("DO $x$ a; $$ b; $x$; SELECT 2", ["DO $x$ a; $$ b; $x$", "SELECT 2"]),
        ("/* ; /* ; */ ; */ SELECT 1", ["/* ; /* ; */ ; */ SELECT 1"]),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); SELECT 3",
         ["CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)", "SELECT 3"]),
        (f"{ATOMIC}; SELECT 3", [ATOMIC, "SELECT 3"]),
        ("-- a\r; SELECT 1", ["SELECT 1"]),
    ],
)  # fmt: skip
def test_a_text_is_cut_where_the_server_would_cut_it(written: str, cut: list[str]) -> None:
    assert split(written) == cut


@pytest.mark.parametrize(
    "text",
    [
        "SET TRANSACTION READ WRITE", "commit; create table x()", "BEGIN", "start transaction",
        "SELECT 1; SELECT 2", "DELETE FROM t", "(DELETE FROM t)", "CALL p()", "DO $$ $$", "",
        "-- x",
        "SELECT pg_terminate_backend(1)", "select PG_Terminate_Backend /* */ (1)",
        'SELECT "pg_terminate_backend"(1)', "SELECT pg_catalog.pg_cancel_backend(1)",
        "SELECT U&\"pg\\005fterminate_backend\"(1)", "SELECT lo_unlink(1)",
        "SELECT dblink_exec('')",
        "SELECT set_config('role', 'none', false)", "SELECT pg_read_file('x')",
        "SELECT query_to_xml('select 1', true, true, '')", "SELECT pg_advisory_lock(1)",
        "COPY t TO PROGRAM 'id'", "COPY (SELECT 1) TO STDOUT", "SET ROLE x", "RESET ROLE", "LOCK t",
        "VACUUM", "NOTIFY x", "PREPARE TRANSACTION 'x'", "EXECUTE x", "DISCARD ALL",
    ],
)  # fmt: skip
def test_what_is_no_harmless_read_is_told_from_its_text(text: str) -> None:
    assert writes(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1;", "(SELECT 1) UNION (SELECT 2)", "WITH a AS (SELECT 1) TABLE a", "VALUES (1)",
        "EXPLAIN SELECT 1", "SHOW lock_timeout", "-- x\nSELECT lo_total FROM t",
        "SELECT 'pg_terminate_backend(1)'", "TABLE t",
    ],
)  # fmt: skip
def test_a_harmless_read_is_let_pass(text: str) -> None:
    assert writes(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BEGIN; DELETE FROM t", "BEGIN"), ("SELECT 1; COMMIT", "COMMIT"), ("END", "END"),
        ("ROLLBACK TO x", "ROLLBACK"), ("SET TRANSACTION READ ONLY", "SET TRANSACTION"),
        ("set session characteristics as transaction read only", "SET SESSION CHARACTERISTICS"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"), ("PREPARE x AS SELECT 1", ""),
        ("SET LOCAL work_mem = '1MB'", ""),
    ],
)  # fmt: skip
def test_a_change_leaves_the_transaction_to_opskit(text: str, said: str) -> None:
    assert next((c for one in statements(text) if (c := control(one))), "") == said
    assert (judged(text, read=False, alone=False) is not None) == bool(said)


def test_a_change_without_a_transaction_is_one_statement() -> None:
    assert judged("VACUUM; VACUUM", read=False, alone=True) is not None
    assert judged("VACUUM", read=False, alone=True) is None


@pytest.mark.parametrize(
    "text",
    ["VACUUM FULL t", "vacuum (analyze, full) t", "VACUUM (FULL true, VERBOSE) t", "CLUSTER t",
     "CLUSTER", "VACUUM full verbose s.t", "REPACK t", 'VACUUM ("full") t',
     "VACUUM (VERBOSE, ANALYZE, FREEZE, SKIP_LOCKED, FULL) t", "VACUUM (FULL off, FULL) t"],
)  # fmt: skip
def test_what_locks_everybody_out_needs_a_word_for_it(text: str) -> None:
    wrong = judged(text, read=False, alone=True)
    assert wrong is not None
    assert "locks everybody out" in wrong[1]
    assert judged(text, read=False, alone=True, locks_out=True) is None


@pytest.mark.parametrize(
    "text", ["VACUUM (ANALYZE) t", "VACUUM (FULL false) t", "ANALYZE t", "SELECT 1 AS cluster",
             'VACUUM ANALYZE t ("full")', 'VACUUM (ANALYZE) t ("full")', 'VACUUM "full"',
             "REPACK (CONCURRENTLY) t", "ALTER TABLE t CLUSTER ON i"]
)  # fmt: skip
def test_what_others_go_on_beside_is_let_pass(text: str) -> None:
    assert judged(text, read=False, alone=True) is None


def test_expressions_are_one_letter_each_in_what_is_judged() -> None:
    neutralised, holes = neutral("a {{ x }} b {{- y | raw -}} c")
    assert len(holes) == 2
    assert len(neutralised.replace(" ", "")) == 5
