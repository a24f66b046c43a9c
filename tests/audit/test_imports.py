"""A run that was brought in from another store is whole there."""

from dataclasses import replace
from pathlib import Path

from opskit import audit
from opskit.audit.imports import Importer, bring
from opskit.plan.make import seal
from tests.contract.samples import begin, ended, finished, started


def test_a_plan_that_a_run_was_given_later_comes_with_it(tmp_path: Path) -> None:
    places = [str(tmp_path / name) for name in ("there.db", "here.db")]
    stores = [audit.open(place) for place in places]
    with begin(stores[0]) as journal:
        journal.append(started(), ended())
        new = seal(replace(stores[0].plan(journal.run), parameters={"release": "r8"}))
        journal.amend(new, {"who": "ann"})
        journal.append(finished())
    source, target = (audit.database(place) for place in places)
    importer = Importer(source=source, target=target, who="ann", origin="desk")
    assert [taken.fate for taken in bring(importer, everything=True)] == ["imported"]
    assert stores[1].plan(journal.run) == new
    assert stores[1].verify() == []
    for database in (source, target):
        database.close()
    for store in stores:
        store.close()
