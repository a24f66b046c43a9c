"""A schedule as a line for /etc/cron.d, with what cron itself does not do: a lock and a limit."""

import re
import shlex
from collections.abc import Sequence

from opskit.errors import InputError
from opskit.model.schedule import Schedule
from opskit.schedule.systemd import GRACE
from opskit.schedule.words import again, alert, command, seconds

LONGEST = 998
"""Bytes of a line; cron leaves out one that is longer, or cuts it."""


def line(schedule: Schedule, program: Sequence[str], folder: str) -> str:
    """Return the line of a schedule, under what it is about; InputError where cron can't do it."""
    where = str(schedule.place)
    if schedule.missed == "once":
        raise InputError(
            "cron does not make up for what was missed", where=where,
            hint="write missed: skip, or print it for systemd",
        )  # fmt: skip
    written = f"{schedule.at} {schedule.user} {shell(schedule, program, folder)}"
    if len(written.encode()) > LONGEST:
        raise InputError(
            f"the line would have {len(written.encode())} bytes, and some crons take {LONGEST}",
            where=where,
            hint="print it for systemd, which has no limit (without --as cron); or make it shorter:"
            " a runbook with these parameters in it, a shorter path of the folder or of opskit,"
            " which stand in it several times; or resolved: false",
        )  # fmt: skip
    zone = f"CRON_TZ={schedule.zone}"
    return f"# {schedule.name}\n{zone}\n{written}\n"


def shell(schedule: Schedule, program: Sequence[str], folder: str) -> str:
    """Return the command: what fails in it, the lock included, brings the alert about."""
    words = shlex.join(command(schedule, program))
    limit = f"timeout -k {GRACE} {seconds(schedule.longest)}"
    lock = f'flock -n "$HOME/.opskit-{schedule.name}.lock"'
    wait = ""
    if schedule.jitter >= 1:
        wait = f"sleep $(($(od -An -N2 -tu2 /dev/urandom) % {int(schedule.jitter)})) && "
    env = ""
    if schedule.environment:
        env = f"set -a && . {shlex.quote(schedule.environment)} && set +a && "
    hears = f"OPSKIT_SCHEDULE={schedule.name} /bin/sh -c {shlex.quote(alert(schedule, program))}"
    if schedule.tell:  # opskit goes by the folder that it stands in, and by its environment
        hears = f"(cd {shlex.quote(folder)}; {_if_there(schedule.environment)}{hears})"
    if over := again(schedule, program):
        words += f" && {{ {shlex.join(over)} || :; }}"
    # In brackets, as a file that is not there ends the shell that reads it.
    return for_cron(f"(cd {shlex.quote(folder)} && {env}{wait}{lock} {limit} {words}) || {hears}")


def _if_there(environment: str | None) -> str:
    """Read an environment; where none can be read that is heard of all the same."""
    if not environment:
        return ""
    path = shlex.quote(environment)
    # What is wrong in a file that is read ends the shell, so another one reads it first.
    return f"if (. {path}; :) >/dev/null 2>&1; then set -a; . {path}; set +a; fi; "


def for_cron(text: str) -> str:
    """Write shell text so that every cron hands it on as it is.

    A `%` without a backslash before it ends the command. Of two backslashes some take one away and
    some none, so none stands before another, nor before that `%`: all of them are in single quotes,
    which are closed and opened between.
    """
    return re.sub(r"\\(?=[\\%])", r"\\''", text).replace("%", "\\%")
