import subprocess
import sys

CHECK = """
import sys
from opskit.drivers.lean import lean
with lean():
    import fabric, paramiko
heavy = ["asyncio", "unittest", "unittest.mock", "importlib.metadata", "email.message"]
assert [name for name in heavy if name in sys.modules] == []

from importlib import metadata
from unittest import mock
assert metadata.version("paramiko") == paramiko.__version__, paramiko.__version__
assert mock.Mock().anything is not None

with lean():
    assert sys.modules["unittest.mock"] is mock
assert sys.modules["unittest.mock"] is mock
"""


def test_the_ssh_library_comes_without_what_it_loads_for_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
