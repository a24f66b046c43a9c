"""The settings of a call: options, the environment, and the nearest `opskit.yaml`."""

import os
from collections.abc import Mapping
from pathlib import Path

from opskit.audit.postgres.address import refuse_password
from opskit.model.value import Json
from opskit.settings import Settings, project_file, settle


def settings(*, store: str | None = None, inventory: str | None = None) -> Settings:
    """Read the environment and the nearest `opskit.yaml`; options of the command line win."""
    start = Path.cwd()
    file = project_file(start)
    written: Mapping[str, Json] = {}
    if file:
        from opskit.load.plain import mapping  # many folders have none

        written = mapping(file)
    refuse_password(store or "", "--store")
    refuse_password(str(written.get("store", "")), str(file))
    return settle(os.environ, start, written, file, store=store, inventory=inventory)
