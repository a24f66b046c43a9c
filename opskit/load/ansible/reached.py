"""Ansible's vars about connecting → opskit's connection; what has no equal there is told of."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from opskit.load.ansible.gathered import Gathered, Var
from opskit.load.keys import ADDRESS
from opskit.model.value import Json

_ADDRESS = ("ansible_host", "ansible_ssh_host")
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_KEY = ("ansible_private_key_file", "ansible_ssh_private_key_file")
_PATIENCE = ("ansible_timeout", "ansible_ssh_timeout")
_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_PROTOCOL = "ansible_connection"
_KEYS_CHECKED = ("ansible_host_key_checking", "ansible_ssh_host_key_checking")
USED = frozenset(
    (*_ADDRESS, *_PORT, *_USER, *_KEY, *_PATIENCE, *_ARGUMENTS, *_KEYS_CHECKED, _PROTOCOL)
)
"""The vars that say how a host is reached. Of several that mean one thing the last wins."""
_SECRET = re.compile(r"ansible_\w*(pass|password|passphrase)|ansible_(ssh_)?private_key")
_SSH = frozenset({"ssh", "smart", "paramiko", "paramiko_ssh"})
_OUT = "leave it out: `without_vars` under `ansible` in an opskit inventory"
_HOST_OUT = "leave the host out: `hosts` under `ansible` in an opskit inventory, as 'all:!NAME'"
_JUMP = re.compile(r"(?:[\w.%+-]+@)?(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_HARMLESS_WORDS = """
    controlmaster controlpersist controlpath serveraliveinterval serveralivecountmax
    tcpkeepalive compression loglevel batchmode identitiesonly passwordauthentication requesttty
    kbdinteractiveauthentication challengeresponseauthentication preferredauthentications
    forwardagent forwardx11 connectionattempts gssapiauthentication checkhostip updatehostkeys
    hashknownhosts visualhostkey addkeystoagent exitonforwardfailure
"""
_HARMLESS = frozenset(_HARMLESS_WORDS.split())
"""Options of ssh that don't say to whom it connects, and that opskit has its own way for."""
_FLAGS = frozenset({"-C", "-q", "-T", "-x", "-A", "-a"})
_NO = frozenset({"false", "no", "off", "0", "n", "f"})


class Reached(NamedTuple):
    """Where a host is, and what of opskit's connection is said about it."""

    address: str
    connection: Mapping[str, Json]


def reached(name: str, found: Mapping[str, Var], into: Gathered) -> Reached:
    """Return how a host is reached; what can't be honoured is a problem where it is said."""
    return _Reading(name, found, into).read()


