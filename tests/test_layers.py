"""A run walks down the list of packages; an import may only point up it."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import LONG

FLOW = [
    "errors", "model", "settings", "render", "steps", "load", "plan", "drivers", "execute",
    "audit", "schedule", "notify", "view", "app", "worker", "console", "lab", "cli",
]  # fmt: skip
ROOT = Path(__file__).parent.parent / "opskit"
FREE = {"__init__", "__main__", "shipped"}

ONLY_IN = {
    "yaml": ["load"],
    "jinja2": ["render"],
    "fabric": ["drivers"],
    "paramiko": ["drivers"],
    "httpx": ["drivers"],
    "sqlite3": ["audit"],
    "psycopg": ["audit", "drivers"],
    "click": ["cli"],
}
"""Which packages may import a library; what each knows about the outside stays in one place."""

INNOCENT = ["subprocess", "socket", "urllib.request", "http", "sqlite3", "psycopg", "fabric",
            "httpx", "os"]  # fmt: skip
"""What `steps`, `plan` and `model` may not import: they touch nothing outside."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> set[str]:
    """Return the full names of everything that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            module = node.module or ""
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_every_import_points_up_the_flow() -> None:
    backwards = [
        f"{path.relative_to(ROOT)} imports opskit.{name}"
        for path in modules()
        if layer(path) in FLOW
        for full in imported(path)
        if full.startswith("opskit.")
        for name in [full.split(".")[1]]
        if name in FLOW and FLOW.index(name) > FLOW.index(layer(path))
    ]
    assert sorted(set(backwards)) == []


def test_every_package_has_a_place_in_the_flow() -> None:
    present = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.name != "__pycache__"}
    assert present - FREE - {"py.typed"} <= set(FLOW)


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_known_in_one_place_only(library: str) -> None:
    strangers = [
        str(path.relative_to(ROOT))
        for path in modules()
        if any(name.split(".")[0] == library for name in imported(path))
        and layer(path) not in ONLY_IN[library]
    ]
    assert strangers == []


def test_steps_plan_and_model_touch_nothing_outside() -> None:
    touching = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if layer(path) in ("steps", "plan", "model", "render")
        for name in imported(path)
        if any(name == banned or name.startswith(f"{banned}.") for banned in INNOCENT)
    ]
    assert touching == []


def test_no_type_is_imported_for_checking_only() -> None:
    assert [str(p) for p in modules() if "TYPE_CHECKING" in p.read_text()] == []


def test_nothing_below_the_command_line_knows_of_a_dry_run() -> None:
    knowing = [
        str(path.relative_to(ROOT))
        for path in modules()
        if layer(path) not in ("cli", "view")
        and any(word in path.read_text() for word in ("dry_run", "noop", "is_preview"))
    ]
    assert knowing == []


def test_the_executor_neither_asks_nor_prints() -> None:
    for path in (ROOT / "execute").glob("*.py"):
        text = path.read_text()
        assert "print(" not in text
        assert "input(" not in text


def test_files_that_are_begun_first_are_there() -> None:
    tests = Path(__file__).parent
    assert [name for name in LONG if not (tests / f"{name}.py").exists()] == []


def test_modules_are_within_400_lines_and_functions_within_50() -> None:
    """Nine of ten functions within 25: what has grown is split by what it is about."""
    long, lengths = [], []
    for path in modules():
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        long += [name] if text.count("\n") > 400 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lengths.append(1 + (node.end_lineno or 0) - node.lineno)
                long += [f"{name}: {node.name}"] if lengths[-1] > 50 else []
    assert long == []
    assert sum(length > 25 for length in lengths) < len(lengths) / 10
