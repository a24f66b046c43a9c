"""The files that make a directory tree a practice host, as texts."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from opskit.lab import address, release
from opskit.lab.layout import BROKER, CUT_FLAG, Host, Layout, Role
from opskit.model.frozen import frozen

SERVICE_ROOT = "/srv/app"
WORKER = "/usr/local/bin/labworker"
HAPROXY_CONF = "/etc/haproxy/opskit.cfg"  # not haproxy.cfg, which a machine may have of its own
HAPROXY_LOG = "/var/log/haproxy/access.log"
NGINX = """\
{account}worker_processes 2;
worker_shutdown_timeout 30s;
error_log "{top}/var/log/nginx/error.log" notice;
pid "{top}/run/nginx.pid";
events {{ worker_connections 1024; }}
http {{
    log_format opskit '$status $upstream_addr $upstream_status $request_time '
                      '$sent_http_x_release $connection $connection_requests $msec "$request"';
    access_log "{top}/var/log/nginx/access.log" opskit;
{temporary}
    keepalive_timeout 65s;
    include "{top}/etc/nginx/opskit/*.conf";
    server {{
        listen {listen};
        location / {{
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_next_upstream off;
            proxy_connect_timeout 2s;
            proxy_read_timeout 30s;
        }}
    }}
{colours}}}
"""
COLOURS = """\
    server {{
        listen {listen};
        location / {{
            proxy_pass http://$app_pool;
            proxy_http_version 1.1;
            proxy_set_header Connection $app_connection;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Host $host;
            proxy_next_upstream off;
            proxy_connect_timeout 2s;
            proxy_read_timeout 30s;
            add_header X-Pool $app_pool always;
        }}
    }}
"""
ACTIVE = """\
split_clients "${remote_addr}${http_user_agent}" $app_pool {
    * app_blue;
}
"""
HAPROXY = """\
global
    log stdout format raw local0
    stats socket "{top}/run/haproxy.sock" mode 600 level admin
    server-state-file "{top}/var/lib/haproxy/states"
    pidfile "{top}/run/haproxy.pid"
    hard-stop-after 30s
    nbthread 1 # several would now and then lose a line of the log
    maxconn 1000
defaults
    mode http
    log global
    option dontlognull
    timeout connect 2s
    timeout client 65s
    timeout server 30s
    timeout http-keep-alive 65s
    timeout check 2s
    timeout tunnel 1h
    retries 0
    load-server-state-from-file global
    log-format "time=%Ts.%ms status=%ST ended=%ts release=%[capture.res.hdr(0)] \
upstream=%si method=%HM path=%HPO ms=%Ta"
frontend colours
    bind {listen}
    capture response header X-Release len 64
    default_backend app
backend app
    balance roundrobin
    option httpchk HEAD /health/
    http-response set-header X-Pool %s
    default-server inter {inter} rise 1 fall 3 check weight 100
{servers}"""
STATES = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight "
    "srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health "
    "srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord "
    "srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n"
)
DRAINED = "3 app {number} {name} {address} 2 8 100 100 0 15 3 4 6 0 0 0 - {port} - 0 0 - - 0\n"
SSHD = """\
Port {port}
ListenAddress {address}
HostKey "{top}/etc/ssh/ssh_host_ed25519_key"
PidFile "{top}/run/sshd.pid"
AuthorizedKeysFile "{keys}"
AllowUsers {user}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100:30:200
LogLevel VERBOSE
Subsystem sftp {sftp}
"""
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


@frozen
class File:
    """A file of a host: its path from the host's /, its bytes, and who may do what with it."""

    path: str
    content: bytes
    mode: int = 0o644
    owned_by_user: bool = False


def sshd_config(layout: Layout, host: Host, *, top: str = "", keys: str) -> str:
    """Configuration of a host's SSH server, with `top` before the paths where it has no own /."""
    return SSHD.format(
        port=address.SSH,
        address=host.address,
        top=top,
        keys=keys,
        user=layout.user,
        sftp=SFTP_SERVER if Path(SFTP_SERVER).exists() else "internal-sftp",
    )


def balancer(
    layout: Layout, host: Host, *, account: str, top: str = "", temporary: str = ""
) -> tuple[File, ...]:
    """nginx's configuration; the pool's members stand apart, in the file that opskit changes.

    So do, on a port of their own, the shares of two colours: each is half of the web hosts.
    """
    listen = f"{host.address}:{address.BALANCER}"
    files = {"web.conf": pool(layout)}
    colours = ""
    if layout.colours:
        files |= {"colours.conf": pools(layout), "active.conf": ACTIVE}
        colours = COLOURS.format(listen=f"{host.address}:{address.COLOURS}")
    conf = NGINX.format(
        listen=listen, top=top, temporary=temporary, account=account, colours=colours
    )
    return (
        File(path="/etc/nginx/nginx.conf", content=conf.encode()),
        *(File(path=f"/etc/nginx/opskit/{n}", content=t.encode()) for n, t in files.items()),
        *(haproxy(layout, host, top=top) if layout.haproxy else ()),
    )


def haproxy(layout: Layout, host: Host, *, top: str) -> tuple[File, ...]:
    """HAProxy's configuration, and the states it begins with: all traffic on blue."""
    web = layout.of(Role.WEB)
    servers = [f"    server {one.name} {one.address}:{address.SERVICE}\n" for one in web]
    conf = HAPROXY.format(
        top=top,
        listen=f"{host.address}:{address.HAPROXY}",
        inter=f"{max(500, 20 * len(web) * len(layout.of(Role.LB)))}ms",  # each check is a request
        servers="".join(servers),
    )
    drained = [
        DRAINED.format(number=n + 1, name=one.name, address=one.address, port=address.SERVICE)
        for n, one in enumerate(web)
        if one in layout.colours["green"]
    ]
    return (
        File(path=HAPROXY_CONF, content=conf.encode()),
        File(path="/var/lib/haproxy/states", content="".join((STATES, *drained)).encode()),
        File(path=HAPROXY_LOG, content=b""),
    )


