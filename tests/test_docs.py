"""The reference pages say what the code says, and their examples work."""

import json
import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from opskit import load
from opskit.load.tables import blocks
from opskit.model.problem import Problem
from opskit.steps import KINDS

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "reference"
EXAMPLES = [
    pytest.param(page, text, id=f"{page.stem}-{number}")
    for page in (PAGES / "runbook.md", PAGES / "inventory.md")
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]


def current(page: str) -> str:
    loader = SourceFileLoader("docs_script", str(ROOT / "scripts" / "docs"))
    spec = spec_from_loader("docs_script", loader)
    assert spec is not None
    script = module_from_spec(spec)
    loader.exec_module(script)
    return str(script.current(page))


@pytest.mark.parametrize("name", ["runbook", "inventory"])
def test_the_generated_tables_are_current(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()
    assert current(page) == page, "run .venv/bin/python scripts/docs"


def test_every_generated_table_stands_on_a_page() -> None:
    pages = "".join(page.read_text() for page in PAGES.glob("*.md"))
    assert [name for name in blocks() if f"<!-- table: {name} -->" not in pages] == []


def test_every_kind_of_step_is_on_the_reference_page() -> None:
    page = (PAGES / "runbook.md").read_text()
    assert [kind for kind in KINDS if f"### `{kind}`" not in page] == []


@pytest.mark.parametrize(("page", "text"), EXAMPLES)
def test_an_example_has_no_problem(page: Path, text: str, tmp_path: Path) -> None:
    name = re.search(r"^name: (.*)$", text, re.MULTILINE)
    path = tmp_path / f"{name[1] if name else 'example'}.yaml"
    path.write_text(text)
    problems: list[Problem]
    if page.stem == "inventory":
        _, problems = load.check_inventory(path)
    else:
        _, problems = load.check(path, [])
    assert problems == []


def test_the_schema_is_plain_json() -> None:
    assert json.loads(json.dumps(load.schema()))["title"] == "opskit runbook"
