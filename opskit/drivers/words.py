"""A command as the words that the shim takes."""

import re

from opskit.model.job import Job
from opskit.model.text import Text
from opskit.model.value import SecretRef
from opskit.model.work import Command

_PROGRAM = re.compile(r"[A-Za-z0-9/.][A-Za-z0-9_@%+:,./-]*( +[A-Za-z0-9_@%+:,./=-]+)*")
_BUILTIN = """
    . : alias bg bind break builtin caller case cd chdir command compgen complete compopt
    continue coproc declare dirs disown do done echo elif else enable esac eval exec exit
    export expr false fc fg fi for function getopts hash help hist history if in jobs kill
    let local logout mapfile newgrp nocorrect popd print printf pushd pwd read readarray
    readonly return select set shift shopt sleep source suspend test then time times trap
    true type typeset ulimit umask unalias unset until wait whence while
"""
"""What a sh may do by itself, in any sh that there is: left to it."""
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_BUILTINS = frozenset(_BUILTIN.split())


def words(job: Job, work: Command, mark: str = "") -> tuple[str, ...]:
    """Return the shim's words for a command; ValueError for what no shell can be given.

    `mark`: by which a read's processes are known, as the shim itself sees to it for a change.
    """
    stdin = ""
    if isinstance(work.stdin, SecretRef):
        stdin = job.secrets[work.stdin.name].reveal()
    elif isinstance(work.stdin, Text):
        stdin = work.stdin.fixed()
    for name in work.secrets:
        if not re.fullmatch(_NAME, name):
            raise ValueError(f"{name!r} is no name for an environment variable")
    environment = [f"{n}={job.secrets[s].reveal()}" for n, s in work.secrets.items()]
    environment += [f"OPSKIT_ACTION={mark}"] if mark else []
    result = (
        work.cwd.fixed() if work.cwd is not None else "",
        "1" if work.stdin is not None else "0",
        stdin,
        _kind(work),
        work.text.fixed(),
        str(len(environment)),
        *environment,
        *(argument.fixed() for argument in work.args),
    )
    if any("\0" in word for word in result):
        raise ValueError("it contains a NUL byte, which no shell can be given")
    return result


def _kind(work: Command) -> str:
    """A text that is one program with plain words needs no shell between: it saves forks."""
    if not work.shell:
        return "script"
    text = work.text.fixed().strip()
    alone = _PROGRAM.fullmatch(text) and not work.args
    return "exec" if alone and text.split(" ", 1)[0] not in _BUILTINS else "sh"
