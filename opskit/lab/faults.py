"""What goes wrong with practice hosts: freeze, cut, and heal again."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from pathlib import Path

from opskit.errors import OpskitError
from opskit.lab import ground, sockets
from opskit.lab.layout import CUT_FLAG, Host, Layout
from opskit.model.frozen import frozen

FROZEN = "frozen"
CUT = "cut"
ROUNDS = 50
SPINNERS = ("sshd", "nginx", "haproxy")


@frozen
class Cut:
    """How a host was cut off, and which sockets (by inode) heal must put right."""

    reset: bool
    refusing: tuple[str, ...] = ()
    silenced: tuple[str, ...] = ()


def freeze(layout: Layout, host: Host) -> None:
    """Stop every process of a host; its kernel goes on, as that of a hung machine may."""
    for _ in range(ROUNDS):
        running = [pid for pid in ground.of(layout).members(layout, host) if not _stopped(pid)]
        if not running:
            layout.flag(host, FROZEN).touch()
            return
        # Parents first, so that none of them sees a stopped child and makes something of it.
        _signal(running, signal.SIGSTOP)
        time.sleep(0.005)
    raise OpskitError(f"{host.name} starts processes faster than they can be stopped")


def cut(layout: Layout, host: Host, *, reset: bool = False) -> None:
    """Take a host off the net: what runs on it goes on, but nothing comes through.

    Without `reset` packets vanish, as on a dead line; where this user may not filter them, the
    programs that talk are stopped instead, and only those. With `reset` connections end by RST
    and ports refuse, as behind a firewall that rejects.
    """
    _flag_on_host(layout, host).touch()
    done = _load(layout, host) or Cut(reset=reset)
    _save(layout, host, done)
    mine: tuple[str, ...] = ()
    for _ in range(2):  # the second round finds what was accepted during the first
        done = _cut_once(layout, host, done, mine)
        mine = done.silenced
        _save(layout, host, done)
        time.sleep(0.02)


def _cut_once(layout: Layout, host: Host, done: Cut, mine: Collection[str]) -> Cut:
    """Cut what is there now; `mine`: what was just silenced, and is so."""
    pids = ground.of(layout).members(layout, host)
    listening, connected = sockets.of_host(pids)
    if done.reset:
        _stop_spinners(listening, pids)
        _reset((*listening, *connected))
        return Cut(reset=True, refusing=(*done.refusing, *listening))
    ends = (*listening, *connected, *sockets.far_ends(connected))
    try:
        _each([end for end in ends if end not in mine], sockets.silence)
    except PermissionError:
        _signal(_talkers({*listening, *connected}, pids), signal.SIGSTOP)
    return Cut(reset=False, silenced=tuple(sorted({*done.silenced, *ends})))


def _reset(inodes: Iterable[str]) -> None:
    try:
        _each(inodes, sockets.reset)
    except PermissionError as error:
        raise OpskitError(
            f"this machine does not let one process reach into another ({error})",
            hint="cut without --reset, or run the lab as root",
        ) from error


def _stop_spinners(listening: Iterable[str], pids: Iterable[int]) -> None:
    """These would ask a port that refuses for the next connection without a pause."""
    spinning = [pid for pid in pids if _program(pid) in SPINNERS]
    _signal(_talkers(set(listening), spinning), signal.SIGSTOP)


def _talkers(inodes: set[str], pids: Iterable[int]) -> list[int]:
    """The processes that hold one of these sockets."""
    return [pid for pid in pids if inodes & set(sockets.held_by([pid]))]


def heal(layout: Layout, host: Host) -> None:
    """Take back freeze and cut; what waited goes on."""
    uncut(layout, host)
    # Children first: a parent that wakes must find them running.
    _signal(reversed(ground.of(layout).members(layout, host)), signal.SIGCONT)
    layout.flag(host, FROZEN).unlink(missing_ok=True)


def uncut(layout: Layout, host: Host) -> None:
    """Let packets through again, and let ports that refuse accept."""
    done = _load(layout, host)
    if done is None:
        return
    with contextlib.suppress(OSError):  # the host may be down
        _flag_on_host(layout, host).unlink()
    listening, connected = sockets.of_host(ground.of(layout).members(layout, host))
    again = {*done.silenced, *listening, *connected}
    with contextlib.suppress(PermissionError):  # then nothing was silenced that way
        _each(again, sockets.unsilence)
        _each(done.refusing, sockets.listen)
    layout.flag(host, CUT).unlink()
    for other in layout.hosts:  # a connection between two cut hosts stays cut
        too = _load(layout, other) if other != host else None
        if too is not None and again & {*too.silenced}:
            cut(layout, other)


def state(layout: Layout, host: Host) -> str:
    """For a person: up, down, frozen, cut."""
    if ground.of(layout).first_process(layout, host) is None:
        return "down"
    flags = [what for what in (FROZEN, CUT) if layout.flag(host, what).exists()]
    return ", ".join(flags) or "up"


def forget(layout: Layout, host: Host) -> None:
    """A host that starts anew is neither frozen nor cut."""
    for what in (FROZEN, CUT):
        layout.flag(host, what).unlink(missing_ok=True)


def _each(inodes: Iterable[str], action: Callable[[socket.socket], None]) -> None:
    """Do it to every socket that is still there; raises PermissionError where it is forbidden."""
    wanted = dict.fromkeys(inodes)
    holders = sockets.everyone() if wanted else {}
    for inode in wanted:
        if inode not in holders:
            continue
        try:
            with sockets.borrowed(*holders[inode]) as peer:
                action(peer)
        except PermissionError:
            raise
        except OSError:
            continue  # its owner closed it meanwhile


def _flag_on_host(layout: Layout, host: Host) -> Path:
    """The file that tells a service which starts while its host is cut off."""
    return ground.of(layout).root(layout, host) / CUT_FLAG.lstrip("/")


def _load(layout: Layout, host: Host) -> Cut | None:
    try:
        value = json.loads(layout.flag(host, CUT).read_bytes())
    except FileNotFoundError:
        return None
    return Cut(
        reset=value["reset"],
        refusing=tuple(value["refusing"]),
        silenced=tuple(value["silenced"]),
    )


def _save(layout: Layout, host: Host, done: Cut) -> None:
    layout.flag(host, CUT).write_text(json.dumps(asdict(done)), encoding="ascii")


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _stopped(pid: int) -> bool:
    """Whether a process is stopped, or a zombie that has nothing left to stop."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in "TtZX"


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
