"""Secrets are fetched when a run starts, and stay in memory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from opskit.errors import InputError
from opskit.load.parameters import PREFIX
from opskit.model.plan import Action, Plan
from opskit.model.value import Secret, SecretRef, SecretSource
from opskit.model.work import Command, Request, Work

SHORTEST = 6
"""Characters; a shorter value can't be masked without masking half of every output."""
_LONGEST = 30.0
"""Seconds that a command may take to bring one."""

_seen: list[Secret] = []


def remember(secrets: Iterable[Secret]) -> None:
    """Note secrets that this process has come by; for its life only."""
    _seen.extend(secrets)


def seen() -> Sequence[Secret]:
    """Return every secret so far, for whoever must keep them out of what is said of a failure."""
    return _seen


def wanted(plan: Plan) -> list[str]:
    """Return the names of the secrets that a plan uses, each once."""
    names: dict[str, None] = {}
    for action in _all(plan.actions):
        for work in (action.work, action.skip_if, action.done_when):
            names |= dict.fromkeys(_of(work))
    names |= dict.fromkeys(one.password for one in plan.servers if one.password)
    return list(names)


def _all(actions: Iterable[Action]) -> Iterable[Action]:
    for action in actions:
        yield action
        yield from action.undo


def _of(work: Work | None) -> list[str]:
    match work:
        case Command(secrets=secrets, stdin=stdin):
            return [*secrets.values(), *([stdin.name] if isinstance(stdin, SecretRef) else [])]
        case Request(headers=headers):
            return [v.name for v in headers.values() if isinstance(v, SecretRef)]
        case _:
            return []


def fetch(
    plan: Plan, given: Mapping[str, Secret], environ: Mapping[str, str]
) -> Mapping[str, Secret]:
    """Fetch the secrets that a plan uses; those given as parameters are there already."""
    saved = {s.save.name for s in plan.stages.values() if s.save and s.save.secret}
    found = dict(given)
    remember(given.values())
    for name in wanted(plan):
        if name in found or name in saved:
            continue
        if name not in plan.secrets:
            raise InputError(
                f"the plan uses a secret {name!r} that neither parameters nor inventory have",
                where=plan.inventory,
                hint=f"write under `secrets:` in the inventory, e.g. {name}: env:{name.upper()}",
            )
        found[name] = _fetch(plan.secrets[name], environ, plan.inventory)
        remember([found[name]])
    return found


def lazily(plan: Plan, name: str, environ: Mapping[str, str], seconds: float) -> Secret:
    """Fetch a secret that a channel wants: without it a message is not sent, and that is all."""
    if name not in plan.secrets:
        raise InputError(f"the inventory has no secret {name!r}", where=plan.inventory)
    found = _fetch(plan.secrets[name], environ, plan.inventory, seconds)
    remember([found])
    return found


def variables(plan: Plan, known: Mapping[str, Secret]) -> list[str]:
    """Return the variables of the environment that secrets come by: no command is to have them."""
    given = [f"{PREFIX}{name.upper()}" for name in known]
    sources = [source.source.partition(":") for source in plan.secrets.values()]
    return [*given, *(name for kind, _, name in sources if kind == "env")]


def one(sources: Mapping[str, SecretSource], name: str, environ: Mapping[str, str]) -> Secret:
    """Fetch one secret of an inventory, for what is no run."""
    found = _fetch(sources[name], environ, name)
    remember([found])
    return found


def _fetch(
    source: SecretSource, environ: Mapping[str, str], where: str, seconds: float = _LONGEST
) -> Secret:
    kind, _, rest = source.source.partition(":")
    match kind:
        case "env":
            value = environ.get(rest)
            missing = f"the variable {rest} is not set"
        case "file":
            value, missing = _read(Path(rest).expanduser())
        case _:
            value, missing = _output(rest, seconds)
    if value is None:
        raise InputError(f"the secret {source.name!r} can't be had: {missing}", where=where)
    if len(value) < SHORTEST:
        raise InputError(
            f"the secret {source.name!r} has fewer than {SHORTEST} characters",
            where=where,
            hint="a value that short can't be kept out of outputs; use a longer one",
        )
    return Secret(source.name, value)


def _read(path: Path) -> tuple[str | None, str]:
    try:
        return path.read_text().removesuffix("\n"), ""
    except (OSError, UnicodeDecodeError) as error:
        return None, f"{path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"


def _output(command: str, seconds: float) -> tuple[str | None, str]:
    from opskit.app.bringer import NothingError, brought  # few inventories have such a secret

    try:
        return brought(command, seconds), ""
    except NothingError as error:
        return None, str(error)
