"""A search under way: what it looks at, which rules it asks, what it keeps of the answers."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from opskit.drivers.evidence import Folder
from opskit.drivers.postgres import rules
from opskit.drivers.postgres.connection import Row, Taker
from opskit.drivers.postgres.findings import Found
from opskit.drivers.postgres.ledgers import known
from opskit.drivers.postgres.provided import File
from opskit.drivers.postgres.query import Period, Statement
from opskit.drivers.postgres.reconciling import (
    COLUMNS,
    DIFFERS,
    LEDGER_ONLY,
    PROVIDER_ONLY,
    TWICE,
    Booked,
    Merge,
)
from opskit.drivers.postgres.session import Access, Session, as_reader
from opskit.drivers.postgres.snapshot import lags, taken, when
from opskit.drivers.postgres.tallies import Pass, Tally, added, iso, moment, money, texts, written
from opskit.errors import OpskitError
from opskit.model.codec import digest, to_json
from opskit.model.evidence import FORMAT, Manifest, Source, Total
from opskit.model.ledger import Field
from opskit.model.value import Json
from opskit.model.work import Duplicates

MOST = 1_000_000
"""So many rows may be looked at without anybody having said so."""


class RefusedSearchError(OpskitError):
    """Nothing can be said by what was asked for; nothing was looked for."""


class Search:
    """One search in one snapshot. `begin` refuses; `run` looks; `close` ends the evidence."""

    def __init__(
        self, access: Access, session: Session, work: Duplicates, file: File | None, *, limit: float
    ) -> None:
        self.access = access
        self.session = session
        self.connection = session.connection
        self.work = work
        self.file = file
        self.limit = min(limit, work.patience)
        self.mask = [str(field) for field in work.ledger.mask]
        self.findings: list[Found] = []
        self.counts: Counter[str] = Counter()
        self.totals: list[Total] = []
        self.rows = 0
        self.period = Period()

    # --- before

    def begin(self) -> None:
        """Take the snapshot, and see that all is as it must be for an answer to mean something."""
        self.role = as_reader(self.session, self.access)
        snapshot, now, lsn, version = taken(self.connection, self.limit)
        catalog = self.connection.one("SELECT pg_catalog.current_database()::text")[0] or ""
        self.now = now
        self.source = Source(
            run=self.access.run,
            database=self.access.database.name,
            system=self.session.identity.system,
            server=version,
            role=self.role,
            standby=self.session.identity.standby,
            ledger=self.work.ledger.name,
            description=digest(to_json(self.work.ledger)),
            snapshot=snapshot,
            lsn=lsn,
            now=now,
            catalog=catalog,
        )
        self._times()
        self.known = known(self.connection, self.work.ledger)
        if not self.period.since and not self.work.full:
            self._small()
        self._census()

    def _times(self) -> None:
        """Say which period is meant; refuse one that has not come, and a standby far behind."""
        asked = (self.work.since, self.work.until, self.work.as_of)
        since, until, as_of = (when(self.connection, at) for at in asked)
        if since[1]:
            raise RefusedSearchError(f"since {since[0]}: that has not come, it is {self.now}")
        if as_of[1]:
            raise RefusedSearchError(f"as_of {as_of[0]}: that has not come, it is {self.now}")
        bounds = sorted((moment(at) for at, _ in (until, as_of) if at))
        last = written(bounds[0]) if bounds else ""
        if since[0] and last and moment(since[0]) >= bounds[0]:
            raise RefusedSearchError(f"nothing lies between {since[0]} and {last}")
        self.period = Period(since=since[0], until=last)
        if self.session.identity.standby:
            self._behind(as_of[0])

    def _behind(self, as_of: str) -> None:
        replayed, lag = lags(self.connection)
        if as_of:
            if replayed is None or moment(replayed) < moment(as_of):
                told = f"the standby has not come to {as_of}: it is at {replayed or 'no time'}"
                raise RefusedSearchError(told, hint="wait, or ask the primary")
        elif lag is None or float(lag) > self.work.max_lag:
            far = "nobody knows how far" if lag is None else f"{float(lag):.0f} s"
            told = f"the standby is behind ({far}; max_lag is {self.work.max_lag:g} s)"
            raise RefusedSearchError(told, hint="say as_of, up to when rows are to be looked at")

    def _small(self) -> None:
        if int(self._one(rules.size(self.known, MOST + 1))[0] or 0) > MOST:
            told = f"{self.work.ledger.name} has more than {MOST} rows"
            raise RefusedSearchError(told, hint="say since when, or full: true for all of it")

    def _census(self) -> None:
        """Count everything by status and currency; refuse a status of which nothing is known."""
        status = self.work.ledger.status
        self.keyless: dict[str, tuple[int, Decimal]] = {}
        self.allowed = self.live = 0
        totals: dict[tuple[str, str], tuple[int, Decimal | None]] = {}

        def take(row: Row) -> None:
            of = None if row[0] is None else row[0].decode()
            _, currency, keyless, allowed, count, amount = texts(row)
            rows, worth = int(count), Decimal(amount) if amount else None
            if status is not None and of not in status.known:
                told = f"status {of!r} is in none of the sets of {self.work.file}"
                hint = f"say under `status` what it means; {rows} rows have it"
                raise RefusedSearchError(told, hint=hint)
            totals[of or "", currency] = added(totals.get((of or "", currency)), rows, worth)
            if status is None or of in status.live:
                self.live += rows
                self.allowed += rows if allowed == "t" else 0
                if keyless == "t":
                    there, before = self.keyless.get(currency, (0, Decimal(0)))
                    self.keyless[currency] = there + rows, before + (worth or 0)

        self.census = rules.census(self.known, self.period)
        self.connection.run(self.census.text, self.census.values, Taker(row=take))
        for (of, currency), (rows, worth) in totals.items():
            amount = "" if worth is None else str(worth)
            self.totals.append(Total(status=of, currency=currency, rows=rows, amount=amount))
            self.rows += rows

    # --- the rules

    def keep(self, folder: Folder) -> None:
        self.folder = folder

    def run(self) -> None:
        """Ask every rule, one after another, all in the one snapshot."""
        ledger = self.work.ledger
        self._described()
        self._twice("same_key", [ledger.key], keyed=True)
        if ledger.payee is not None and ledger.amount and self._wanted("near", "near_day"):
            self._near()
        for number, fields in enumerate(ledger.business_keys, 1):
            self._twice("business_key", fields, suffix=f"-{number}")
        if ledger.provider_ref is not None:
            self._twice("provider_ref", [ledger.provider_ref])
        if ledger.task is not None:
            self._twice("task", [ledger.task])
        if self.file is not None:
            self._reconcile(self.file)

    def _wanted(self, *checks: str) -> bool:
        return not set(checks) <= set(self.work.leave_out)

    def _described(self) -> None:
        """Tell of what the rules can't see, and keep what all of them counted in."""
        ledger = self.work.ledger
        self._wrote("census", self.census)
        sheet = self.folder.sheet("census.csv", ["status", "currency", "rows", "amount"])
        for total in self.totals:
            sheet.row([total.status, total.currency, str(total.rows), total.amount])
        counted = rules.reversed_(self.known, self.period)
        if counted is not None and (gone := int(self._one(counted)[0] or 0)):
            self.counts["reversed"] = gone
        if not self.rows:
            text = f"there is no row to look at{self._when()}: nothing is known"
            self._tell("empty", text, unknown=True)
        if self.keyless:
            rows = sum(count for count, _ in self.keyless.values())
            sums = {currency: amount for currency, (_, amount) in self.keyless.items()}
            what = f"no {ledger.key}: nothing tells whether they repeat another"
            worth = money(sums) if ledger.amount else ""
            self._found("keyless", rows, worth, what, unknown=rows == self.live)
        if self.known.floating:
            text = f"{ledger.amount} is a floating-point number: amounts are compared as numeric"
            self._tell("float_money", text)
        if not self.known.columns[ledger.created_at].required:
            count = int(self._one(rules.undated(self.known))[0] or 0)
            if count:
                text = f"{count} rows have no {ledger.created_at}: no period has them"
                self._tell("undated", text)
                self.counts["undated"] = count

    def _when(self) -> str:
        """Say which period is looked at, and when the newest row of all was made."""
        since, until = self.period.since, self.period.until
        bounds = [*([f"since {since}"] if since else []), *([f"before {until}"] if until else [])]
        newest = self._one(rules.newest(self.known))[0] if bounds else None
        told = f" (the newest is of {newest})" if newest else ""
        return f" {' and '.join(bounds)}{told}" if bounds else ""

    def _twice(
        self, check: str, fields: Sequence[Field], *, keyed: bool = False, suffix: str = ""
    ) -> None:
        if not self._wanted(check, *(["key_reused"] if keyed else [])):
            return
        name = check.replace("_", "-") + suffix
        statement = self._cheapest(rules.twice(self.known, self.period, fields, keyed=keyed))
        self._wrote(name, statement)
        tally = Tally(self.folder, self.mask, f"{name}.csv", statement.columns)
        self.connection.run(statement.text, statement.values, Taker(row=tally.row))
        for verdict in tally.rows:
            if verdict == rules.SURVIVOR:
                continue
            of = "key_reused" if verdict == rules.REUSED else check
            what = f"the same {', '.join(map(str, fields))} as another payment"
            rows, sums = tally.rows[verdict], money(tally.sums[verdict])
            self._found(of, rows, sums, what, name=verdict, sheet=name)

    def _near(self) -> None:
        statement = rules.near(self.known, self.period, self.work.window)
        self._wrote("near", statement)
        windows = [self.work.window, *([rules.DAY] if self.work.window < rules.DAY else [])]
        passes = [
            Pass(self.folder, self.mask, statement.columns, number=number, window=window)
            for number, window in enumerate(windows)
        ]

        def take(row: Row) -> None:
            cells = texts(row)
            for one in passes:
                one.row(cells)

        self.connection.run(statement.text, statement.values, Taker(row=take))
        for one, check in zip(passes, ("near", "near_day"), strict=False):
            if one.rows:
                what = (
                    f"{one.sessions} groups of the same payee and amount, each within "
                    f"{one.window:g} s of the one before, the longest over {one.longest}"
                )
                self._found(check, one.rows, money(one.sums), what, sheet=one.name)

    # --- the provider

    def _reconcile(self, file: File) -> None:
        """Compare with what the provider has, over the time of which both know."""
        inside, period = self._common(file)
        statement = rules.references(self.known, period, inside)
        self._wrote("provider", statement)
        sheet = self.folder.sheet("provider.csv", COLUMNS)
        must = Period(since=iso(self.period.since), until=iso(self.period.until))
        merge = Merge(file, must, sheet.row)

        def take(row: Row) -> None:
            reference, id_, amount, currency, status, at, within = texts(row)
            merge.row(
                Booked(
                    reference=reference, id=id_, amount=Decimal(amount) if amount else None,
                    currency=currency, status=status, time=at, inside=within == "t",
                )
            )  # fmt: skip

        self.connection.run(statement.text, statement.values, Taker(row=take))
        merge.end()
        if merge.spelt:
            told = (
                f"the file's currency is {file.currency!r}, and the ledger writes {merge.spelt!r}"
            )
            raise RefusedSearchError(told, hint="write it in the file as the ledger does")
        if factor := merge.factor():
            unit = "minor" if factor > 0 else "major"
            told = f"the file's amounts are 10^{factor} times those of the ledger"
            raise RefusedSearchError(told, hint=f"say unit: {unit} under `provider`")
        for verdict, check, what in (
            (PROVIDER_ONLY, "provider_only", "paid, and the ledger has no payment of it"),
            (DIFFERS, "amount_differs", "paid with another amount or currency than is booked"),
            (TWICE, "ledger_duplicate", "booked again under a reference that was paid"),
            (LEDGER_ONLY, "ledger_only", "booked as paid, and the provider does not have it"),
        ):
            if merge.counts[verdict]:
                sums = money({file.currency: merge.sums.get(verdict, Decimal(0))})
                rows = merge.counts[verdict]
                self._found(check, rows, sums, what, name=verdict, sheet="provider")
        self.counts["provider.OK"] = merge.counts["OK"]

    def _common(self, file: File) -> tuple[Period, Period]:
        """Return when a payment was made that the file must have, and when one that may match."""
        day = timedelta(days=1)
        first, last = moment(file.first), moment(file.last)
        since = moment(self.period.since) if self.period.since else None
        until = moment(self.period.until) if self.period.until else moment(self.now)
        if (since is not None and last < since) or first >= until:
            told = f"the file is of {file.first} to {file.last}, and nothing of that is looked at"
            raise RefusedSearchError(told, hint="see since and until")
        if (since is not None and first > since + day) or last < until - day:
            self._tell("provider_period", f"the file is of {file.first} to {file.last} only")
        low = first + day if since is None else max(since, first + day)
        high = min(until, last - day)
        inside = Period(since=written(low), until=written(max(low, high)))
        return inside, Period(since=written(first - day), until=written(last + day))

    # --- asking and keeping

    def _one(self, statement: Statement) -> tuple[str | None, ...]:
        return self.connection.one(statement.text, *statement.values)

    def _cheapest(self, statements: Sequence[Statement]) -> Statement:
        """Return the statement of which the server says that it costs least."""
        if len(statements) == 1:
            return statements[0]

        def cost(statement: Statement) -> float:
            text = f"EXPLAIN (FORMAT JSON) {statement.text}"
            (plan,) = self.connection.one(text, *statement.values)
            return float(json.loads(plan or "")[0]["Plan"]["Total Cost"])

        return min(statements, key=cost)

    def _wrote(self, name: str, statement: Statement) -> None:
        values = "".join(f"-- ${n}: {v!r}\n" for n, v in enumerate(statement.values, 1))
        self.folder.text(f"{name}.sql", f"{values}{statement.text};\n")

    def _found(
        self,
        check: str,
        rows: int,
        money: str,
        what: str,
        *,
        name: str = "",
        sheet: str = "",
        unknown: bool = False,
    ) -> None:
        where = f" ({sheet}.csv)" if sheet else ""
        at_stake = f", {money}" if money else ""
        text = f"{rows} {'row' if rows == 1 else 'rows'}{at_stake}: {what}{where}"
        self._tell(check, text, name=name, unknown=unknown)
        self.counts[f"{check}.{name}" if name else check] += rows

    def _tell(self, check: str, text: str, *, name: str = "", unknown: bool = False) -> None:
        table = self.work.ledger.name
        found = Found(check=check, table=table, name=name, text=text, unknown=unknown)
        self.findings.append(found)

    @property
    def summary(self) -> str:
        repeat = f", {self.allowed} may repeat" if self.allowed else ""
        gone = self.counts["reversed"]
        over = f", {gone} of them reversed" if gone else ""
        return f"{self.rows} rows of {self.work.ledger.name}{over}{repeat}"

    def close(self, level: str, findings: Json) -> str:
        """End the evidence; return the SHA-256 of its manifest."""
        asked = {
            "since": self.period.since,
            "until": self.period.until,
            "window": f"{self.work.window:g}",
            "file": self.work.file,
            "as_of": self.work.as_of,
        }
        if self.work.provider is not None:
            asked |= {"provider": self.work.provider.path, "sha256": self.work.provider.sha256}
        text = json.dumps(to_json(self.work.ledger), indent=1, sort_keys=True)
        self.folder.text("ledger.json", text + "\n")
        return self.folder.close(
            Manifest(
                format=FORMAT, source=self.source, asked=asked, rows=self.rows,
                totals=tuple(self.totals), level=level, counts=dict(self.counts),
                findings=findings, pieces=(),
            )
        )  # fmt: skip
