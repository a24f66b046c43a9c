"""What goes into a driver and what comes out."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.event import Outcome
from opskit.model.frozen import frozen
from opskit.model.inventory import Host
from opskit.model.runbook import Effect
from opskit.model.value import Json, Secret
from opskit.model.work import Work


@frozen
class Contact:
    """What a run heard from a host when it came there. `nonce` is empty where it can't write.

    The nonce stands in the run's directory on the host, for as long as that is the same directory;
    `boot_id` is the host's own, for as long as it has not been started anew.
    """

    nonce: str
    boot_id: str
    state_dir: str
    user: str
    address: str


@frozen
class Job:
    """One attempt at one action, all late parts filled. `timeout` in seconds.

    `secrets` has the value of every secret that the work names. `capture`: how many bytes of
    standard output to hand back in `Output.stdout` (the whole output goes to the sink). `contact`:
    what was heard from the host before this attempt was recorded as started.
    """

    run: str
    key: str
    attempt: int
    host: Host
    work: Work
    effect: Effect
    timeout: float
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    capture: int = 1024 * 1024
    contact: Contact | None = None


@frozen
class Trace:
    """What a host says now of an attempt, to who only looks.

    `status`: what it ended with. `says` is a sentence without its beginning and its end.
    """

    state: Literal["ended", "running", "never began", "can't tell", "unreachable"]
    says: str
    status: int | None = None


@frozen
class Output:
    """What an attempt came to.

    `sent` is False when it is certain that nothing was started on the target (no connection, no
    room, refused); `unreachable` when that was for want of a connection. `lost`: the line broke,
    and the host may know more than this says. `again`: it was never started, and the host has been
    kept from ever starting this attempt, or a server has taken it back as a whole and asks for it
    anew; another may follow without anybody's leave. With `part` some of it was done, and another
    attempt goes on with the rest and does nothing of that anew. `reason` says
    in a sentence what happened where the outcome is not *succeeded*. `evidence` is public JSON.
    """

    outcome: Outcome
    status: int | None = None
    stdout: bytes = b""
    reason: str = ""
    sent: bool = True
    unreachable: bool = False
    lost: bool = False
    again: bool = False
    part: bool = False
    evidence: Mapping[str, Json] = field(default_factory=dict)
