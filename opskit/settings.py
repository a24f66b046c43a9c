"""Environment and `opskit.yaml` → Settings."""

from collections.abc import Mapping
from pathlib import Path

from opskit.errors import InputError
from opskit.model.frozen import frozen
from opskit.model.value import Json

FILE = "opskit.yaml"
LOCAL = "local"
"""As a store: the default file on this machine, whatever else is usual here."""

KEYS = ("store", "inventory", "runbooks")


@frozen
class Settings:
    """Where things are. Command line beats environment beats `opskit.yaml` beats the defaults.

    `store` is the path of an SQLite file or the URL of a PostgreSQL database, which may hold a
    password; `runbooks` the folders in which names are looked up.
    """

    store: str
    inventory: Path | None
    runbooks: tuple[Path, ...]
    folder: Path
    environ: Mapping[str, str]
    file: Path | None = None
    """The `opskit.yaml` that holds here; None where there is none."""
    instead: str = ""
    """The store that would be used, where `--store local` asks for the file on this machine."""


def shipped() -> Path:
    """Return the folder with the runbooks, templates and inventories that come with opskit."""
    package = Path(__file__).parent
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent


def project_file(start: Path) -> Path | None:
    """Find `opskit.yaml` in this folder or the nearest one above."""
    return next((p / FILE for p in (start, *start.parents) if (p / FILE).is_file()), None)


def default_store(environ: Mapping[str, str]) -> str:
    """Return where runs are recorded when nobody says: `$XDG_STATE_HOME/opskit/store.db`."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "~")) / ".local/state")
    return str(Path(state).expanduser() / "opskit" / "store.db")


def settle(
    environ: Mapping[str, str],
    start: Path,
    written: Mapping[str, Json],
    file: Path | None,
    *,
    store: str | None = None,
    inventory: str | None = None,
) -> Settings:
    """Decide every setting; `written` is what `file` says. Unknown keys are refused."""
    unknown = [key for key in written if key not in KEYS]
    if unknown:
        raise InputError(
            f"unknown key {unknown[0]!r}", where=str(file), hint=f"write one of {', '.join(KEYS)}"
        )
    folder = file.parent if file else start
    listed = written.get("runbooks", ["runbooks"])
    names = [listed] if isinstance(listed, str) else listed
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise InputError("`runbooks` is not a list of folders", where=str(file), hint="[runbooks]")
    usual = environ.get("OPSKIT_STORE") or _written_store(written, folder)
    local = default_store(environ)
    chosen = inventory or environ.get("OPSKIT_INVENTORY")
    from_file = written.get("inventory")
    return Settings(
        store=local if store == LOCAL else store or usual or local,
        inventory=Path(chosen) if chosen else folder / str(from_file) if from_file else None,
        runbooks=(*(folder / str(name) for name in names), shipped() / "runbooks"),
        folder=folder,
        environ=environ,
        file=file,
        instead=usual if store == LOCAL and usual != local else "",
    )


def _written_store(written: Mapping[str, Json], folder: Path) -> str:
    """Return the store that `opskit.yaml` names; a file is looked for beside it."""
    place = str(written["store"]) if "store" in written else ""
    return place if not place or "://" in place else str(folder / place)