class _Reading:
    def __init__(self, name: str, found: Mapping[str, Var], into: Gathered) -> None:
        self.name = name
        self.found = found
        self.into = into
        self.connection: dict[str, Json] = {}

    def read(self) -> Reached:
        self._refused()
        self._protocol()
        self._told()
        address = self._text(_ADDRESS, ADDRESS, "a name or an IP address") or self.name
        self._put("user", self._text(_USER, r"[^\s:@]{1,64}", "the name of a user"))
        self._put("port", self._number(_PORT, 65535))
        self._put("connect_timeout", self._number(_PATIENCE, 3600))
        key = self._text(_KEY, r"(?s).+", "the path of a private key")
        if key is not None:
            self._put("key", _absolute(key))
        for name in _ARGUMENTS:
            if name in self.found:
                self._arguments(name, self.found[name])
        return Reached(address, self.connection)

    def _put(self, key: str, value: Json) -> None:
        if value is not None:
            self.connection[key] = value

    def _error(self, name: str, what: str, write: str) -> None:
        self.into.error(self.found[name].place, what, write)

    def _refused(self) -> None:
        for name in self.found:
            if _SECRET.fullmatch(name):
                told = f"`{name}` is a secret that opskit would not use: it logs in with keys,"
                told += " and sudo must not ask"
                self._error(name, told, _OUT)

    def _protocol(self) -> None:
        if _PROTOCOL not in self.found:
            return
        how = self._known(_PROTOCOL)
        if how is None:
            return
        bare = str(how).removeprefix("ansible.builtin.")
        if bare == "local":
            told = f"`{_PROTOCOL}=local`: what runs on this machine is a step with `on: controller`"
            self._error(_PROTOCOL, told, _HOST_OUT)
        elif bare not in _SSH:
            told = f"`{_PROTOCOL}` is {str(how)[:40]!r}, and opskit reaches hosts by SSH only"
            self._error(_PROTOCOL, told, _HOST_OUT)

    def _told(self) -> None:
        """Tell of what opskit does in its own way, whatever is said."""
        if "ansible_become" in self.found and not self._is_no("ansible_become"):
            told = "`ansible_become` has no meaning here"
            self.into.warn(self.found["ansible_become"].place, told, "steps say `sudo: USER`")
        for name in _KEYS_CHECKED:
            if name in self.found and self._is_no(name):
                self._keys_checked(name)

    def _keys_checked(self, name: str) -> None:
        told = "host keys are checked all the same"
        self.into.warn(self.found[name].place, told, "`opskit hosts trust` learns them")

    def _is_no(self, name: str) -> bool:
        return str(self.found[name].value).lower() in _NO

    def _known(self, name: str) -> Json:
        var = self.found[name]
        if var.unknown:
            told = f"`{name}` says how {self.name} is reached, and {var.unknown}"
            self._error(name, told, f"write the value here, or {_OUT}")
            return None
        return var.value

    def _last(self, names: tuple[str, ...]) -> str | None:
        there = [name for name in names if name in self.found]
        return there[-1] if there else None

    def _text(self, names: tuple[str, ...], pattern: str, what: str) -> str | None:
        name = self._last(names)
        value = self._known(name) if name is not None else None
        if name is None or value is None:
            return None
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        if not re.fullmatch(pattern, text):
            self._error(name, f"`{name}` is not {what}", "write one, or take it out")
            return None
        return text

    def _number(self, names: tuple[str, ...], most: int) -> int | None:
        name = self._last(names)
        value = self._known(name) if name is not None else None
        if name is None or value is None:
            return None
        text = str(value) if not isinstance(value, bool) else ""
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= most:
            self._error(name, f"`{name}` is no number from 1 to {most}", "write one")
            return None
        return int(text)

    def _arguments(self, name: str, var: Var) -> None:
        """Take the options of ssh that opskit has an equal for; refuse what it has none for."""
        value = self._known(name)
        try:
            words = shlex.split(value) if isinstance(value, str) else []
        except ValueError:
            self._error(name, f"`{name}` has a quote that is not closed", "close it")
            return
        while words:
            word = words.pop(0)
            if word in _FLAGS:
                continue
            if word[:2] in ("-o", "-J"):
                said = word[2:] or (words.pop(0) if words else "")
                if word[:2] == "-J":
                    self._jump(name, said)
                else:
                    key, _, rest = said.replace(" ", "=", 1).partition("=")
                    self._option(name, key.strip().lower(), rest.strip())
            else:
                self._unhonoured(name, f"the word {word[:20]!r}" if word[0] == "-" else "a word")

    def _option(self, name: str, key: str, value: str) -> None:
        if key == "proxyjump":
            self._jump(name, value)
        elif key == "stricthostkeychecking":
            if value.lower() not in ("yes", "ask"):
                self._keys_checked(name)
        elif key == "userknownhostsfile" and " " not in value:
            if value == "/dev/null":
                self._keys_checked(name)
            else:
                self._put("known_hosts", _absolute(value))
        elif key == "connecttimeout" and re.fullmatch("[1-9][0-9]{0,3}", value):
            self._put("connect_timeout", int(value))
        elif key not in _HARMLESS:
            self._unhonoured(name, f"the option {key[:40]!r}")

    def _jump(self, name: str, value: str) -> None:
        if value.lower() == "none":
            self.connection.pop("jump", None)
        elif _JUMP.fullmatch(value):
            self._put("jump", value)
        else:
            told = f"the jump host in `{name}` can't be read, or there are several"
            self._error(name, told, "USER@HOST:PORT; write others into an ssh_config")

    def _unhonoured(self, name: str, what: str) -> None:
        told = f"`{name}` has {what}, which opskit would not honour"
        write = "write it into a file that `ssh_config` under `connection` names, and "
        self._error(name, told, write + _OUT)


def _absolute(path: str) -> str:
    """Return where a path leads: for Ansible relative ones count from where one works."""
    return path if path.startswith("~") else str(Path(path).absolute())
