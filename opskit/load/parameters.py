"""Values for a runbook's parameters: given > file > environment > default > asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

from opskit.load.files import read
from opskit.load.params import WrongValueError, scalar_text, value_of
from opskit.load.suggest import advice
from opskit.load.yaml import Node, Scalar, Table, parse
from opskit.model.frozen import frozen
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.runbook import Param, Runbook
from opskit.model.value import Json, Secret

PREFIX = "OPSKIT_PARAM_"
Ask = Callable[[Param, str], str]
"""Asks for a parameter; the text says what was wrong with the last answer, if there was one."""
TRIES = 5


@frozen
class Parameters:
    """What a run was given. `public` goes into plan and record, `secrets` only to drivers."""

    public: Mapping[str, Json] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)


class _Given(NamedTuple):
    """A text for a parameter, and where it comes from."""

    text: str
    place: Place


def parameters(
    runbook: Runbook,
    given: Mapping[str, str],
    file: Path | None,
    environ: Mapping[str, str],
    ask: Ask | None,
) -> Parameters:
    """Find, check and convert the value of every parameter; raises ProblemsError with all wrong.

    `given` is what stands on the command line: a secret there is refused, as everybody on the
    machine can read it. `ask` is called for what is required and nowhere given.
    """
    problems: list[Problem] = []
    found = {**_environment(runbook, environ), **_file(runbook, file, problems)}
    found |= _command_line(runbook, given, problems)
    public: dict[str, Json] = {}
    secrets: dict[str, Secret] = {}
    for param in runbook.params:
        text = found.get(param.name)
        if text is None and param.required and ask is not None and not problems:
            problems += _asked(param, ask, public, secrets)
        elif text is None:
            _absent(param, public, problems)
        else:
            _take(param, text, public, secrets, problems)
    if problems:
        raise ProblemsError(problems)
    return Parameters(public=public, secrets=secrets)


def changed(runbook: Runbook, given: Mapping[str, str]) -> Mapping[str, Json]:
    """Check and convert other values for some public parameters; ProblemsError with all wrong."""
    problems: list[Problem] = []
    found = _command_line(runbook, given, problems)
    public: dict[str, Json] = {}
    for param in runbook.params:
        if param.name in found:
            _public(param, found[param.name], public, problems)
    if problems:
        raise ProblemsError(problems)
    return public


def _asked(
    param: Param, ask: Ask, public: dict[str, Json], secrets: dict[str, Secret]
) -> list[Problem]:
    """Ask until the answer is one; a slip of the finger is no reason to begin anew."""
    problems: list[Problem] = []
    for _ in range(TRIES):
        wrong = "; ".join(f"{problem.what} → {problem.write}" for problem in problems)
        problems = []
        answer = _Given(ask(param, wrong), Place(file=param.name))
        _take(param, answer, public, secrets, problems)
        if not problems:
            break
    return problems


def _take(
    param: Param,
    given: _Given,
    public: dict[str, Json],
    secrets: dict[str, Secret],
    problems: list[Problem],
) -> None:
    if param.type == "secret":
        _secret(param, given, secrets, problems)
    else:
        _public(param, given, public, problems)


def _environment(runbook: Runbook, environ: Mapping[str, str]) -> dict[str, _Given]:
    variables = {param.name: PREFIX + param.name.upper() for param in runbook.params}
    return {
        name: _Given(environ[variable], Place(file=variable))
        for name, variable in variables.items()
        if variable in environ
    }


def _command_line(
    runbook: Runbook, given: Mapping[str, str], problems: list[Problem]
) -> dict[str, _Given]:
    params = {param.name: param for param in runbook.params}
    found: dict[str, _Given] = {}
    for name, text in given.items():
        place = Place(file=f"-p {name}")
        if name not in params:
            problems.append(_unknown(name, params, runbook, place))
        elif params[name].type == "secret":
            told = f"`{name}` is a secret; on a command line others can read it"
            write = f"set {PREFIX}{name.upper()}, use --params FILE, or wait to be asked"
            problems.append(Problem(place=place, what=told, write=write))
        else:
            found[name] = _Given(text, place)
    return found


def _unknown(name: str, params: Mapping[str, Param], runbook: Runbook, place: Place) -> Problem:
    what = f"{runbook.name} has no parameter {name[:80]!r}"
    return Problem(place=place, what=what, write=advice(name, params))


def _file(runbook: Runbook, file: Path | None, problems: list[Problem]) -> dict[str, _Given]:
    if file is None:
        return {}
    raw = read(file, problems)
    if raw is None:
        return {}
    parsed = parse(raw, str(file))
    problems += parsed.problems
    if parsed.root is not None and not isinstance(parsed.root, Table):
        place = Place(file=str(file), line=1, column=1)
        problems.append(Problem(place=place, what="parameters are a mapping", write="NAME: VALUE"))
    if not isinstance(parsed.root, Table):
        return {}
    return dict(_entries(runbook, parsed.root, str(file), problems))


def _entries(
    runbook: Runbook, root: Table, file: str, problems: list[Problem]
) -> Iterator[tuple[str, _Given]]:
    params = {param.name: param for param in runbook.params}
    for name, (key, node) in root.entries.items():
        if name not in params:
            problems.append(_unknown(name, params, runbook, _at(file, key)))
        elif isinstance(node, Scalar) and node.empty:
            continue
        else:
            try:
                yield name, _Given(scalar_text(node), _at(file, node))
            except WrongValueError as error:
                what = f"`{name}`: {error.what}"
                problems.append(Problem(place=_at(file, node), what=what, write=error.write))


def _at(file: str, node: Node) -> Place:
    return Place(file=file, line=node.line, column=node.column)


def _absent(param: Param, public: dict[str, Json], problems: list[Problem]) -> None:
    if not param.required:
        if param.type != "secret":
            public[param.name] = _absolute(param, param.default)
        return
    told = f"`{param.name}` is needed" + (f": {param.help}" if param.help else "")
    write = f"-p {param.name}=…"
    if param.type == "secret":
        write = f"set {PREFIX}{param.name.upper()}, or use --params FILE"
    problems.append(Problem(place=param.place, what=told, write=write))


def _absolute(param: Param, default: Json) -> Json:
    """A default file is beside the runbook that names it."""
    if param.type == "file" and isinstance(default, str):
        return str((Path(param.place.file).parent / Path(default).expanduser()).absolute())
    return default


def _secret(
    param: Param, given: _Given, secrets: dict[str, Secret], problems: list[Problem]
) -> None:
    text = given.text.removesuffix("\n").removesuffix("\r")
    try:
        secrets[param.name] = Secret(param.name, str(value_of(param, text)))
    except WrongValueError as error:
        what = f"`{param.name}`: {error.what}"
        problems.append(Problem(place=given.place, what=what, write=error.write))


def _public(param: Param, given: _Given, public: dict[str, Json], problems: list[Problem]) -> None:
    try:
        value = value_of(param, given.text)
        public[param.name] = _file_at(value) if param.type == "file" else value
    except WrongValueError as error:
        what = f"`{param.name}`: {error.what}"
        meant = f" ({param.help})" if param.pattern is not None and param.help else ""
        problems.append(Problem(place=given.place, what=what, write=error.write + meant))


def _file_at(value: Json) -> str:
    """Return the absolute path of a file that can be read."""
    path = Path(str(value)).expanduser().absolute()
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "is not there"
        raise WrongValueError(f"the file {path} {what}", "the path of a file")
    return str(path)
