"""One sshd for all tests that need a plain one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.kit import Kit, here, kit
from tests.support.sshd import Sshd, sshd


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def remote(server: Sshd, tmp_path: Path) -> Iterator[Kit]:
    """Commands over SSH."""
    made = kit(server.host(state_dir=str(tmp_path / "state")))
    yield made
    made.targets.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Kit]:
    """Commands on this machine."""
    made = kit(here(str(tmp_path / "state")))
    yield made
    made.targets.close()
