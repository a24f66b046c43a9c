"""Searching a ledger for what was paid twice, beside the best SQL for it written by hand.

Both find the same: that is seen to before anything is measured.
"""

import csv
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from opskit.lab import release
from opskit.lab.fixtures import Amount
from tests.bench.figures import FailedError, Figure, Rounds, ratio
from tests.bench.peers import Bench
from tests.support import datasets
from tests.support.searching import readable

BY_HAND = r"""
\set QUIET on
\pset format csv
\pset tuples_only on
SET work_mem = '64MB'; SET random_page_cost = 1.1;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
\o same-key.csv
WITH again AS MATERIALIZED (
    SELECT merchant_id, idempotency_key FROM payouts WHERE idempotency_key IS NOT NULL
    GROUP BY 1, 2 HAVING count(*) > 1),
live AS (
    SELECT p.* FROM payouts p JOIN again USING (merchant_id, idempotency_key)
    WHERE status IN ('paid', 'processing', 'pending') AND btrim(idempotency_key, E' \t\n') <> ''),
r AS (
    SELECT *, count(*) OVER k AS n, row_number() OVER o AS rn, first_value(id) OVER o AS survivor
    FROM live
    WINDOW k AS (PARTITION BY merchant_id, idempotency_key),
        o AS (PARTITION BY merchant_id, idempotency_key
              ORDER BY (status = 'paid') DESC, (status = 'processing') DESC, created_at, id))
SELECT id, survivor, payee_id, amount, currency, status, idempotency_key FROM r WHERE n > 1;
\o keyless.csv
SELECT currency, count(*), sum(amount) FROM payouts
WHERE status IN ('paid', 'processing', 'pending')
  AND coalesce(btrim(idempotency_key, E' \t\n'), '') = '' GROUP BY 1;
\o census.csv
SELECT status, currency, count(*), sum(amount) FROM payouts GROUP BY 1, 2;
\o near.csv
WITH g AS (
    SELECT id, payee_id, amount, currency, merchant_id, created_at, idempotency_key,
        created_at - lag(created_at) OVER w AS before,
        lead(created_at) OVER w - created_at AS after
    FROM payouts
    WHERE status IN ('paid', 'processing', 'pending') AND order_id NOT LIKE 'settlement-%'
    WINDOW w AS (PARTITION BY payee_id, amount, currency, merchant_id ORDER BY created_at, id)),
s AS (
    SELECT *, count(*) FILTER (WHERE before <= '10 minutes' IS NOT TRUE) OVER w AS short,
        count(*) FILTER (WHERE before <= '25 hours' IS NOT TRUE) OVER w AS long
    FROM g WHERE before <= '25 hours' OR after <= '25 hours'
    WINDOW w AS (PARTITION BY payee_id, amount, currency, merchant_id ORDER BY created_at, id)),
c AS (
    SELECT *, count(*) OVER s AS ns, count(*) OVER l AS nl,
        min(idempotency_key) OVER s = max(idempotency_key) OVER s AS same_s,
        min(idempotency_key) OVER l = max(idempotency_key) OVER l AS same_l
    FROM s
    WINDOW s AS (PARTITION BY payee_id, amount, currency, merchant_id, short),
        l AS (PARTITION BY payee_id, amount, currency, merchant_id, long))
SELECT id, ns > 1 AND NOT same_s, nl > 1 AND NOT same_l FROM c
WHERE ns > 1 AND NOT same_s OR nl > 1 AND NOT same_l;
\o business-key-1.csv
SELECT unnest(array_agg(id)) FROM payouts WHERE status IN ('paid', 'processing', 'pending')
GROUP BY order_id HAVING count(*) > 1;
\o provider-ref.csv
SELECT unnest(array_agg(id)) FROM payouts WHERE status IN ('paid', 'processing', 'pending')
  AND provider_ref IS NOT NULL GROUP BY provider_ref HAVING count(*) > 1;
\o task.csv
SELECT unnest(array_agg(id)) FROM payouts WHERE status IN ('paid', 'processing', 'pending')
GROUP BY task_id HAVING count(*) > 1;
COMMIT;
"""
"""Two passes where an index has the key, one scan for each other rule, one sort for both windows;
with the settings of our own session. The lists of ids are all that it returns for some rules."""
TABLES = ("same-key", "near", "business-key-1", "provider-ref", "task")
RUNBOOK = """\
opskit: 1
name: search
version: 1.0.0
summary: b
hosts: all
steps:
  - name: search
    duplicates:
      ledger: payouts.yaml
      database: {database}
      full: true
      evidence: {folder}/evidence
      levels: {{same_key: INFO, key_reused: INFO, business_key: INFO, provider_ref: INFO,
               task: INFO}}
    on_unknown: fail
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """All rules of `duplicates` on payouts in which some of each kind were planted."""

    rows: int

    hosts: int = 1

    @property
    def name(self) -> str:
        return f"duplicates-{self.rows // 1_000_000}m"

    @property
    def title(self) -> str:
        return f"all rules over {self.rows:,} payouts, beside psql with SQL written by hand"

    def programs(self, bench: Bench) -> Mapping[str, list[str]]:
        folder = bench.hosts.folder / self.name
        folder.mkdir()
        url = bench.ledger(self.rows)
        words = {"opskit": self._ours(bench, folder, url), "by hand": _theirs(folder, url)}
        for program in words.values():
            done = subprocess.run(program, capture_output=True, check=False, text=True)
            if done.returncode:
                raise FailedError(done.stdout + done.stderr)
        _same(folder)
        return words

    def _ours(self, bench: Bench, folder: Path, url: str) -> list[str]:
        (folder / "payouts.yaml").write_bytes(release.data("ledger/payouts.yaml"))
        book, inventory = folder / "search.yaml", folder / "hosts.yaml"
        book.write_text(RUNBOOK.format(database="ledger", folder=folder))
        known = bench.hosts.inventory(1).read_text()
        inventory.write_text(f"{known}databases: {{ledger: {{url: '{url}'}}}}\n")
        return bench.run(book, inventory)

    def figures(self, took: Rounds) -> Sequence[Figure]:
        ours, theirs = ([t.wall for t in took[name]] for name in ("opskit", "by hand"))
        memory = [t.memory for t in took["opskit"]]
        return [
            Figure(what="beside SQL by hand", values=ratio(ours, theirs), limit=1.1),
            Figure(what="memory", values=memory, unit=" MB", limit=64, judged=max),
        ]


def _theirs(folder: Path, url: str) -> list[str]:
    script = folder / "by-hand.sql"
    script.write_text(f"\\cd {folder}\n{BY_HAND}")
    return [str(datasets.psql()), "--no-psqlrc", "--quiet", url, "-f", str(script)]


def _same(folder: Path) -> None:
    """See that both have found the same rows."""
    (evidence,) = (folder / "evidence").iterdir()
    for name in TABLES:
        ours = _ids(evidence / f"{name}.csv")
        with (folder / f"{name}.csv").open() as file:
            theirs = {row[0] for row in csv.reader(file) if name != "near" or row[1] == "t"}
        if ours != theirs or not ours:
            raise FailedError(f"{name}: {len(ours)} rows beside {len(theirs)}")


def _ids(path: Path) -> set[str]:
    with path.open() as file:
        return {row["id"] for row in csv.DictReader(file)}


def prepared(url: str, rows: int) -> str:
    """Fill an empty database with payouts; return the URL of the role that searches them."""
    datasets.fill(url, "payouts", Amount(rows=rows, cases=min(500, rows // 10_000), planted=True))
    readable(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (FREEZE, ANALYZE) payouts")
    return url.replace("//owner@", "//reader@")
