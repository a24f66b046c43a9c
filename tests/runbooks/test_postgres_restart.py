"""The shipped postgres-restart on a real server: shown, asked, done by a person, proved."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.settings import shipped
from tests.support import postgres
from tests.support.sshd import sshd

pytestmark = pytest.mark.acceptance


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    with postgres.server() as found:
        yield found


def opskit(folder: Path, *words: str, status: int) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPSKIT_", "PG"))}
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *words], cwd=folder, stdin=subprocess.DEVNULL,
        env={**kept, "HOME": str(folder), "NO_COLOR": "1"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    return said


def test_a_restart_is_a_persons_and_is_proved(tmp_path: Path, server: postgres.Server) -> None:
    server.stop()  # at once, as by a crash
    with sshd(tmp_path / "sshd") as host:
        how = {
            "port": host.port,
            "user": host.user,
            "key": str(host.key),
            "known_hosts": str(host.known_hosts),
            "state_dir": str(tmp_path / "there"),
        }
        (tmp_path / "i.yaml").write_text(
            f"opskit: 1\nhosts: {{db1: 127.0.0.1, db2: 127.0.0.2}}\nconnection: {json.dumps(how)}\n"
        )
        (tmp_path / "opskit.yaml").write_text("inventory: i.yaml\nstore: store.db\n")
        given = ["run", "postgres-restart", "--yes", "-p", f"data={server.folder}/data",
                 "-p", f"programs={server.binaries}", "-p", f"socket={server.folder}",
                 "-p", "user="]  # fmt: skip
        assert "this is about 2 hosts" in opskit(tmp_path, *given, "-p", "on=all", status=1)
        none = [word.replace(f"{server.folder}/data", "/none") for word in given]
        assert "can't read /none" in opskit(tmp_path, *none, "-p", "on=db1", status=1)
        said = opskit(tmp_path, *given, "-p", "on=db1", status=4)
        for what in ("Database cluster state:               in production", "It answers:  no",
                     "PostgreSQL on db1 is to be restarted."):  # fmt: skip
            assert what in said, said
        said = opskit(tmp_path, "decide", "last", "yes", status=4)
        assert "restart PostgreSQL on db1 by hand" in said
        server.start()
        done = ["decide", "last", "done", "--reason", "systemctl restart"]
        assert "SUCCEEDED" in opskit(tmp_path, *done, status=0)
        # Somebody who says that it is done, and has done nothing.
        text = (shipped() / "runbooks" / "postgres-restart.yaml").read_text()
        assert text.count("for: 5m") == 1
        (tmp_path / "short.yaml").write_text(text.replace("for: 5m", "for: 1s"))
        given[1] = "./short.yaml"
        assert "It answers:  yes" in opskit(tmp_path, *given, "-p", "on=db1", status=4)
        opskit(tmp_path, "decide", "last", "yes", status=4)
        assert "it was not restarted: it runs since" in opskit(tmp_path, *done, status=1)
