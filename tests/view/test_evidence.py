"""What is known of a matter, in lines and as an object."""

import json as parser

from opskit.model.event import Event
from opskit.model.finding import Finding
from opskit.model.value import Json
from opskit.view import evidence
from opskit.view.labels import Labels
from opskit.view.lines import said
from tests.view.samples import run

FOUND = (
    Finding(source="record", host="web2", says="attempt 1, failed: exit status 1"),
    Finding(source="output", host="web2", lines=("seen", "\x1b[2Jlast")),
    Finding(source="host", host="web2", says="it still runs", data={"state": "running"}),
)


def test_each_finding_says_where_it_is_from() -> None:
    assert list(evidence.lines(FOUND)) == [
        "  the record says  web2: attempt 1, failed: exit status 1",
        "  it printed",
        "    | seen",
        "    | last",
        "  asked now        web2: it still runs",
    ]


def test_a_question_says_how_it_is_answered() -> None:
    waits = run("waiting", {"web2": "failed"})
    meant = {"retry": "again", "failed": "so it is"}
    shown = evidence.text(waits, "Well?", FOUND[:1], meant, given=" --store x").splitlines()
    assert shown == [
        "Well?",
        "  the record says  web2: attempt 1, failed: exit status 1",
        "  retry   again",
        "  failed  so it is",
        f"Answer: opskit decide {waits.id} CHOICE [--reason TEXT] --store x",
    ]
    told = evidence.json(waits, "Well?", FOUND, meant, wanting=("failed",))
    assert [choice["reason"] for choice in parser.loads(parser.dumps(told))["choices"]] == [
        False, True,
    ]  # fmt: skip


def test_an_amended_plan_is_told_by_its_parameters() -> None:
    given: Json = {"release": "r8"}
    data: dict[str, Json] = {"who": "ann@desk", "parameters": given, "plan": "d", "documents": {}}
    event = Event(kind="plan amended", data=data)
    assert said(event, Labels()) == ("amended", "release=r8 from here on, by ann@desk")
