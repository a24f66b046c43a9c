"""The first entry of a run: what it will do, who wants it, and which runs it vouches for."""

import hashlib
import os
import time
import zlib
from collections.abc import Mapping, Sequence

from opskit.audit.database import Row, Rows
from opskit.audit.ids import new_id
from opskit.audit.masking import SHORTEST, Masker, usable
from opskit.errors import InputError
from opskit.model.codec import canonical, to_json
from opskit.model.event import Event
from opskit.model.frozen import frozen
from opskit.model.inventory import Host
from opskit.model.plan import Plan
from opskit.model.value import Json, Secret


@frozen
class Document:
    """A text as it is kept: deflated, under its SHA-256."""

    digest: str
    body: bytes


@frozen
class Birth:
    """A run that is about to be recorded."""

    plan: Plan
    kind: str
    who: str
    origin: str
    reason: str
    command: str
    locks: tuple[str, ...]
    steal: str | None
    documents: Mapping[str, Document]
    instead_of: str = ""
    override: str = ""


@frozen
class Rebirth:
    """That somebody goes on with a run."""

    run: str
    who: str
    origin: str
    steal: str | None


def add_run(rows: Rows, birth: Birth) -> Row:
    """Number a new run and keep its documents; return its row."""
    store = rows.one("store")
    assert store is not None
    row = {
        "number": store["runs"] + 1,
        "id": _free_id(rows),
        "kind": birth.kind,
        "runbook": birth.plan.runbook,
        "created": time.time(),
    }
    rows.run("add_run", **row)
    rows.run("count_run")
    rows.run("begin_head", run=row["number"])
    for document in birth.documents.values():
        rows.run("add_document", digest=document.digest, body=document.body)
    return row


def _free_id(rows: Rows) -> str:
    """Return an id that no run has."""
    while True:
        run = new_id(time.time())
        if rows.one("run", id=run) is None:
            return run


def first_event(rows: Rows, row: Row, birth: Birth, marks: Mapping[str, str]) -> Event:
    """Return the event that a run begins with; it vouches for all that is recorded before it."""
    store, last = rows.one("store"), rows.one("last_hash", before=row["number"])
    assert store is not None
    seals: dict[str, Json] = {r["id"]: [r["entries"], r["hash"]] for r in rows.all("unsealed")}
    rows.run("seal")
    plan = birth.plan
    data: dict[str, Json] = {
        "kind": birth.kind,
        "runbook": plan.runbook,
        "version": plan.version,
        "plan": plan.digest,
        "who": birth.who,
        "from": birth.origin,
        "reason": birth.reason,
        "command": birth.command,
        "hosts": {name: _address(host) for name, host in plan.hosts.items()},
        "locks": list(birth.locks),
        "documents": {name: kept.digest for name, kept in birth.documents.items()},
        "secrets": marks,
        "store": store["id"],
        "number": row["number"],
        "previous": last["hash"] if last else "",
        "seals": seals,
        **({"inventory": os.path.realpath(plan.inventory)} if plan.inventory else {}),
        **({"stole": birth.steal} if birth.steal else {}),
        **({"instead_of": birth.instead_of} if birth.instead_of else {}),
        **({"override_window": birth.override} if birth.override else {}),
    }
    return Event(kind="run created", data=data)


def documents(plan: Plan, texts: Mapping[str, str], masker: Masker) -> Mapping[str, Document]:
    """Return the texts that a run came from, without secrets, and its plan as "plan".

    InputError when a secret stands in the plan: masked it could not be carried out from the record.
    """
    whole = canonical(to_json(plan))
    if masker.holds(whole):
        raise InputError(
            "the value of a secret stands open in the plan: in a parameter, a name or a text",
            hint="pass it under `secrets:` or `stdin:` only, or choose another value for it",
        )
    kept = {
        name: masker.mask(text).encode("utf-8", "surrogatepass") for name, text in texts.items()
    }
    return {name: _document(text) for name, text in {**kept, "plan": whole}.items()}


def _document(text: bytes) -> Document:
    return Document(digest=hashlib.sha256(text).hexdigest(), body=zlib.compress(text, 6))


def refuse_poor_secrets(secrets: Sequence[Secret]) -> None:
    """Refuse secrets that can't be told from ordinary text."""
    for secret in secrets:
        if not usable(secret):
            raise InputError(
                f"the secret {secret.name!r} is too short or too common to be kept out of the"
                " record",
                hint=f"choose a value of at least {SHORTEST} characters that is no plain word",
            )


def _address(host: Host) -> str:
    user, port = host.connection.user, host.connection.port
    return (f"{user}@" if user else "") + host.address + (f":{port}" if port else "")
