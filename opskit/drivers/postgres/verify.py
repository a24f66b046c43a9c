"""One look at a database for `indexes`: three queries in one transaction that can't write.

What the file wants to have planned or timed, and what the step wants to have read whole, is more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Protocol

from opskit.drivers.postgres.asking import fetch
from opskit.drivers.postgres.catalog import Facts, Relation
from opskit.drivers.postgres.comparing import (
    Matchers,
    compare,
    looked,
    matchers,
    refusals,
    resolved,
    unclear,
)
from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.findings import Found, Weighed, evidence, table, told, weighed
from opskit.drivers.postgres.looking import looked as looked_at
from opskit.drivers.postgres.meaning import NONE, Meanings, ask
from opskit.drivers.postgres.session import Access, Session, as_reader, limit
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.frozen import mutable
from opskit.model.job import Job, Output
from opskit.model.value import Json
from opskit.model.work import Verify

_NAMED = 50
"""So many things of a kind go into the record as data."""


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Look, compare and tell. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Verify)
    return looked_at(
        access, job, running, lambda s: _looked(access, s, job, work, write), checks=True
    )


def _looked(access: Access, session: Session, job: Job, work: Verify, write: Write) -> Output:
    connection = session.connection
    role = as_reader(session, access)
    limit(connection, job.timeout, ends_with_us=True)
    connection.own(SNAPSHOT)
    facts = fetch(connection, work.expected, work.unused_after)
    doubts: list[Found] = []
    if work.standbys and facts.idle and "unused" not in work.leave_out:
        from opskit.drivers.postgres.copies import idle_everywhere

        idle, doubts = idle_everywhere(access, session.identity, work, facts.idle)
        facts = replace(facts, idle=idle)
    meant = resolved(work.expected, facts)
    if wrong := refusals(work.expected, meant):
        return _refused(wrong, access, write)
    made = matchers(work.expected, facts, meant)
    wanted = unclear(made)
    meanings = ask(connection, wanted) if wanted else NONE
    compared = [*compare(work.expected, facts, made, meanings, work.standbys), *doubts]
    further = _Further(connection=connection, work=work, facts=facts, matchers=made)
    proved = [*further.proved(meanings), *further.fresh()]
    connection.own("ROLLBACK")
    if work.pgstatindex:  # an estimate is of no use beside what was read
        compared = [one for one in compared if one.check != "bloat"]
    compared += [*proved, *further.timed(), *further.inside()]
    found = weighed(compared, work.leave_out, work.levels.items())
    line = told(found, access.database.name, looked(work.expected, facts.relations))
    return _output(found, line, {**further.evidence, "role": role}, write)


def _refused(wrong: Sequence[str], access: Access, write: Write) -> Output:
    """Refuse a file that means relations which are not there, or not one only."""
    write("stdout", "".join(line + "\n" for line in wrong).encode())
    more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    cure = "correct the file, or name another database"
    reason = f"{access.where} is not compared: {wrong[0]}{more} → {cure}"
    named: list[Json] = list(wrong[:_NAMED])
    return Output(
        outcome="failed",
        sent=False,
        reason=reason,
        evidence={"refused": True, "wrong": named},
    )


def _output(found: list[Weighed], line: str, more: Mapping[str, Json], write: Write) -> Output:
    """The output of a check: what its level makes of the step, the step kind says."""
    write("stdout", (table(found) + line.partition("; ")[0] + "\n").encode())
    return Output(
        outcome="succeeded",
        reason=line,
        status=0,
        evidence={**evidence(found), **more},
    )


class Good(Protocol):
    """Something that is as it should be."""

    def as_json(self) -> Json: ...


@mutable
class _Further:
    """What is asked beyond the catalog; `evidence` is what was found to be as it should."""

    connection: Connection
    work: Verify
    facts: Facts
    matchers: Matchers
    evidence: dict[str, Json] = field(default_factory=dict)

    def proved(self, meanings: Meanings) -> list[Found]:
        """Have the queries of the file planned, in the transaction of the look."""
        if not any(one.used_by for each in self.work.expected.relations for one in each.indexes):
            return []
        from opskit.drivers.postgres.lookups import prove

        return self._sorted("lookups", prove(self.connection, self.matchers, meanings))

    def fresh(self) -> list[Found]:
        """Ask when views were touched last, in the transaction of the look."""
        limits = {
            one.name: one.fresh_within
            for one in self.work.expected.relations
            if one.fresh_within is not None
        }
        if not limits:
            return []
        from opskit.drivers.postgres.freshness import aged

        return self._sorted("touched", aged(self.connection, limits, self._relations()))

    def timed(self) -> list[Found]:
        """Call and read what has a limit of time."""
        expected = self.work.expected
        limits = [one.within for one in expected.traits]
        limits += [one.within for one in expected.relations]
        indexes = (index for one in expected.relations for index in one.indexes)
        limits += [lookup.within for index in indexes for lookup in index.used_by]
        if not self.work.timing or all(limit is None for limit in limits):
            return []
        from opskit.drivers.postgres.timing import measured

        took = measured(
            self.connection, expected, self.facts, self._relations(), writers=self.work.writers
        )
        return self._sorted("timed", took)

    def inside(self) -> list[Found]:
        """Look into the indexes themselves."""
        if not (self.work.amcheck or self.work.pgstatindex):
            return []
        from opskit.drivers.postgres.inside import look

        return list(look(self.connection, self._relations(), self.work))

    def _relations(self) -> Mapping[str, Relation]:
        return {name: matcher.relation for name, matcher in self.matchers.items()}

    def _sorted(self, name: str, several: Iterable[Found | Good]) -> list[Found]:
        """Set what is as it should be aside as evidence; return what is not."""
        found: list[Found] = []
        good: list[Json] = []
        for one in several:
            if isinstance(one, Found):
                found.append(one)
            else:
                good.append(one.as_json())
        self.evidence[name] = good[:_NAMED]
        return found
