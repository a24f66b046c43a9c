"""Secrets that many threads come by at once."""

import sys
import threading
from pathlib import Path

from opskit import audit
from opskit.model.event import Event
from opskit.model.value import Secret
from tests.contract import samples


def test_each_of_many_secrets_that_come_at_once_is_hidden(tmp_path: Path) -> None:
    secrets = [Secret(f"s{n}", f"xyzzy-{n:03}-plugh") for n in range(16)]
    store = audit.open(str(tmp_path / "store.db"))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with store.create(
            samples.plan(), kind="run", who="ann", origin="desk", documents={}
        ) as journal:
            threads = [threading.Thread(target=journal.hide, args=(one,)) for one in secrets]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            text = " ".join(one.reveal() for one in secrets)
            journal.append(Event(kind="message", data={"text": text}))
            run = journal.run
    finally:
        sys.setswitchinterval(before)
    said = [entry.event.data.get("text") for entry in store.entries(run)]
    store.close()
    assert " ".join(["[secret]"] * 16) in said
