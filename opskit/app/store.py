"""The store as a whole: make it, check it, bring it up to date, bring runs in."""

from collections.abc import Sequence
from pathlib import Path

from opskit import audit
from opskit.app.person import Person
from opskit.audit.imports import Importer, Taken, bring
from opskit.audit.postgres.address import Address, is_address, parse
from opskit.errors import InputError
from opskit.model.frozen import frozen
from opskit.settings import Settings


@frozen
class Checked:
    """One thing that was looked at: ok, warn or bad."""

    name: str
    state: str
    what: str
    hint: str = ""


@frozen
class Made:
    """A store that is there now. `grants`: what lets a role add to it, as SQL."""

    location: str
    new: bool
    role_made: bool
    grants: Sequence[str]


def init(settings: Settings, role: str | None) -> Made:
    """Make the store; let a role add to it. A store in a file is made when it is first used."""
    address = _address(settings, "init")
    from opskit.audit.postgres import keep

    made = keep.init(address, role)
    return Made(
        location=address.location, new=made.new, role_made=made.role_made, grants=made.grants
    )


def migrate(settings: Settings) -> tuple[str, Sequence[str]]:
    """Bring the store to the format of this opskit; return where it is, and the steps taken."""
    address = _address(settings, "migrate")
    from opskit.audit.postgres import keep

    return address.location, keep.migrate(address)


def check(settings: Settings) -> list[Checked]:
    """Look at everything about the store that a run relies on. StoreError when it is away."""
    if not is_address(settings.store):
        return _check_file(settings.store)
    from opskit.audit.postgres import keep

    found = keep.check(parse(settings.store))
    return [Checked(name=c.name, state=c.state, what=c.what, hint=c.hint) for c in found]


def bring_in(settings: Settings, file: str, person: Person, *, everything: bool) -> list[Taken]:
    """Import the runs of a file that were made while this store was away; all that have ended."""
    _address(settings, "import")
    if not Path(file).expanduser().is_file():
        raise InputError("there is no such file", where=file, hint="name a store in a file")
    source = audit.database(file)
    try:
        target = audit.database(settings.store)
        try:
            importer = Importer(source=source, target=target, who=person.who, origin=person.origin)
            return list(bring(importer, everything=everything))
        finally:
            target.close()
    finally:
        source.close()


def _address(settings: Settings, word: str) -> Address:
    if not is_address(settings.store):
        raise InputError(
            f"`opskit store {word}` is for a store in PostgreSQL",
            where=settings.store,
            hint="a file needs nothing of it; or name a database: OPSKIT_STORE=postgresql://…",
        )
    return parse(settings.store)


def _check_file(place: str) -> list[Checked]:
    if not audit.exists(place):
        what = "not there yet: it is made when the first run begins"
        return [Checked(name="record", state="ok", what=what)]
    database = audit.database(place)
    try:
        wrong = database.damage()
    finally:
        database.close()
    if not wrong:
        return [Checked(name="guards", state="ok", what="all there, all on; no page is damaged")]
    hint = "copy the file aside; `opskit audit verify` says what was changed"
    return [Checked(name="guards", state="bad", what=what, hint=hint) for what in wrong]
