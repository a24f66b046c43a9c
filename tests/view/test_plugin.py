"""What a monitoring system is told of a run of checks: the worst first, and nothing is hidden."""

from collections.abc import Mapping

from opskit.model.value import Json
from opskit.view import metrics, plugin
from tests.view import samples
from tests.view.samples import record, run


def told(*checks: tuple[str, str], **more: object) -> tuple[str, int]:
    """Tell of a run whose checks came to these levels, one a host."""
    hosts = {f"web{n}": "done" for n in range(1, len(checks) + 1)}
    records = []
    for number, (level, counts) in enumerate(checks, 1):
        evidence: dict[str, Json] = {"level": level}
        if counts:
            evidence["counts"] = dict.fromkeys(counts.split(), 1)
        state = {"CRIT": "failed", "UNKNOWN": "unknown"}.get(level, "succeeded")
        records.append(record(f"5@web{number}", state, evidence=evidence,  # type: ignore[arg-type]
                              reason=f"{level} page {number}"))  # fmt: skip
    found = run("failed", hosts, dict(records), **{"exit": 1, **more})  # type: ignore[arg-type]
    return plugin.told(found, samples.plan())


def test_what_is_certainly_wrong_is_not_hidden_by_what_nobody_knows() -> None:
    text, status = told(("UNKNOWN", ""), ("WARN", ""), ("CRIT", ""), ("OK", ""))
    line, *rest = text.splitlines()
    assert line == (
        "DEPLOY CRITICAL - web3: CRIT page 3; and 1 UNKNOWN | ok=1 warn=1 crit=1 unknown=1"
    )
    assert status == 2
    assert [one[:4] for one in rest[1:]] == ["web3", "web1", "web2"]


def test_a_host_that_nobody_reaches_hides_nothing_either() -> None:
    away: Mapping[str, object] = {"unreachable": {"web9": "host web9: refused the connection"}}
    hosts = {"web1": "failed", "web9": "unreachable"}
    ill = record("5@web1", "failed", evidence={"level": "CRIT"}, reason="CRIT page")
    for records, word, status in ((dict([ill]), "CRITICAL", 2), ({}, "UNKNOWN", 3)):
        found = run("failed", hosts, records, exit=1, **away)  # type: ignore[arg-type]
        text, ended = plugin.told(found, samples.plan())
        assert (text.split()[1], ended) == (word, status)
        assert "web9: refused the connection" in text


def test_a_look_that_could_not_see_all_and_found_harm_is_critical() -> None:
    text, status = told(("UNKNOWN", "UNKNOWN CRIT"))
    assert (text.split()[1], status) == ("CRITICAL", 2)
    text, status = told(("UNKNOWN", "UNKNOWN WARN"))
    assert (text.split()[1], status) == ("UNKNOWN", 3)


def test_nothing_that_was_checked_is_unknown() -> None:
    assert told()[1] == 3
    assert told(("OK", ""))[1] == 0
    assert told(("OK", ""), exit=None)[1] == 3


def test_what_went_wrong_besides_hides_nothing() -> None:
    found = run("failed", {"web1": "failed"}, dict([record("5@web1", "failed",
                evidence={"level": "CRIT"}, reason="CRIT page")]), exit=1)  # fmt: skip
    text, status = plugin.told(found, samples.plan(), ["/srv/x.prom: no room"])
    assert text.splitlines()[0] == (
        "DEPLOY CRITICAL - web1: CRIT page; and 1 UNKNOWN | ok=0 warn=0 crit=1 unknown=1"
    )
    assert "/srv/x.prom: no room" in text
    assert status == 2


def test_a_host_that_nobody_reaches_is_unknown_in_the_metrics_too() -> None:
    away: Mapping[str, object] = {"unreachable": {"web9": "host web9: refused the connection"}}
    well = dict([record("5@web1", "succeeded", evidence={"level": "OK"}, reason="OK page")])
    found = run("failed", {"web1": "done", "web9": "unreachable"}, well, exit=1, **away)
    text = metrics.text(found, samples.plan())
    assert 'opskit_checks{runbook="deploy",level="OK"} 1\n' in text
    assert 'opskit_checks{runbook="deploy",level="UNKNOWN"} 1\n' in text


def test_a_label_stays_within_its_quotes() -> None:
    hostile = 'a"} 1\nopskit_checks{level="OK"} 99\\'
    well = dict([record("5@web1", "succeeded", evidence={"level": "OK", "system": hostile})])
    text = metrics.text(run("succeeded", {"web1": "done"}, well, exit=0), samples.plan())
    told = [line for line in text.splitlines() if line.startswith("opskit_check_level")]
    assert len(told) == 1
    assert told[0].endswith(r'system="a\"} 1\nopskit_checks{level=\"OK\"} 99\\"} 0')
