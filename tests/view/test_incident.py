"""How bad an incident is, and the part of its file that opskit keeps."""

import pytest

from opskit.view.incident import BEGIN, END, Finding, classified, whole


def finding(level: str, severity: str) -> Finding:
    return Finding(level=level, host="web1", what="x", severity=severity)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "none that a check tells of"),
        ([("WARN", "")], "none that a check tells of"),
        ([("CRIT", "P1"), ("CRIT", "P2"), ("CRIT", "P2")], "P1"),
        ([("WARN", "P2"), ("CRIT", "P3")], "P2"),
        ([("UNKNOWN", "P0"), ("CRIT", "P1")], "P1, perhaps P0"),
        ([("CRIT", "P0"), ("UNKNOWN", "P1")], "P0"),
        ([("UNKNOWN", "P0")], "none that a check tells of, perhaps P0"),
    ],
)
def test_f3_the_worst_counts_and_what_is_not_known_is_no_hope(
    found: list[tuple[str, str]], told: str
) -> None:
    assert str(classified([finding(*one) for one in found])) == told


def test_only_what_stands_between_the_marks_is_written_anew() -> None:
    first = whole(f"{BEGIN}\nold\n{END}\n", None)
    assert first is not None
    assert "## What caused it" in first
    again = whole(f"{BEGIN}\nnew\n{END}\n", f"mine\n{first}more of mine\n")
    assert again == f"mine\n{first.replace('old', 'new')}more of mine\n"


@pytest.mark.parametrize("before", ["", "mine", f"{END} {BEGIN}", BEGIN, END])
def test_what_opskit_did_not_write_is_left_alone(before: str) -> None:
    assert whole("text", before) is None
