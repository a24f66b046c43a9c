"""What is recorded (Event) and what is only passing by (Chunk)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.value import Json

EventKind = Literal[
    "run created",
    "run resumed",
    "run imported",
    "host opened",
    "host unreachable",
    "step started",
    "step silent",
    "step ended",
    "step skipped",
    "message",
    "waiting",
    "decided",
    "plan amended",
    "note",
    "budget tripped",
    "undo began",
    "run ended",
]
Outcome = Literal["succeeded", "failed", "unknown"]


@frozen
class Event:
    """One fact about a run. `key`, `host`, `step` say of which action; `data` the rest.

    data by kind:
      run created    kind (run|preview|exec|notify), runbook, version, plan (digest), who, from,
                     reason, command, hosts {name: user@address:port}, stole (the run whose locks
                     it took away), store, number, previous (hash of the run before), instead_of
                     (the store that could not be reached)
      run resumed    who, from
      run imported   who, from, store and number (of the run in it)
      host opened    nonce, boot_id, state_dir, user, address; become (the user of sudo)
      host unreachable  reason (nothing was sent; its actions stay planned)
      step started   target, digest (SHA-256 of the filled work), tries_left (after this one)
      step silent    seconds (how long nothing was heard of it), over (it has printed again)
      step ended     outcome, status (exit), seconds, reason, stdout {bytes, sha256, cut}, stderr,
                     saved (the value, when public), evidence, sent (false: never reached the
                     host), unreachable, lost (the line broke; the host may know more), again (never
                     started, and never will be: another attempt needs no leave), tries_left; in an
                     undo also undoes (key) and last (bool: with it the original is undone)
      step skipped   why
      message        text; where it goes to channels: severity, to, first (the attempt that first
                     had it); what became of it in one: channel, delivered, held, severity, reason,
                     tries, seconds
      waiting        why (confirm|manual|unknown|left unknown|failed|budget|pause|interrupted),
                     question, choices, hosts (budget: those that fell out)
      decided        who, choice, why (of the question), reason, evidence (a list of objects: what
                     the record, the hosts and done_when said before the choice)
      plan amended   who, parameters (those that have another value now), hosts (that have it from
                     here on), kept (hosts that come to their end with the value before), steps
                     {position: where its text is a new one}, plan (digest), documents
                     {plan: digest}; from here on the run carries out this plan
      note           who, text
      budget tripped failed (host names), limit
      undo began     hosts, why
      run ended      status, hosts {name: state}, exit, plan (digest of the one it ended with)
    """

    kind: EventKind
    key: str = ""
    host: str = ""
    step: str = ""
    attempt: int = 0
    data: Mapping[str, Json] = field(default_factory=dict)


@frozen
class Entry:
    """An event as it stands in the record. `at` is UTC seconds; `hash` chains to `previous`."""

    run: str
    number: int
    at: float
    previous: str
    hash: str
    event: Event


@frozen
class Chunk:
    """Some output of a running action, as it arrives: raw bytes, not masked yet."""

    key: str
    host: str
    attempt: int
    stream: Literal["stdout", "stderr"]
    data: bytes
