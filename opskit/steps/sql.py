"""`sql`: statements for a PostgreSQL database, each value bound.

Plan sees to it that the argument `database` is there, and names one of the inventory.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.work import Query
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_text,
    a_word,
    one_of,
    optional,
    problem,
    refuse,
)

TRANSACTIONS = ("default", "none")
ROWS = ("text", "json")
SUMMARY = (
    "Run SQL on a PostgreSQL database. A read is one statement in a transaction that can't write; "
    "a change is one transaction, done exactly once. Expressions are bound, never pasted in. Its "
    "summary says how many rows it has written, or what its last answer has in a column `told`."
)
KEYS = (
    Key(
        "query",
        "sql",
        help="what to run; an expression stands bare and becomes a bound value, or a quoted name "
        "with `| identifier`",
    ),
    Key("file", "sqlfile", help="path of a file with it, beside the runbook"),
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
    Key(
        "transaction",
        "enum",
        choices=TRANSACTIONS,
        default="default",
        help="`none` for a statement that can't be in one, such as CREATE INDEX CONCURRENTLY; it "
        "needs `done_when`",
    ),
    Key(
        "lock_out",
        "bool",
        default=False,
        help="permit VACUUM FULL and CLUSTER, which let nobody into a table, readers neither, "
        "until they have written it anew; written as it is, no template",
    ),
    Key(
        "rows",
        "enum",
        choices=ROWS,
        default="text",
        help="what `save` takes: the first value of the first row, or all rows as `json`",
    ),
    Key(
        "expect",
        "text",
        help="what the first value of the first row must be, as text (`true`, `0`); anything else "
        "fails the step",
    ),
)
MAIN = "query"
EFFECT: Effect = "change"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "silent")
    if ("file" in step.args) == ("query" in step.args):
        yield problem(step, "sql", "SQL is in either `query` or `file`", "write one of them")
    done = step.done_when
    if done is not None and done.kind == "sql" and "expect" not in done.args:
        told = "`done_when` must say what tells that it is done"
        yield problem(done, "sql", told, "write sql: {query: SELECT …, expect: 'true'}")
    if done is not None and done.kind != "sql":
        told = f"`done_when` of an `sql` step asks the database, and this is `{done.kind}`"
        yield problem(step, "done_when", told, "write sql: {query: SELECT …, expect: 'true'}")
    if step.args.get("transaction") == "none":
        yield from _alone(step)
    secret = step.save is not None and step.save.secret
    if secret and step.effect == "change":
        told = "a secret that a change returns could be lost with the answer"
        yield problem(step, "save", told, "fetch it by a read of its own")


def _alone(step: Step) -> Iterable[Problem]:
    if step.effect == "read":
        told = "a read is made in a transaction that can't write"
        yield problem(step, "transaction", told, "take `transaction: none` out")
    elif step.done_when is None:
        told = "without a transaction nothing tells whether it was done"
        yield problem(step, "transaction", told, "add done_when, a read that tells")
    if step.save is not None:
        told = "what it returns could be lost with the answer"
        yield problem(step, "save", told, "fetch it by a read of its own")


def work(args: Mapping[str, Value], step: Step) -> Query:
    written = args["query"] if args.get("query") is not None else args["file"]
    rows: Literal["text", "json"] = (
        "json" if one_of(args.get("rows"), step, "rows", ROWS) == "json" else "text"
    )
    return Query(
        text=a_text(written, "query"),
        database=a_word(args["database"], step, "database"),
        transaction=one_of(args.get("transaction"), step, "transaction", TRANSACTIONS) != "none",
        rows=rows,
        expect=optional(args.get("expect"), "expect"),
        kept=step.save is not None,
        told=step.done_when is not None,
    )
