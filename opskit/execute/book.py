"""What a run knows while it goes: where actions stand, what they saved, who fell out."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from threading import Lock

from opskit.execute.told import Told
from opskit.model.event import Entry, Event
from opskit.model.job import Contact
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord
from opskit.model.states import ActionState
from opskit.model.value import Json, Secret
from opskit.plan import EXCLUDE, UNDO, Progress, state_of

TRIPPED = "too many hosts failed"
FAILED = "failed"
ASKED = "asked for"
DECIDED = "decided"
"""Why an undo began: too many hosts failed, these hosts failed, a person wanted it of a run, or
answered a run's question so."""
SHARED = ""
"""The key under which values are kept that a step saved for all hosts."""


class Book:
    """The state of a run, folded from its record and kept up to date as events are appended."""

    def __init__(self, plan: Plan, past: Iterable[Entry], facts: Mapping[str, Json]) -> None:
        self.plan = plan
        self.facts = facts
        self._secrets: dict[str, dict[str, Secret]] = {}
        self.unreachable: dict[str, str] = {}
        self.choices: dict[str, str] = {}
        self.tripped = False
        self.undoing = False
        """Whether too many hosts failed, so that an undo was begun that has not come to its end."""
        self.taking_back = False
        """Whether a person has decided that all is taken back, and it has not come to its end."""
        self.overridden = False
        """Whether a person has said that change windows do not hold this run up."""
        self.going_back: set[str] = set()
        """Hosts that failed alone and whose undo was begun."""
        self.scope: frozenset[str] | None = None
        """The hosts that a retry is about; None: all."""
        self.told = Told()
        self._saved: dict[str, dict[str, str]] = {}
        self._contacts: dict[str, Mapping[str, Contact]] = {}
        self._begun: dict[str, Mapping[str, Contact]] = {}
        self._progress = Progress()
        self._savers = [
            (action, save.name)
            for action in plan.actions
            if (save := plan.stage(action).save) is not None and save.secret
        ]
        self._lock = Lock()
        for entry in past:
            self.take(entry.event, entry.at)
        self._read_again()

    @property
    def records(self) -> Mapping[str, ActionRecord]:
        return self._progress.records

    @property
    def excluded(self) -> set[str]:
        """The hosts that a person has the run go on without."""
        return self._progress.excluded

    def state(self, action: Action) -> ActionState:
        return state_of(self.records, action.key)

    def of(self, key: str) -> ActionState:
        """Return how the action of a key stands."""
        return state_of(self.records, key)

    def attempt(self, action: Action) -> int:
        record = self.records.get(action.key)
        return record.attempt if record else 0

    def take(self, event: Event, at: float | None = None) -> None:
        """Take in an event that has been appended; `at` in UTC seconds (default: now)."""
        with self._lock:
            at = time.time() if at is None else at
            before = self.records[event.key].state if event.key in self.records else None
            self.told.take(event, before, at)
            self._progress.take(event, at)
            if event.kind == "host opened":
                self._opened(event)
            elif event.kind == "step started":
                self._begun[event.key] = self._contacts.get(str(event.data.get("target")), {})
            elif event.kind == "host unreachable":
                self.unreachable[event.host] = str(event.data.get("reason", ""))
            elif event.kind == "run created":
                self.overridden = bool(event.data.get("override_window"))
            elif event.kind == "decided":
                self._decided(event)
            elif event.kind == "budget tripped":
                self.tripped = True
            elif event.kind == "undo began":
                self._goes_back(event)
            elif event.kind == "run ended":
                self.undoing, self.going_back, self.scope = False, set(), None
                self.taking_back = self.overridden = False
            elif event.kind == "step ended" and "saved" in event.data:
                self._save(event)

    def _opened(self, event: Event) -> None:
        names = ("nonce", "boot_id", "state_dir", "user", "address")
        contact = Contact(**{name: str(event.data.get(name, "")) for name in names})
        become = str(event.data.get("become", ""))
        self._contacts[event.host] = {**self._contacts.get(event.host, {}), become: contact}

    def contact(self, action: Action, become: str | None) -> Contact | None:
        """Return what was heard from the target, before this action was last begun there."""
        with self._lock:
            return self._begun.get(action.key, {}).get(become or "")

    def _goes_back(self, event: Event) -> None:
        why, only = event.data.get("why"), event.data.get("only")
        self.undoing = self.undoing or why == TRIPPED
        if why == FAILED and isinstance(only, (list, tuple)):
            self.going_back |= set(map(str, only))

    def _decided(self, event: Event) -> None:
        """Take in an answer about an action, a host (tried again, left out) or the run."""
        choice, why = str(event.data.get("choice")), str(event.data.get("why"))
        if event.key:
            self.taking_back = self.taking_back or choice == UNDO
        elif event.host:
            self._answered(event.host)
            if choice != EXCLUDE:
                self.unreachable.pop(event.host, None)
            only = event.data.get("hosts")
            if why != "budget":
                self.scope = frozenset(map(str, only)) if isinstance(only, (list, tuple)) else None
        else:
            self.choices[why] = choice
            if why == "window":
                self.overridden = choice == "override"
                self.taking_back = choice == UNDO

    def _answered(self, host: str) -> None:
        """Let what followed from the fall of a host count no more."""
        self.tripped = self.undoing = self.taking_back = False
        self.going_back.discard(host)
        self.choices.clear()

    def _save(self, event: Event) -> None:
        saved = event.data["saved"]
        if isinstance(saved, Mapping):
            host = SHARED if event.data.get("shared") else event.host
            for name, value in saved.items():
                self._saved.setdefault(host, {})[name] = str(value)

    def _read_again(self) -> None:
        """Let reads that saved a secret be made again: in no record is what they brought."""
        for action in self._secretive():
            if self.plan.stage(action).effect == "read":
                record = self.records[action.key]
                self._progress.records[action.key] = replace(record, state="planned")

    def _secretive(self) -> list[Action]:
        """Return the actions that saved a secret which is not known here."""
        return [
            action
            for action, name in self._savers
            if self.state(action) == "succeeded" and name not in self.secrets(action)
        ]

    def forgetful(self) -> bool:
        """Tell whether a secret is not known here that may stand in what commands print."""
        return bool(self._secretive())

    def keep(self, action: Action, secret: Secret, *, shared: bool) -> None:
        """Keep a secret that a step has saved, for its host or for all; it is in no record."""
        with self._lock:
            self._secrets.setdefault(SHARED if shared else action.host, {})[secret.name] = secret

    def secrets(self, action: Action) -> Mapping[str, Secret]:
        """Return the secrets that steps have saved for the host of an action, or for all."""
        with self._lock:
            return {**self._secrets.get(SHARED, {}), **self._secrets.get(action.host, {})}

    def values(self, action: Action) -> Mapping[str, Json]:
        """Return what the late texts of an action may use: saved values, and facts of the run."""
        with self._lock:
            kept = {**self._saved.get(SHARED, {}), **self._saved.get(action.host, {})}
        names = self.plan.stage(action).names
        kept |= {name: kept[stored] for name, stored in names.items() if stored in kept}
        if action.host:
            return {**kept, "run": self.facts}
        found = self._by_host()
        found |= {name: found[stored] for name, stored in names.items() if stored in found}
        return {**kept, "run": self.facts, "by_host": found}

    def _by_host(self) -> dict[str, Mapping[str, Json]]:
        """Return each saved name → host → value, for an action that is for several hosts."""
        found: dict[str, dict[str, Json]] = {}
        with self._lock:
            for host, saved in self._saved.items():
                for name, value in saved.items() if host != SHARED else ():
                    found.setdefault(name, {})[host] = value
        return dict(found)
