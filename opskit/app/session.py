"""A run that is being carried out: what it holds, opened and closed together."""

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from opskit.app import secrets as fetching
from opskit.app.person import Person
from opskit.app.watch import Guard
from opskit.audit import Journal, Store, Wish
from opskit.audit.begin import refuse_poor_secrets
from opskit.audit.fold import OPEN
from opskit.errors import InputError, StoreError, TakenOverError, UnreachableError, UnrecordedError
from opskit.execute import Outside, Stop, Watcher
from opskit.execute.driver import Driver
from opskit.model.event import Entry, Event
from opskit.model.frozen import mutable
from opskit.model.inventory import Database, Host
from opskit.model.plan import Plan
from opskit.model.value import Json, Secret
from opskit.model.work import Notify
from opskit.plan import reads_only
from opskit.view import names


@mutable
class Session:
    """A run that is being carried out: its record, its plan, who watches, who can be asked."""

    store: Store
    journal: Journal
    plan: Plan
    outside: Outside
    person: Person
    reason: str = ""
    pause_after_batch: bool = False
    override: str = ""
    """Why it is to go on also where a change window closes: said beforehand."""

    @property
    def run(self) -> str:
        return self.journal.run

    def past(self) -> list[Entry]:
        return list(self.store.entries(self.run))

    def facts(self) -> Mapping[str, Json]:
        """Return what templates see as `run`."""
        created = next(iter(self.store.entries(self.run)))
        return {
            "id": self.run,
            "status": "running",
            "reason": str(created.event.data.get("reason") or ""),
            "user": str(created.event.data.get("who") or ""),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created.at)),
        }


def _listen(store: Store, journal: Journal, outside: Outside, guard: Guard) -> None:
    """Hear what the store has to say, and what others wish of the run."""
    store.attend(
        lambda text: guard(Event(kind="message", data={"text": text})),
        lambda: outside.stop.pressed,
    )
    journal.listen(
        lambda wish: _heard(outside, wish), lambda by: _cut_off(outside, journal.run, by)
    )


@contextmanager
def session(
    store: Store,
    journal: Journal,
    plan: Plan,
    *,
    known: Mapping[str, Secret],
    person: Person,
    watch: Watcher,
    stop: Stop | None,
    connector: Any = None,  # noqa: ANN401 - of the SSH library, which is not loaded here
    steal: str = "",
) -> Iterator[Session]:
    """Open what an execution touches, and close all of it however that ends."""
    outside = Outside(
        targets=targets_of(
            store, journal, plan, known, about=person.who, steal=steal, how=connector
        ),
        journal=journal,
        secrets=known,
        watch=(guard := Guard(watch, known)),
        stop=stop if stop is not None else Stop(),
        hide=lambda secret: _hide(secret, journal, guard),
    )
    if any(isinstance(action.work, Notify) and action.work.to for action in plan.actions):
        from opskit.app.channels import messenger  # few runs send messages

        outside.messenger = messenger(store, outside, plan)
    _listen(store, journal, outside, guard)
    try:
        with journal:
            current = Session(
                store=store, journal=journal, plan=plan, outside=outside, person=person
            )
            recorded = mine = True
            try:
                yield current
                outside.messenger.settle(outside)
            except TakenOverError:
                mine = False
                raise
            except StoreError as error:
                recorded = False
                raise _left(journal.run, error) from error
            finally:
                _leave(current, recorded=recorded) if mine else _leave_alone(current)
    except TakenOverError:
        _say_unrecorded(outside, journal)
        raise
    finally:
        store.close()


def _say_unrecorded(outside: Outside, journal: Journal) -> None:
    """Say which of the outcomes that were shown, as they came, are in no record.

    They are shown before they are durable; of a run that was taken in between they never are.
    """
    where: dict[str, list[str]] = {}
    for event in journal.unrecorded():
        became = str(event.data.get("outcome") or "skipped")
        where.setdefault(f"`{event.step}`: {became}", []).append(event.host)
    for what, hosts in where.items():
        text = f"not in the record, although it was shown here: {what} on {names.listed(hosts)}"
        text += f"; `opskit status {journal.run}` shows what is"
        outside.watch(Event(kind="message", data={"text": text}))


def _heard(outside: Outside, wish: Wish) -> None:
    """Do what somebody wishes who is not here, and say so here."""
    text = f"{wish.who} asks for a {wish.kind}: nothing new starts"
    what = "is ended" if wish.kind == "stop" else "goes on to its end (Ctrl-C ends it too)"
    text += f", what runs on the hosts {what}"
    outside.watch(Event(kind="message", data={"text": text}))
    outside.stop.asked(wish.kind == "stop")


def _cut_off(outside: Outside, run: str, by: str) -> None:
    """Begin nothing more in a run that another process goes on with."""
    outside.stop.forsake()
    text = f"run {run} was taken over by {by}; nothing new starts here"
    outside.watch(Event(kind="message", data={"text": text}))


