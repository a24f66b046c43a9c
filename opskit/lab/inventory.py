"""The inventory that a lab writes for opskit. Pure; a JSON text is the scalar that YAML reads."""

import json
import re
from collections.abc import Iterable, Mapping

from opskit.errors import InputError
from opskit.lab import address
from opskit.lab.layout import BROKER, Host, Layout, Role, Server
from opskit.lab.texts import HAPROXY_CONF

Value = Mapping[str, object]
SECRET = "postgres_owner"
CACHE_SECRET = "redis_app"
PLAIN = re.compile(r"[a-z/][A-Za-z0-9/_.-]*")
RESERVED = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def text(layout: Layout, overrides: Mapping[str, Value]) -> str:
    """The whole file; `overrides` holds further keys of single hosts."""
    blocks = [
        f"# A practice fleet, made by: opskit lab up ({layout.mode}). Gone with: opskit lab down.",
        "opskit: 1",
        f"connection: {_flow(_connection(layout))}",
        "hosts:",
        *(
            _line(host.name, {"address": host.address} | dict(overrides.get(host.name, {})))
            for host in layout.hosts
        ),
        "groups:",
        *(
            _line(role.value, {"hosts": _names(layout.of(role))})
            for role in Role
            if layout.of(role)
        ),
        *(_line(name, {"hosts": _names(hosts)}) for name, hosts in layout.colours.items()),
        *([_line("workers", {"hosts": _names(layout.of(Role.WEB))})] if layout.broker else []),
        "services:",
        *_lines("app", _service(layout)),
    ]
    if layout.of(Role.LB):
        blocks += ["balancers:", *_lines("web", _balancer(layout.of(Role.LB)[0]))]
        if layout.colours:
            blocks += _lines("app", _colours(layout.of(Role.LB)[0]))
        if layout.haproxy:
            blocks += _lines("edge", _haproxy(layout))
    secrets: dict[str, str] = {}
    for server in layout.servers:
        if server.name == "postgres":
            lines = (_line(name, _database(server, name)) for name in server.databases)
            blocks += ["databases:", *lines]
            secrets[SECRET] = f"file:{layout.secret(SECRET)}"
        if server.name == "redis":
            blocks += ["redis:", _line("cache", _redis(server, 0))]
            blocks += [_line("broker", _redis(server, BROKER))] if layout.broker else []
            secrets[CACHE_SECRET] = f"file:{layout.secret(CACHE_SECRET)}"
    if secrets:
        blocks.append(f"secrets: {_flow(secrets)}")
    return "\n".join([*blocks, ""])


def _database(server: Server, name: str) -> Value:
    """Changes as the owner; what reads can't write."""
    where = f"postgresql://owner@{server.address}:{server.port}/{name}"
    return {"url": where, "password": SECRET, "read_role": "opskit_read"}


def _redis(server: Server, index: int) -> Value:
    """As the application, which may do all that is not dangerous."""
    return {"url": f"redis://app@{server.address}:{server.port}/{index}", "password": CACHE_SECRET}


def _connection(layout: Layout) -> Value:
    return {
        "user": layout.user,
        "port": address.SSH,
        "key": str(layout.key),
        "known_hosts": str(layout.known_hosts),
        "state_dir": "~/.opskit",
    }


def _service(layout: Layout) -> Value:
    queue = {"queue": queue_keys(layout)} if layout.broker else {}
    return {
        "hosts": "web",
        "root": "/srv/app",
        "port": address.SERVICE,
        "health": "/health/",
        "restart": "labctl restart app",
        "pids": "labctl pids app",
        "user": None,
        **queue,
    }


def queue_keys(layout: Layout, folder: str = "") -> Value:
    """What takes messages from the queues of the broker; `folder`: where its programs are."""
    labctl, labworker = f"{folder}labctl", f"{folder}labworker"
    return {
        "workers": [f"celery@{host.name}" for host in layout.of(Role.WEB)],
        "celery": labworker,
        "canary": f"{labworker} canary",
        "stop": f"{labctl} pids worker | xargs -r kill -s TERM",
        "start": f"{labctl} start worker",
        "pids": f"{labctl} pids worker",
    }


def _balancer(first: Host) -> Value:
    return {
        "type": "nginx",
        "hosts": "lb",
        "members": "web",
        "port": address.SERVICE,
        "file": "/etc/nginx/opskit/web.conf",
        "test": "nginx -t",
        "reload": "nginx -s reload",
        "pid": "/run/nginx.pid",
        "error_log": "/var/log/nginx/error.log",
        "log": "/var/log/nginx/access.log",
        "log_fields": {"side": 2, "status": 1, "time": 4},
        "sudo": "root",
        "listen": listen(first),
    }


def _colours(first: Host) -> Value:
    return {
        **_balancer(first),
        "file": "/etc/nginx/opskit/active.conf",
        "colours": {"blue": "app_blue", "green": "app_green"},
        "health": "/health/",
        "listen": listen_colours(first),
    }


def _haproxy(layout: Layout) -> Value:
    return {
        "type": "haproxy",
        "hosts": "lb",
        "members": "web",
        "port": address.SERVICE,
        "socket": "/run/haproxy.sock",
        "backend": "app",
        "state_file": "/var/lib/haproxy/states",
        "test": f"haproxy -c -f {HAPROXY_CONF}",
        "colours": {name: _names(hosts) for name, hosts in layout.colours.items()},
        "latency": "mean",
        "health": "/health/",
        "sudo": "root",
        "listen": listen_haproxy(layout.of(Role.LB)[0]),
    }


def front(layout: Layout, name: str) -> str:
    """Where the first host of a balancer takes requests; raises InputError when there is none."""
    hosts = layout.of(Role.LB)
    if not hosts:
        raise InputError("this lab has no balancer", hint="give a --url, or: lab up --lb 1")
    if name == "edge" and not layout.haproxy:
        raise InputError("this lab has no HAProxy", hint=layout.no_haproxy)
    where = {"web": listen, "app": listen_colours, "edge": listen_haproxy}[name](hosts[0])
    return where.removesuffix("alive/")


def listen_haproxy(host: Host) -> str:
    """Where HAProxy takes requests for the colours."""
    return f"http://{host.address}:{address.HAPROXY}/alive/"


def listen_colours(host: Host) -> str:
    """Where a balancer takes requests for the colours; the page is one that costs nothing."""
    return f"http://{host.address}:{address.COLOURS}/alive/"


def listen(host: Host) -> str:
    """Where a balancer takes requests."""
    return f"http://{host.address}:{address.BALANCER}/"


def _names(hosts: Iterable[Host]) -> list[str]:
    return [host.name for host in hosts]


def _line(name: str, value: Value) -> str:
    return f"  {name}: {_flow(value)}"


def _lines(name: str, value: Value) -> list[str]:
    return [f"  {name}:", *(f"    {key}: {_flow(item)}" for key, item in value.items())]


def _flow(value: object) -> str:
    """A value on one line; plain words stay unquoted for the reader's sake."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_flow(item) for item in value) + "]"
        case str() if PLAIN.fullmatch(value) and value not in RESERVED:
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
