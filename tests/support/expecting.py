"""What the manifest of a data set expects, and comparing a database with it by the real driver."""

from collections.abc import Mapping, Sequence
from typing import Any

from opskit.drivers.postgres.databases import About, Databases
from opskit.model.expected import Expected, ForeignKey, Index, Relation
from opskit.model.inventory import Database, Host
from opskit.model.job import Job, Output
from opskit.model.work import Verify
from opskit.steps.health import judge
from tests.support.database import no_host


def expected(manifest: Mapping[str, Any]) -> Expected:
    """Return all that a manifest says must be there."""
    objects = manifest["objects"]
    views = {one["name"]: tuple(one.get("columns", ())) for one in objects if one["kind"] == "view"}
    names = [one["name"] for one in objects if one["kind"] == "table"]
    names += [one["table"] for one in manifest["indexes"]] + list(views)
    return Expected(
        relations=tuple(_relation(name, manifest, views) for name in dict.fromkeys(names)),
        functions=tuple(one["name"] for one in objects if one["kind"] == "function"),
        extensions=tuple(one["name"] for one in objects if one["kind"] == "extension"),
    )


def _relation(
    name: str, manifest: Mapping[str, Any], views: Mapping[str, tuple[str, ...]]
) -> Relation:
    keys = [o for o in manifest["objects"] if o["kind"] == "foreign_key" and o["name"] == name]
    return Relation(
        name=name,
        view=name in views,
        columns=views.get(name, ()),
        indexes=tuple(_index(one) for one in manifest["indexes"] if one["table"] == name),
        foreign_keys=tuple(
            ForeignKey(columns=tuple(one["columns"]), references=one["references"]) for one in keys
        ),
    )


def _index(one: Mapping[str, Any]) -> Index:
    return Index(
        keys=tuple(one["keys"]), include=tuple(one["include"]), where=one["where"] or "",
        unique=one["unique"], method=one["method"], name=one["name"],
    )  # fmt: skip


def verified(
    url: str,
    wanted: Expected,
    user: str = "reader",
    others: Mapping[str, Database] | None = None,
    **how: Any,  # noqa: ANN401 - a Verify's
) -> tuple[Output, str]:
    """Compare, as a role that only reads; return a step's outcome and what was printed."""
    database = Database(name="main", url=url.replace("//owner@", f"//{user}@"))
    known = {"main": database, **(others or {})}
    driver = Databases(About(run="r1", runbook="verify", secrets={}), known, no_host)
    work = Verify(database="main", expected=wanted, file="expect.yaml", **how)
    job = Job(
        run="r1", key="1/", attempt=1, host=Host(name="db:main", address="main"), work=work,
        effect="read", timeout=60.0,
    )  # fmt: skip
    printed = bytearray()
    found = driver.perform(job, lambda _, data: printed.extend(data))
    return judge(work, found), printed.decode()


def findings(output: Output, *levels: str) -> Sequence[Mapping[str, Any]]:
    """Return what was found of some levels; all of it without."""
    found: Any = output.evidence["findings"]
    return [one for one in found if not levels or one["level"] in levels]
