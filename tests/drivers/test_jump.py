"""Jump hosts as ssh_config names them."""

from dataclasses import replace
from pathlib import Path

import pytest

from opskit.drivers.targets import Targets
from opskit.errors import UnreachableError
from tests.drivers.kit import RUN, Kit
from tests.support.sshd import Sshd, sshd

pytestmark = pytest.mark.acceptance


def test_a_jump_host_of_ssh_config_is_used_and_shared_and_must_be_known(
    server: Sshd, tmp_path: Path
) -> None:
    with sshd(tmp_path / "behind") as behind:
        (behind.folder / "authorized_keys").write_text((server.folder / "user_key.pub").read_text())
        both, one = tmp_path / "both", tmp_path / "one"
        both.write_text(server.known_hosts.read_text() + behind.known_hosts.read_text())
        one.write_text(behind.known_hosts.read_text())
        config = tmp_path / "config"
        config.write_text(
            f"Host door\n HostName 127.0.0.1\n Port {server.port}\n User {server.user}\n"
            f"Host web1.example web2.example\n HostName 127.0.0.1\n ProxyJump door\n"
            f" Port {behind.port}\n User {server.user}\n"
        )
        for known in (both, one):
            host = behind.host(
                port=None, user=None, key=str(server.key), ssh_config=str(config),
                known_hosts=str(known),
            )  # fmt: skip
            hosts = {n: replace(host, name=n, address=f"{n}.example") for n in ("web1", "web2")}
            made = Kit(targets=Targets(RUN, hosts), host=hosts["web1"], run=RUN)
            if known is one:
                with pytest.raises(UnreachableError, match="not known"):
                    made.targets.open("web1", writes=False)
                continue
            before = len(server.children())
            for name in hosts:
                made.targets.open(name, writes=False)
            assert len(server.children()) - before == 1, "both go through one connection"
            assert made.do("echo $SSH_CONNECTION").out.split()[3] == str(behind.port).encode()
            made.targets.close()
