"""A real nginx of a test's own with two colours, and servers that say which they are."""

from dataclasses import dataclass
from pathlib import Path

from tests.support import ports
from tests.support.nginx import Member, Nginx

CONF = """\
worker_processes 2;
{patience}
daemon on;
pid {top}/nginx.pid;
error_log {top}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log {top}/access.log;
    client_body_temp_path {top}/tmp; proxy_temp_path {top}/tmp; fastcgi_temp_path {top}/tmp;
    uwsgi_temp_path {top}/tmp; scgi_temp_path {top}/tmp;
    include {top}/pools/*.conf;
    server {{
        listen {listen};
        location / {{
            proxy_pass http://$app_pool;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 10m;
            {retries}
            add_header X-Pool $app_pool always;
        }}
    }}
}}
"""
ACTIVE = """\
split_clients "${remote_addr}${http_user_agent}" $app_pool { * app_blue; }   # by hand
"""


@dataclass(kw_only=True)
class Colours(Nginx):
    """nginx with two colours: blue is `members[0]`, green `members[1]`."""

    patience: str = "worker_shutdown_timeout 20s;"
    retries: str = "proxy_next_upstream off;"

    @property
    def active(self) -> Path:
        return self.top / "pools" / "active.conf"

    @property
    def pool(self) -> Path:
        return self.top / "pools" / "pools.conf"

    def write(self) -> None:
        """Write the configuration; the shares are left as they are."""
        keys = {"top": self.top, "listen": self.listen}
        self.conf.write_text(CONF.format(patience=self.patience, retries=self.retries, **keys))
        blue, green = self.members
        self.pool.write_text(
            f"upstream app_blue {{ server {blue.where}; keepalive 8; }}\n"
            f"upstream app_green {{ server {green.where}; keepalive 8; }}\n"
        )

    def entry(self) -> dict[str, object]:
        """What an inventory would say."""
        return {
            "type": "nginx",
            "file": str(self.active),
            "test": f"{self.command} -t",
            "reload": f"{self.command} -s reload",
            "pid": f"{self.top}/nginx.pid",
            "error_log": f"{self.top}/error.log",
            "colours": {"blue": "app_blue", "green": "app_green"},
            "header": "X-Pool",
            "listen": f"http://{self.listen}/",
            "health": "/",
        }


def make(top: Path) -> Colours:
    """Lay out and start it, with all traffic on blue."""
    for folder in ("pools", "tmp"):
        (top / folder).mkdir(parents=True)
    nginx = Colours(top=top, listen=f"127.0.0.1:{ports.free()}")
    nginx.members += [Member("127.0.0.2"), Member("127.0.0.3")]
    nginx.active.write_text(ACTIVE)
    nginx.write()
    nginx.start()
    return nginx