def web(
    layout: Layout, host: Host, *, top: str = "", environment: Mapping[str, str] | None = None
) -> tuple[File, ...]:
    """The service with its first release, and the supervisor."""
    live = f"{SERVICE_ROOT}/releases/{layout.release}"
    mark = environment or {}
    conf = labctl_conf(layout, host, top=top, environment=mark)
    files = {f"{live}/{name}": text for name, text in release.files(layout.release).items()}
    files[f"{SERVICE_ROOT}/shared/switches.json"] = b"{}\n"
    return (
        File(path="/usr/local/bin/labctl", content=on_its_python(layout, "labctl"), mode=0o755),
        File(path="/etc/labctl/app.conf", content=conf.encode()),
        *(File(path=path, content=text, owned_by_user=True) for path, text in files.items()),
        *worker(layout, host, top=top, environment=mark),
    )


def worker(
    layout: Layout, host: Host, *, top: str, environment: Mapping[str, str]
) -> tuple[File, ...]:
    """What takes messages from the queues of the lab's broker, if it has one; not begun."""
    broker = layout.broker
    if broker is None:
        return ()
    conf = {
        "root": f"{top}{SERVICE_ROOT}",
        "user": layout.user,
        "python": layout.python,
        "words": [f"{top}{WORKER}", "work"],
        "environment": {"WORKER_NAME": host.name, **environment},
        "broker": broker.address,
        "broker_port": broker.port,
        "database": BROKER,
        "user_of_broker": "app",
        "password": layout.secret("redis_app").read_text(encoding="ascii").strip(),
    }
    text = (json.dumps(conf, indent=1) + "\n").encode()
    return (
        File(path=WORKER, content=on_its_python(layout, "labworker"), mode=0o755),
        File(path="/etc/labctl/worker.conf", content=text, mode=0o600, owned_by_user=True),
    )


def pool(layout: Layout) -> str:
    """The balancer's pool, one member a line: the file that opskit changes."""
    members = [
        f"    server {host.address}:{address.SERVICE} max_fails=0;" for host in layout.of(Role.WEB)
    ]
    return "\n".join(["upstream web {", *members, "    keepalive 16;", "}", ""])


def pools(layout: Layout) -> str:
    """The two colours of the service, each an upstream, and what a kept connection needs."""
    blocks = []
    for colour, hosts in layout.colours.items():
        servers = "".join(
            f"    server {host.address}:{address.SERVICE} max_fails=0;\n" for host in hosts
        )
        blocks.append(f"upstream app_{colour} {{\n{servers}    keepalive 16;\n}}\n")
    upgrade = "map $http_upgrade $app_connection {\n    default upgrade;\n    '' '';\n}\n"
    return "".join([*blocks, upgrade])


def labctl_conf(layout: Layout, host: Host, *, top: str, environment: Mapping[str, str]) -> str:
    """What labctl knows about the service on one host."""
    value = {
        "root": f"{top}{SERVICE_ROOT}",
        "address": host.address,
        "port": address.SERVICE,
        "user": layout.user,
        "python": layout.python,
        "environment": {
            "START_SECONDS": "0.3",
            "OPSKIT_LAB_CUT": f"{top}{CUT_FLAG}",
            **environment,
        },
    }
    return json.dumps(value, indent=1) + "\n"


def on_its_python(layout: Layout, name: str) -> bytes:
    """A program that ships with the lab, run by the Python that this lab's hosts have."""
    return release.data(name).replace(b"/usr/bin/python3", layout.python.encode(), 1)


def accounts(layout: Layout, machine: Mapping[str, str]) -> tuple[File, ...]:
    """The machine's accounts and one more, who logs in and may become anybody."""
    user, uid, gid = layout.user, layout.uid, layout.gid
    added = {
        "passwd": f"{user}:x:{uid}:{gid}:practice:{layout.home}:{_shell()}\n",
        "group": f"{user}:x:{gid}:\n",
        "shadow": f"{user}:*:19700:0:99999:7:::\n",
    }
    modes = {"shadow": 0o640}
    files = [
        File(
            path=f"/etc/{name}",
            content=(machine[name].rstrip("\n") + "\n" + line).encode(),
            mode=modes.get(name, 0o644),
        )
        for name, line in added.items()
    ]
    sudo = f"{user} ALL=(ALL:ALL) NOPASSWD: ALL\n".encode()
    return (*files, File(path=f"/etc/sudoers.d/{user}", content=sudo, mode=0o440))


def _shell() -> str:
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


def hosts_file(layout: Layout) -> str:
    """Names for the addresses, so that sudo and people find them."""
    lines = [f"{host.address} {host.name}" for host in layout.hosts]
    lines += [f"{server.address} {server.name}" for server in layout.servers]
    return "\n".join(["127.0.0.1 localhost", *lines, ""])


def temporary(folder: str) -> str:
    """Where nginx keeps bodies that are too large for memory, when it is not run by root."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(f'    {kind}_temp_path "{folder}-{kind}";' for kind in kinds)


def write(
    place: Callable[[str], Path], files: Iterable[File], owner: tuple[int, int] | None
) -> None:
    """Write a host's files where they have their place; the user's with their new folders."""
    for file in files:
        path = place(file.path)
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
        if file.owned_by_user and owner:
            for owned in (path, *missing):
                os.chown(owned, *owner)
