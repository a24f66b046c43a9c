"""The first entry of a run: what it will do, who wants it, and which runs it vouches for."""

import hashlib
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opskit.audit.database import Row, Rows
from opskit.audit.ids import new_id
from opskit.audit.masking import SHORTEST, Masker, usable
from opskit.errors import InputError
from opskit.model.codec import canonical, to_json
from opskit.model.event import Event
from opskit.model.inventory import Host
from opskit.model.plan import Plan
from opskit.model.value import Json, Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Birth:
    """A run that is about to be recorded."""

    plan: Plan
    kind: str
    who: str
    origin: str
    reason: str
    command: str
    locks: tuple[str, ...]
    of: str | None
    documents: Mapping[str, bytes]
    """Their texts without secrets, by name; the plan among them."""


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
    for text in birth.documents.values():
        rows.run("add_document", digest=_sha256(text), body=zlib.compress(text, 6))
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
        "documents": {name: _sha256(text) for name, text in birth.documents.items()},
        "secrets": marks,
        "store": store["id"],
        "number": row["number"],
        "previous": last["hash"] if last else "",
        "seals": seals,
        **({"of": birth.of} if birth.of else {}),
    }
    return Event(kind="run created", data=data)


def texts(plan: Plan, documents: Mapping[str, str], masker: Masker) -> Mapping[str, bytes]:
    """Return the documents of a run without secrets, and its plan.

    InputError when a secret stands in the plan: masked it could not be carried out from the record.
    """
    text = canonical(to_json(plan))
    if masker.holds(text):
        raise InputError(
            "the value of a secret stands open in the plan: in a parameter, a name or a text",
            hint="pass it under `secrets:` or `stdin:` only, or choose another value for it",
        )
    masked = {name: masker.mask(words) for name, words in documents.items()}
    return {**{name: words.encode("utf-8", "surrogatepass") for name, words in masked.items()},
            "plan": text}  # fmt: skip


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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
