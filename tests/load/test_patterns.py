"""A pattern that takes for ever holds nobody up."""

import time
from pathlib import Path

import pytest

from opskit import load
from opskit.load.params import WrongValueError, value_of
from opskit.load.patterns import LONGEST, SlowError, fits, slow
from opskit.model.problem import Place
from opskit.model.runbook import Param

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("pattern", ["(a+)+b", "(x*)*y", "(a|a)*b", "([0-9]+)+z", "(q+q+)+ "])
def test_what_takes_for_ever_is_found_at_once(pattern: str) -> None:
    began = time.process_time()
    assert slow(pattern)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-z0-9]+(?:\.[a-z0-9]+)*",
        r"(?!.*\.\.)[0-9A-Za-z][0-9A-Za-z._-]{0,63}",
        "[0-9A-Za-z_]+",
        r"(\d+\.){3}\d+",
        ".*a.*b.*c",
        "",
    ],
)
def test_what_people_write_is_not(pattern: str) -> None:
    assert not slow(pattern)


def test_a_value_is_matched_within_bounds() -> None:
    assert fits("a+", "aaa")
    assert not fits("a+", "aab")
    with pytest.raises(SlowError):
        fits("(ab|ab)*c", "ab" * 64)
    place = Place(file="r.yaml")
    param = Param(name="p", type="string", place=place, pattern="(ab|ab)*c")
    with pytest.raises(WrongValueError, match="it takes too long to tell"):
        value_of(param, "ab" * 64)
    with pytest.raises(WrongValueError, match="too many for a pattern"):
        value_of(param, "x" * (LONGEST + 1))


def test_a_runbook_with_such_a_pattern_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "opskit: 1\nname: r\nversion: 1.0.0\nsummary: s\nhosts: all\n"
        "params: {v: {pattern: '(a+)+b'}}\nsteps: [{run: 'echo {{ v }}', effect: read}]\n"
    )
    [problem] = load.lint(path, [])
    assert "takes for ever on some values" in problem.what
    assert (problem.severity, problem.place.line) == ("error", 6)


def test_a_script_that_calls_itself_a_read_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "wipe.sh").write_text("#!/usr/bin/env bash\nls\nrm -rf /srv/x\n")
    path = tmp_path / "r.yaml"
    path.write_text(
        "opskit: 1\nname: r\nversion: 1.0.0\nsummary: s\nhosts: all\nsteps:\n"
        "  - {script: wipe.sh, effect: read}\n"
        "  - script:\n      text: |\n        #!/bin/sh\n        kill 3\n    effect: read\n"
        '  - {script: {text: "#!/usr/bin/python3\\nrm = 1"}, effect: read}\n'
        "  - {script: wipe.sh, undo: []}\n"
    )
    found = [(p.place.file, p.place.line, p.what, p.severity) for p in load.lint(path, [])]
    assert found == [
        (str(path), 11, "a read that writes: kill 3", "warning"),
        (str(tmp_path / "wipe.sh"), 3, "a read that writes: rm -rf", "warning"),
    ]
