"""Shell text that calls itself a read: which of its commands write, as far as their names tell."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from opskit.load.shellwords import Simple, Word, simple_commands


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_INSTEAD = (
    "put messages aside with queue-park, which keeps each (docs/how-to/queues.md); empty a"
    " database with a `redis` step, which looks first whether a queue lives there"
)
_VERBS = _set(
    "rm rmdir mv cp ln install mkdir touch truncate tee dd shred unlink mknod mkfifo mktemp "
    "fallocate chmod chown chgrp chattr setfacl patch rsync scp sftp unzip gzip gunzip bzip2 xz "
    "kill pkill killall skill reboot shutdown halt poweroff telinit "
    "useradd userdel usermod groupadd groupdel groupmod passwd chpasswd visudo "
    "mount umount swapon swapoff mkswap mkfs fdisk parted losetup lvcreate lvremove lvextend "
    "modprobe insmod rmmod apt apt-get dpkg yum dnf rpm apk pip pip3 npm gem logger at batch "
    "createdb dropdb pg_restore reindexdb vacuumdb"
)
_WRAPPERS = _set(
    "sudo doas env nohup nice ionice timeout time command exec xargs setsid stdbuf chroot"
)
_ASKING = _set("list show info freeze search policy audit -l -s -S -L -W -V --list --version")
_SUBCOMMANDS = {
    "systemctl": "start stop restart reload try-restart reload-or-restart enable disable mask "
    "unmask kill daemon-reload daemon-reexec isolate set-property edit link revert reset-failed "
    "set-default reboot poweroff halt preset",
    "service": "start stop restart reload force-reload try-restart",
    "git": "add am apply checkout cherry-pick clean clone commit fetch gc init merge mv pull push "
    "rebase reset restore revert rm stash switch tag",
    "docker": "build commit cp create exec kill load pause prune pull push rename restart rm rmi "
    "run start stop tag unpause update",
    "kubectl": "annotate apply autoscale cordon cp create delete drain edit exec expose label "
    "patch replace rollout run scale set taint uncordon",
    "ip": "add del delete set flush replace change",
    "hostnamectl": "set-hostname hostname",
    "timedatectl": "set-time set-timezone set-ntp",
    "loginctl": "terminate-session kill-session terminate-user kill-user enable-linger",
    "supervisorctl": "start stop restart reload reread update shutdown clear",
}
_OPTIONS = {
    "sed": re.compile(r"-[a-zA-Z]*i.*|--in-place.*"),
    "perl": re.compile(r"-[a-zA-Z]*i.*"),
    "sort": re.compile(r"-o.*|--output.*"),
    "find": re.compile(r"-delete|-exec|-execdir|-ok|-fprint.*|-fls"),
    "crontab": re.compile(r"-[re]|-|[^-].*"),
    "sysctl": re.compile(r"-w|--write|-p|[\w.]+=.*"),
    "nginx": re.compile(r"-s"),
    "haproxy": re.compile(r"-sf|-st"),
    "date": re.compile(r"-s|--set.*"),
    "hostname": re.compile(r"[^-].*"),
}
_CELERY = _set("purge control call migrate worker beat multi amqp")
_CELERY_OPTIONS = _set("-A --app -b --broker --result-backend --loader --config --workdir")
_CLIENTS = frozenset({"redis-cli", "valkey-cli"})
_LAUNCHERS: Mapping[str, int] = {
    **dict.fromkeys(("uv", "poetry", "pipenv", "pdm", "hatch", "pixi", "rye"), 0),
    **dict.fromkeys(("docker", "podman", "nerdctl", "docker-compose", "kubectl", "oc"), 1),
}
"""With how many words it is said where a command is run (`run`, `exec`), before the command."""
_LAUNCHING = _set(
    "-C -P -p --directory --project --with --with-requirements --python --env-file --extra --group "
    "--package --index --default-index -e --env -u --user -w --workdir -f --file --profile "
    "--project-name --project-directory -H --host --context --name --network -v --volume "
    "--entrypoint --label -h --hostname -n --namespace -c --container "
    "--kubeconfig --cluster -s --server --as"
)
"""Options of these that want a value."""
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
_PACKAGES = _set("dpkg rpm apt apk pip pip3 npm gem")
_HARMLESS = re.compile(r"/dev/(null|stdout|stderr|tty|fd/\d+)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_NUMBER = re.compile(r"\d+(\.\d+)?[smhd]?")


class Wrong(NamedTuple):
    """What is wrong about shell text, and where."""

    offset: int
    what: str
    write: str
    warn: bool = False


def wrong(text: str, *, reads: bool) -> Iterator[Wrong]:
    """Yield what throws away what waits in queues, and of a read what seems to write."""
    for offset, what in losing(text):
        told = f"`{what}` throws away what waits in queues, and nothing of it is kept"
        yield Wrong(offset, told, _INSTEAD)
    for offset, what in writing(text) if reads else ():
        cure = "say effect: change, or write it without"
        yield Wrong(offset, f"a read that writes: {what}", cure, warn=True)


@lru_cache(maxsize=1024)
def writing(text: str, depth: int = 0) -> tuple[tuple[int, str], ...]:
    """Return where shell text seems to write, and with what. Commands it doesn't know pass."""
    return tuple(
        found
        for simple in simple_commands(text)
        for found in (*_redirections(simple), *_command(simple, depth))
    )


