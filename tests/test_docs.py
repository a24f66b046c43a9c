"""The reference pages say what the code says, and their examples work."""

import json
import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import click
import pytest

from opskit import load
from opskit.cli.root import root
from opskit.load.expectations import check_expectations
from opskit.load.ledgers import check_ledger
from opskit.load.tables import blocks
from opskit.model.problem import Problem
from opskit.steps import KINDS

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "reference"
EXAMPLES = [
    pytest.param(page, text, id=f"{page.stem}-{number}")
    for page in (
        PAGES / "runbook.md",
        PAGES / "inventory.md",
        PAGES / "expectations.md",
        PAGES / "ledger.md",
    )
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]


def current(page: str) -> str:
    loader = SourceFileLoader("docs_script", str(ROOT / "scripts" / "docs"))
    spec = spec_from_loader("docs_script", loader)
    assert spec is not None
    script = module_from_spec(spec)
    loader.exec_module(script)
    return str(script.current(page))


@pytest.mark.parametrize("name", ["runbook", "inventory", "expectations", "ledger", "../README"])
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
    elif page.stem == "expectations":
        _, problems = check_expectations(path)
    elif page.stem == "ledger":
        _, problems = check_ledger(path)
    else:
        _, problems = load.check(path, [])
    assert problems == []


def test_the_schema_is_plain_json() -> None:
    assert json.loads(json.dumps(load.schema()))["title"] == "opskit runbook"


EVERY = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", EVERY, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", CODE.sub("", page.read_text()))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def anchors(page: Path) -> set[str]:
    """Return what headings can be linked as."""
    heads = re.findall(r"^#+ (.*)", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_into_a_page_leads_to_a_heading() -> None:
    known = {page: anchors(page) for page in EVERY}
    wrong = [
        (page.name, link, anchor)
        for page in EVERY
        for link, anchor in re.findall(
            r"\]\(([^)#\s]*)#([^)\s]+)\)", CODE.sub("", page.read_text())
        )
        if "://" not in link
        and anchor not in known[(page.parent / link).resolve() if link else page]
    ]
    assert wrong == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "README.md" and f"({page})" not in index] == []


def test_the_index_counts_decisions_as_they_are_numbered() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    listed = re.findall(r"^(\d+)\. \[.*\]\(decisions/(\d{4})-", index, re.MULTILINE)
    assert [(int(at), int(name)) for at, name in listed] == [
        (n, n) for n in range(1, len(listed) + 1)
    ]


def commands(page: Path) -> list[list[str]]:
    """Return the words of every opskit command that a page shows, in a block or in a line."""
    text = page.read_text()
    found = re.findall(r"^(?:\$ )?opskit +([a-z].*)$", "\n".join(CODE.findall(text)), re.MULTILINE)
    found += re.findall(r"`opskit +([a-z][^`]*)`", CODE.sub("", text))
    return [re.split(r" {2,}| [#|;>]| -- |\$\(", line)[0].split() for line in found]


@pytest.mark.parametrize("page", EVERY, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    for words in commands(page):
        shown = " ".join(words)
        command: click.Command | None = root
        known: set[str] = set()
        while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z-]+", words[0]):
            command = command.get_command(click.Context(command), words.pop(0))
            assert command is not None, f"there is no command: opskit {shown}"
            known |= {option for param in command.params for option in param.opts}
        options = re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", " ".join(words))
        assert set(options) <= known | {"--help"}, f"opskit {shown}: {set(options) - known}"


def test_commands_are_found_in_the_pages() -> None:
    found = [" ".join(words[:2]) for page in EVERY for words in commands(page)]
    assert len(found) > 60
    assert {"lab up", "run hello", "audit verify", "undo last"} <= set(found)