def targets_of(
    store: Store,
    journal: Journal,
    plan: Plan,
    known: Mapping[str, Secret],
    *,
    about: str,
    steal: str = "",
    how: Any = None,  # noqa: ANN401 - a connector, of a module that is not loaded here
) -> Driver:
    """Return the targets of a run, which are shown what locks it has and by whom."""
    from opskit.drivers.targets import Targets, lease_words  # loaded only to use them

    locks = () if reads_only(plan) else plan.locks
    said = f"{journal.run} ({plan.runbook}), by {about}"
    return Targets(
        journal.run,
        {**(_hosts_of(store, steal) if steal else {}), **plan.hosts},
        history=store.recall,
        hidden=fetching.variables(plan, known),
        connector=how,
        leases=lease_words(locks, *journal.lease, said, steal),
        databases={**(_databases_of(store, steal) if steal else {}), **plan.databases},
        redis=plan.redis,
        marked=_marked(plan),
        secrets=known,
        runbook=plan.runbook,
    )


def _marked(plan: Plan) -> frozenset[str]:
    if not plan.redis:
        return frozenset()
    from opskit.plan.redis import marked  # few plans have any

    return marked(plan)


def _hosts_of(store: Store, run: str) -> Mapping[str, Host]:
    """Return the hosts of a run whose locks are taken away; of another record's none is known."""
    with suppress(InputError):
        return as_recorded(store.plan(run), store.entries(run)).hosts
    return {}


def _databases_of(store: Store, run: str) -> Mapping[str, Database]:
    """Return the databases of such a run, as far as they are known here."""
    with suppress(InputError):
        return store.plan(run).databases
    return {}


def _hide(secret: Secret, journal: Journal, guard: Guard) -> None:
    """Keep a secret that a step has saved out of the record and off the screen."""
    fetching.remember([secret])
    refuse_poor_secrets([secret])
    journal.hide(secret)
    guard.hide(secret)


def _left(run: str, error: StoreError) -> UnrecordedError:
    """Say where a run stands whose record took no more: more was seen of it than is recorded."""
    return UnrecordedError(
        f"{error.what}; run {run} stops here, and nothing was sent after this",
        where=error.where,
        hint=f"{error.hint}; then `opskit resume {run}`: outcomes that were shown after the last "
        "recorded one are not in the record, so it asks the hosts for them",
    )


def _leave(current: Session, *, recorded: bool) -> None:
    """Let go of the hosts. Traces stay where a change was begun that may be asked for again.

    What commands have printed goes there too, once it is `recorded`.
    """
    try:
        state = current.store.state(current.run)
        begun = {} if state in _SETTLED else _begun(current)
        if state == "aborted":  # a resume may ask for what is unknown, and for nothing else
            begun = {host: lost for host, lost in begun.items() if lost}
    except StoreError:  # it can't be asked: whatever may have been begun, anywhere
        _leave_alone(current)
        return
    unread = begun if not recorded else {host for host, lost in begun.items() if lost}
    current.outside.targets.close(keep=begun, unread=unread, over=state not in OPEN)


def _leave_alone(current: Session) -> None:
    """Let go of the hosts, and of nothing that is on them.

    A run that another process has taken is that one's to tidy up after: what was seen to end here
    is not in the record, and only the traces tell of it.
    """
    everywhere = dict.fromkeys(action.target for action in current.plan.actions)
    current.outside.targets.close(keep=everywhere, unread=everywhere, over=False)


_SETTLED = ("succeeded", "undone")


def _begun(current: Session) -> Mapping[str, bool]:
    """Return the targets on which changes were begun, and whether one is lost from sight there."""
    records = current.store.load(current.run).actions
    found: dict[str, bool] = {}
    for planned in current.plan.actions:
        for action in (planned, *planned.undo):
            record = records.get(action.key)
            if record is None or record.stands in ("planned", "skipped"):
                continue
            if current.plan.stage(action).effect == "change":
                lost = record.state == "started" or record.data.get("lost") is True
                found[action.target] = found.get(action.target, False) or lost
    return found


def show_tokens(current: Session, taken: str = "") -> None:
    """Show every host of a run that goes on that its locks have a newer holder, before all else.

    A process that has been overtaken can't begin anything there from then on. `taken`: another run,
    whose locks this one has taken away; its hosts are shown that, too.
    """
    if reads_only(current.plan) or not current.plan.locks:
        return
    past = current.past()
    if taken:
        with suppress(InputError):  # it is of another record, and known to the hosts alone
            past += current.store.entries(taken)
    show_newer(current.outside.targets, past)


def show_newer(targets: Driver, past: Iterable[Entry]) -> None:
    """Show the hosts that a run has opened that its locks have a newer holder."""
    opened = {
        (entry.event.host, str(entry.event.data.get("become") or ""))
        for entry in past
        if entry.event.kind == "host opened"
    }
    if not opened:
        return

    def show(spot: tuple[str, str]) -> None:
        with suppress(UnreachableError):  # it is said when something is to be done there
            targets.open(spot[0], writes=True, become=spot[1] or None)

    with ThreadPoolExecutor(min(100, len(opened))) as pool:
        list(pool.map(show, sorted(opened)))


def as_recorded(plan: Plan, past: Iterable[Entry]) -> Plan:
    """Let hosts be logged in to as they were: a run's traces are in that user's home."""
    users = {
        entry.event.host: str(entry.event.data.get("user") or "")
        for entry in past
        if entry.event.kind == "host opened" and not entry.event.data.get("become")
    }
    hosts = {
        name: replace(host, connection=replace(host.connection, user=users[name]))
        if users.get(name)
        else host
        for name, host in plan.hosts.items()
    }
    return replace(plan, hosts=hosts)