def losing(text: str, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield where shell text would throw away what waits in queues, and by what."""
    for simple in simple_commands(text):
        words = _launched(_unwrapped(simple.words))
        verb = _program(words[0].text) if words else ""
        rest = [word.text for word in words[1:]]
        if verb in _SHELLS or verb == "eval":
            for offset, inner in _inner(words[1:], depth, command=verb == "eval"):
                yield from ((offset, told) for _, told in losing(inner, depth + 1))
            continue
        if "celery" in rest and rest[: rest.index("celery")][-1:] == ["-m"]:  # python -m celery
            verb, rest = "celery", rest[rest.index("celery") + 1 :]
        plain = _celery_words(rest) if verb == "celery" else _redis_words(rest)
        if verb == "celery" and (plain[:1] == ["purge"] or "queue.purge" in plain):
            yield words[0].offset, "celery purge"
        elif verb in _CLIENTS and plain[:1] in (["flushdb"], ["flushall"]):
            yield words[0].offset, f"{verb} {plain[0].upper()}"


def _redirections(simple: Simple) -> Iterator[tuple[int, str]]:
    for operator, target in simple.outputs:
        descriptor = operator == ">&" and (target.text.isdigit() or target.text == "-")
        if not descriptor and not _HARMLESS.fullmatch(target.text):
            yield target.offset, f"{operator} {target.text[:60]}"


def _command(simple: Simple, depth: int) -> Iterator[tuple[int, str]]:
    words = _unwrapped(simple.words)
    if not words:
        return
    verb = _program(words[0].text)
    rest = words[1:]
    if verb in _SHELLS or verb == "eval":
        for offset, inner in _inner(rest, depth, command=verb == "eval"):
            yield from ((offset, told) for _, told in writing(inner, depth + 1))
    elif _writes(verb, rest):
        told = " ".join(word.text for word in words[:2])
        yield words[0].offset, told[:60]


def _program(path: str) -> str:
    return path.rpartition("/")[2]


def _unwrapped(words: Sequence[Word]) -> Sequence[Word]:
    """Leave out assignments, and programs that only start another (sudo, env, timeout …)."""
    index = 0
    wrapped = False
    while index < len(words):
        text = words[index].text
        if _program(text) in _WRAPPERS:
            wrapped = True
        elif not _ASSIGNMENT.match(text) and not (
            wrapped and (text.startswith("-") or _NUMBER.fullmatch(text))
        ):
            break
        elif wrapped and text in ("-u", "-g", "-I", "--user", "-U"):
            index += 1  # its argument is no command
        index += 1
    return words[index:]


def _launched(words: Sequence[Word]) -> Sequence[Word]:
    """Leave out what runs another program in an environment or a container (uv, docker …)."""
    names = _LAUNCHERS.get(_program(words[0].text)) if words else None
    if names is None:
        return words
    at = _plain(words, 1)
    if at < len(words) and words[at].text in ("compose", "container"):
        at = _plain(words, at + 1)
    if at >= len(words) or words[at].text not in ("run", "exec"):
        return words
    at = _plain(words, at + 1)
    for _ in range(names):
        at = _plain(words, at + 1)
    return _launched(_unwrapped(words[at:]))


def _plain(words: Sequence[Word], at: int) -> int:
    """Return where the next word is that is neither an option nor what an option wants."""
    while at < len(words) and words[at].text.startswith("-"):
        if words[at].text == "--":
            return at + 1
        at += 2 if words[at].text in _LAUNCHING else 1
    return at


def _inner(words: Sequence[Word], depth: int, *, command: bool) -> Iterator[tuple[int, str]]:
    """Return the text in `sh -c '…'` and `eval '…'`, and where it stands."""
    for word in words:
        if command and depth < 3:
            yield word.offset, word.text
            return
        command = bool(re.fullmatch(r"-[a-z]*c", word.text))


def _writes(verb: str, rest: Sequence[Word]) -> bool:
    """Tell whether a command with these arguments writes, as far as is known of it."""
    arguments = [word.text for word in rest]
    if verb in _SPECIAL:
        return _SPECIAL[verb](arguments)
    if verb in _PACKAGES:
        return bool(arguments) and arguments[0] not in _ASKING and arguments[0][:2] != "-q"
    if verb in _VERBS or verb.startswith("mkfs."):
        return not {"--help", "--version"} & set(arguments)
    if verb in _SUBCOMMANDS:
        known = _SUBCOMMANDS[verb].split()
        plain = [a.lower() for a in arguments if not a.startswith("-")]
        return any(a in known for a in plain[:2])
    option = _OPTIONS.get(verb)
    return option is not None and any(option.fullmatch(a) for a in arguments)


def _tee(arguments: list[str]) -> bool:
    return any(not _HARMLESS.fullmatch(a) for a in arguments if not a.startswith("-"))


def _celery(arguments: list[str]) -> bool:
    """Tell whether queues are purged, or workers told or begun; what options have is no command."""
    words = _celery_words(arguments)
    return bool(words) and words[0] in _CELERY


def _celery_words(arguments: list[str]) -> list[str]:
    return [a for before, a in zip(["", *arguments], arguments, strict=False)
            if not a.startswith("-") and before not in _CELERY_OPTIONS]  # fmt: skip


def _dd(arguments: list[str]) -> bool:
    return any(a.startswith("of=") and not _HARMLESS.fullmatch(a[3:]) for a in arguments)


def _kill(arguments: list[str]) -> bool:
    return arguments[:1] not in (["-0"], ["-l"], ["-L"])


def _tar(arguments: list[str]) -> bool:
    return bool(arguments) and _TAR.fullmatch(arguments[0]) is not None


def _wget(arguments: list[str]) -> bool:
    return not {"--spider", "-O-", "-qO-"} & set(arguments)


def _curl(arguments: list[str]) -> bool:
    """Output to /dev/null and `-X GET` write nothing."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)  # of no word there is no pair
    return any(
        _CURL.fullmatch(option)
        for option, value in pairs
        if not _HARMLESS.fullmatch(value) and value not in ("GET", "HEAD", "-")
    )


def _redis(arguments: list[str]) -> bool:
    plain = _redis_words(arguments)
    if plain[:1] == ["config"]:
        return plain[1:2] not in ([], ["get"])
    return plain[:1] != [] and plain[0] in _REDIS


def _redis_words(arguments: list[str]) -> list[str]:
    """The first word that is neither an option nor what an option wants is the command."""
    rest = iter(arguments)
    words = [word for word in rest if not _option_with_value(word, rest, _REDIS_OPTIONS)]
    return [word.lower() for word in words if not word.startswith("-")]


def _option_with_value(word: str, rest: Iterator[str], options: frozenset[str]) -> bool:
    """Step over an option and its value, if the word is one that has a value."""
    return word in options and next(rest, None) is not None


def _sql(arguments: list[str]) -> bool:
    """`-c TEXT`, `-e TEXT` and their like; for sqlite3 any word. A file may hold anything."""
    return any(word in ("-f", "--file") or _statement(word) for word in arguments)


def _statement(word: str) -> bool:
    text = re.sub(r"^(?:-[ce]|--(?:command|execute)=)", "", word)
    return any(_SQL.match(one) for one in text.split(";"))


_REDIS = _set(
    "append blmove blpop brpop copy decr decrby del eval evalsha expire expireat fcall flushall "
    "flushdb function getdel getex getset hdel hincrby hmset hset hsetnx incr incrby incrbyfloat "
    "linsert lmove lpop lpush lrem lset ltrim migrate move mset msetnx persist pexpire pfadd "
    "psetex publish rename renamenx replicaof restore rpop rpoplpush rpush sadd set setex setnx "
    "setrange shutdown slaveof smove spop srem swapdb unlink xadd xdel xtrim zadd zincrby zrem"
)
_REDIS_OPTIONS = _set("-h -p -s -a -u -r -i -n -d -D -t --user --pass --cacert --cert --key --sni")
_SQL = re.compile(
    r"""\s*(?:(?:insert|update|delete|merge|truncate|drop|alter|create|grant|revoke|vacuum|reindex
    |cluster|refresh|replace|rename|call|do|lock|import)\s
    |with\b.*\b(?:insert\s+into|update|delete\s+from)\s
    |copy\b.*\b(?:from|program)\b
    |select\b.*\bpg_(?:terminate|cancel)_backend\b)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_TAR = re.compile(r"-?[a-zA-Z]*[xcru][a-zA-Z]*|--(extract|get|create|append|update|delete)")
_CURL = re.compile(
    r"-[a-zA-Z]*[oOdFTX]|--(output|remote-name|data.*|form|upload-file|json|request)"
)
_SPECIAL: Mapping[str, Callable[[list[str]], bool]] = {
    "tee": _tee,
    "dd": _dd,
    "kill": _kill,
    "tar": _tar,
    "wget": _wget,
    "curl": _curl,
    "redis-cli": _redis,
    "valkey-cli": _redis,
    "celery": _celery,
    "psql": _sql,
    "mysql": _sql,
    "mariadb": _sql,
    "sqlite3": _sql,
}
