"""`bloat`: how much of the tables and indexes of a database holds no rows.

Plan sees to it that the argument `database` names one of the inventory.
"""

from collections.abc import Iterable, Mapping

from opskit.model.bloat import Bloat
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.steps import looks
from opskit.steps.base import Key, Scope, Value, a_number, a_word

CHECKS: Mapping[str, str] = {"bloat": "WARN", "unclear": "INFO"}
"""Every check with how much it weighs."""
_MIB = 2**20
SUMMARY = (
    "Look how much of the tables of a PostgreSQL database holds no rows: an estimate from "
    "statistics, and for what that tells of a look into the table. OK, WARN or UNKNOWN, as "
    "`health`. It changes nothing."
)
KEYS = (
    Key("database", "text", help="name of the database in the inventory; needed where that has "
        "several"),
    Key("share", "number", default=40.0, minimum=0,
        help="how many percent of a table may be air; more, and more than `least`, is a WARN"),
    Key("least", "number", default=100.0, minimum=1,
        help="MiB of a table that may be air; smaller tables are not looked at"),
    Key("exact", "number", default=1024.0, minimum=0,
        help="MiB; what the estimate tells of is read where it is no larger; 0: nothing is"),
    looks.leave_out(CHECKS),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "read"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    return looks.check(step, CHECKS)


def work(args: Mapping[str, Value], step: Step) -> Bloat:
    share = a_number(args["share"], step, "share")
    if share >= 100:
        raise looks.wrong(step, "share", f"no table is more than {share:g}% air", "write less")
    return Bloat(
        database=a_word(args["database"], step, "database"),
        share=share,
        least=a_number(args["least"], step, "least") * _MIB,
        exact=a_number(args["exact"], step, "exact") * _MIB,
        leave_out=looks.left_out(args, step, CHECKS),
    )
