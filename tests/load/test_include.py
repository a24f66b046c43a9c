"""Includes: found, typed, private, and their secrets under the outer names."""

from pathlib import Path

import pytest

from opskit import load
from opskit.model.problem import ProblemsError
from opskit.model.runbook import Runbook

HEAD = "opskit: 1\nversion: 1.0.0\nsummary: A case\n"
INNER = """params:
  token: {type: secret}
  pace: duration
  release: string
  size: {type: int, default: 3}
  file: {type: file, required: false}
steps:
  - run: sleep {{ pace }}
    stdin: '{{ token }}'
    secrets: {TOKEN: token, OTHER: of_the_inventory}
    done_when: {run: 'true', secrets: {TOKEN: token}}
    undo: {run: 'true', secrets: {TOKEN: token}}
"""
OUTER = """params:
  api: {type: secret}
steps:
  - runbook:
      name: inner
      with: {token: '{{ api }}', pace: 1m30s, release: 1.10, file: a.tar, size: '{{ vars.size }}'}
"""


def write(folder: Path, **books: str) -> None:
    for name, text in books.items():
        (folder / f"{name}.yaml").write_text(f"name: {name}\n{HEAD}{text}")


def outer(folder: Path, *search: Path) -> Runbook:
    return load.runbook(folder / "outer.yaml", search)


def test_values_for_an_include_have_the_types_of_its_parameters(tmp_path: Path) -> None:
    write(tmp_path, inner=INNER, outer=OUTER)
    assert outer(tmp_path).steps[0].with_ == {
        "pace": 90,
        "release": "1.10",
        "file": str(tmp_path / "a.tar"),
        "size": "{{ vars.size }}",
    }


def test_an_include_takes_its_secrets_by_their_outer_names(tmp_path: Path) -> None:
    write(tmp_path, inner=INNER, outer=OUTER)
    include = outer(tmp_path).steps[0].include
    assert include is not None
    step = include.steps[0]
    assert step.stdin == "{{ api }}"
    assert step.secrets == {"TOKEN": "api", "OTHER": "of_the_inventory"}
    assert step.done_when is not None
    assert step.done_when.secrets == {"TOKEN": "api"}
    assert step.undo[0].secrets == {"TOKEN": "api"}


def test_secrets_go_through_two_includes_and_twice_under_other_names(tmp_path: Path) -> None:
    deepest = "params: {key: {type: secret}}\nsteps:\n  - run: env\n    secrets: {KEY: key}\n"
    middle = "params: {pass: {type: secret}}\nsteps:\n"
    middle += "  - runbook: {name: deepest, with: {key: '{{ pass }}'}}\n"
    top = "params: {one: {type: secret}, two: {type: secret}}\nsteps:\n"
    top += "  - runbook: {name: middle, with: {pass: '{{ one }}'}}\n"
    top += "  - runbook: {name: middle, with: {pass: '{{ two }}'}}\n"
    write(tmp_path, deepest=deepest, middle=middle, outer=top)
    found = []
    for step in outer(tmp_path).steps:
        assert step.include is not None
        inner = step.include.steps[0].include
        assert inner is not None
        found.append(inner.steps[0].secrets["KEY"])
    assert found == ["one", "two"]


def test_an_include_is_found_beside_the_file_and_in_the_runbook_folders(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    simple = "steps:\n  - run: 'true'\n"
    write(shared, inner=simple)
    write(tmp_path, outer="steps:\n  - runbook: inner\n")
    with pytest.raises(ProblemsError, match="there is no runbook 'inner'"):
        outer(tmp_path)
    include = outer(tmp_path, shared).steps[0].include
    assert include is not None
    assert include.file == str(shared / "inner.yaml")
    write(tmp_path, inner=simple)
    include = outer(tmp_path, shared).steps[0].include
    assert include is not None
    assert include.file == str(tmp_path / "inner.yaml")


def test_the_sources_of_all_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("#!/bin/sh\n")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.conf").write_text("x\n")
    inner = "steps:\n  - script: a.sh\n  - template: {src: a.conf, dest: /etc/a.conf}\n"
    write(tmp_path, inner=inner, outer="steps:\n  - runbook: inner\n")
    found = outer(tmp_path)
    assert {Path(name).name for name in found.sources} == {
        "outer.yaml", "inner.yaml", "a.sh", "a.conf"
    }  # fmt: skip
    include = found.steps[0].include
    assert include is not None
    assert include.files == {"a.sh": "#!/bin/sh\n", "a.conf": "x\n"}


def test_a_circle_of_includes_is_refused(tmp_path: Path) -> None:
    write(
        tmp_path,
        outer="steps:\n  - runbook: inner\n",
        inner="steps:\n  - runbook: third\n",
        third="steps:\n  - runbook: outer\n",
    )
    with pytest.raises(ProblemsError, match="outer includes itself → break the circle"):
        outer(tmp_path)


def test_includes_end_at_a_depth(tmp_path: Path) -> None:
    books = {f"r{i}": f"steps:\n  - runbook: r{i + 1}\n" for i in range(30)}
    write(tmp_path, outer="steps:\n  - runbook: r0\n", r30="steps:\n  - run: ls\n", **books)
    with pytest.raises(ProblemsError, match="includes go more than 10 deep"):
        outer(tmp_path)


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_bytes(b"\xff\xfe")
    write(tmp_path, outer="steps:\n  - template: {src: a.conf, dest: /etc/a.conf}\n")
    with pytest.raises(ProblemsError, match="is not UTF-8 text of at most 1 MiB → upload it"):
        outer(tmp_path)
