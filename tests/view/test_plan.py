"""A plan as text: exact, folded, honest about what can't be known."""

from dataclasses import replace

import pytest

from opskit.model.plan import Plan
from opskit.model.text import Late, Text, text
from opskit.model.value import SecretRef
from opskit.model.work import (
    Ask,
    Check,
    Command,
    Notify,
    Recall,
    Remove,
    Request,
    Upload,
    Wait,
    Work,
)
from opskit.view import plan as view
from opskit.view import works
from opskit.view.paint import Paint, bare
from opskit.view.plan import Look
from tests.view import samples
from tests.view.samples import Read


def one(work: Work, **more: object) -> Plan:
    """A plan with a single action on a single host."""
    whole = samples.plan(1, (1,))
    stages = {"4": replace(samples.STAGES["4"], scope="each")}
    return replace(whole, stages=stages, actions=(samples.action("4", "web1", work, 0, **more),))


def test_every_step_stands_there_with_its_exact_text() -> None:
    shown = view.text(samples.plan())
    assert "$ readlink -e current || test ! -e current\n" in shown
    assert "$ ln -sfnT releases/B .current.{{ run.id }}\n" in shown
    assert "  mv -Tf .current.{{ run.id }} current\n" in shown
    assert "in /srv/app · as app" in shown
    assert "GET http://10.0.0.2:8000/health/" in shown
    assert "expects 200, X-Release: B, json status = healthy" in shown
    assert "every 1.0s for up to 30s until it holds, 3 times in a row" in shown


def test_what_waits_for_the_run_is_marked_and_counted() -> None:
    shown = view.text(samples.plan())
    assert "   4 change? Switch" in shown
    assert "undetermined: when it runs (run.id)" in shown
    assert "21 actions: 12 read, 9 change, 5 undetermined" in shown


def test_a_text_that_needs_an_earlier_step_names_that_step() -> None:
    work = Command(text=samples.late("ln -sfnT ", "previous", " current"))
    plan = replace(one(work), stages={**samples.STAGES})
    assert "undetermined: after step 2 (previous)" in view.text(plan)


def test_a_condition_that_is_not_known_shows_both_branches() -> None:
    when = Text(parts=(Late(source="previous", names=("previous",), context="condition"),))
    plan = replace(one(Command(text=text("true")), when=when), stages={**samples.STAGES})
    shown = view.text(plan)
    assert "if previous: as follows; if not: skipped" in shown
    assert "undetermined: after step 2 (previous)" in shown


def test_a_condition_that_is_false_now_says_that_nothing_is_done() -> None:
    shown = view.text(one(Command(text=text("reboot")), when=text("False")))
    assert "not done: its `when` is false here" in shown
    assert "reboot" not in shown


def test_200_hosts_stay_readable() -> None:
    plan = samples.plan(200, (1, 50))
    shown = view.text(plan)
    assert len(shown.splitlines()) < 60
    assert "web1..web200 (200 hosts) (text for web1)" in shown
    assert "as in batch 1: steps 2 to 5" in shown
    assert "1001 actions: 600 read, 401 change" in shown


def test_full_shows_every_host_by_itself() -> None:
    shown = view.text(samples.plan(), Look(full=True))
    for number in range(1, 5):
        assert f"GET http://10.0.0.{number + 1}:8000/health/" in shown
    assert "as in batch 1" not in shown


def test_hosts_that_differ_in_more_than_their_names_are_shown_apart() -> None:
    plan = samples.plan(2, (2,))
    odd = [
        replace(a, work=Command(text=text("true"))) if a.key == "2@web2" else a
        for a in plan.actions
    ]
    shown = view.text(replace(plan, actions=tuple(odd)))
    assert "Remember what is live · on web1\n" in shown
    assert "Remember what is live · on web2\n" in shown


def test_a_later_batch_that_differs_is_shown_where_it_differs() -> None:
    plan = samples.plan()
    odd = [
        replace(a, work=Command(text=text("true"))) if a.key == "4@web2" else a
        for a in plan.actions
    ]
    shown = view.text(replace(plan, actions=tuple(odd)))
    second = shown.split("Batch 2 of 3")[1].split("Batch 3 of 3")[0]
    assert "as in batch 1: steps 2, 3, 5" in second
    assert "$ true" in second


def test_a_step_done_once_counts_once_and_says_where() -> None:
    plan = samples.plan(3, (3,))
    stages = {**plan.stages, "2": replace(plan.stages["2"], scope="once")}
    shown = view.text(replace(plan, stages=stages))
    assert "Remember what is live · once, on the first that lives of web1 web2 web3" in shown
    assert "Batch 1 of 1 · web1 web2 web3 · 4 read, 6 change" in shown


def test_work_on_another_machine_names_both() -> None:
    shown = view.text(one(Command(text=text("x"), summary="drain web1 in web"), target="lb1"))
    assert "Switch · on lb1 for web1" in shown
    assert "drain web1 in web" in shown


def test_undo_is_listed_on_request_and_its_absence_always() -> None:
    assert "undo: Switch back" not in view.text(samples.plan())
    shown = view.text(samples.plan(), Look(undo=True))
    assert "undo: Switch back" in shown
    assert "$ ln -sfnT {{ previous }} current && systemctl restart app" in shown
    assert "undo: none" in shown
    assert "No way back is given for: step 3" in view.text(samples.plan())


def test_declared_reads_are_named_until_a_read_user_enforces_them() -> None:
    plan = samples.plan()
    assert "Only declared: that the shell reads of step 2" in view.text(plan)
    enforced = {h.name: samples.host(n + 1, read_user="nobody") for n, h in
                enumerate(plan.hosts.values())}  # fmt: skip
    assert "Only declared" not in view.text(replace(plan, hosts=enforced))


def test_readings_stand_beside_the_step_and_equal_ones_together() -> None:
    readings = {
        "1@web1": Read(text="200"),
        "1@web2": Read(text="200"),
        "1@web3": Read(outcome="failed", text="connection refused"),
        "2@web1": Read(text="/srv/app/releases/A\n"),
    }
    shown = view.text(samples.plan(), Look(read=True, readings=readings))
    assert "now on web1 web2: 200" in shown
    assert "now on web3: FAILED" in shown
    assert "connection refused" in shown
    assert "now: /srv/app/releases/A" in shown
    assert "Not read on every host" in shown
    assert "Read at 08:00:00Z" in shown


def test_without_reads_the_plan_says_so() -> None:
    assert "No reading was made" in view.text(samples.plan())


def test_a_refusal_stands_at_the_end() -> None:
    shown = view.text(samples.plan(), Look(read=True, refused="web3: unreachable"))
    assert shown.rstrip().endswith("A run would be refused: web3: unreachable")


def written(old: str | None, **evidence: object) -> str:
    work = Upload(content=text("a\nB\nc\n"), dest=text("/etc/app.conf"), mode="0644")
    found = {"exists": old is not None, "text": old, "sha256": "ab" * 32, **evidence}
    reading = Read(evidence=found)  # type: ignore[arg-type]
    return view.text(one(work), Look(read=True, readings={"4@web1": reading}))


def test_a_file_that_would_change_is_shown_as_a_difference() -> None:
    shown = written("a\nb\nc\n")
    assert "write 6 B of text to /etc/app.conf, mode 0644" in shown
    assert "it would change as follows" in shown
    for row in ("--- on the host now", "+++ after the run", " a", "-b", "+B"):
        assert f"      {row}\n" in shown


def test_a_file_that_is_there_already_or_not_at_all_needs_no_difference() -> None:
    assert "now: the same is there already" in written("a\nB\nc\n", same=True)
    assert "now: nothing is there" in written(None)


def test_a_file_that_is_not_text_is_named_by_its_digest() -> None:
    assert "something else is there (sha256 abababababab)" in written(None, exists=True)
    folder = written(None, exists=True, kind="directory", sha256=None)
    assert "something else is there (a directory)" in folder


def test_a_file_beside_the_person_is_compared_through_its_contents() -> None:
    work = Upload(content=samples.RELEASE, dest=text("/etc/app.conf"))
    readings = {"4@web1": Read(evidence={"exists": True, "text": "old\n"})}
    look = Look(read=True, readings=readings, contents=lambda file: f"new {file.size}\n")
    shown = view.text(one(work), look)
    assert "-old" in shown
    assert "+new 12345678" in shown


def test_long_texts_are_shortened_with_a_count_unless_full() -> None:
    script = Command(text=text("".join(f"echo {n}\n" for n in range(100))))
    shown = view.text(one(script))
    assert "… 92 more lines (--full shows them)" in shown
    assert "echo 99" in view.text(one(script), Look(full=True))
    wide = view.text(one(Command(text=text("x" * 65536))))
    assert "65336 more characters (--full)" in wide


def test_what_a_command_reads_is_counted_and_full_shows_all_of_it() -> None:
    read = text("".join(f"DELETE {n}\n" for n in range(100)))
    for work in (
        Command(text=text("sh"), stdin=read),
        Command(text=text("sh"), args=(text("a"),), stdin=read),
    ):
        shown = view.text(one(work))
        assert "stdin: 990 B of text" in shown
        assert "DELETE" not in shown
        full = view.text(one(work), Look(full=True))
        assert "| DELETE 0\n" in full
        assert "| DELETE 99\n" in full
    secret = Command(text=text("sh"), stdin=SecretRef(name="token"), cwd=text("/srv"), summary="S")
    assert "in /srv · stdin: secret token" in view.text(one(secret), Look(full=True))


def test_hosts_that_read_other_texts_of_one_length_do_not_look_alike() -> None:
    first, second = (Command(text=text("sh"), stdin=text(word)) for word in ("ab", "cd"))
    assert works.lines(first, full=True) != works.lines(second, full=True)


def test_a_hostile_value_can_be_seen_and_does_nothing() -> None:
    shown = view.text(one(Command(text=text("echo '\x1b[2J\u202eevil'"))))
    assert "\\x1b[2J\\u202eevil" in shown
    assert "\x1b" not in shown


EVERY_KIND: list[tuple[Work, list[str]]] = [
    (Command(text=text("#!/bin/bash\nid"), shell=False, args=(text("a b"),)),
     ["script with arguments 'a b'", "| #!/bin/bash", "| id"]),
    (Command(text=text("x"), stdin=SecretRef(name="key"), secrets={"PW": "db"}),
     ["stdin: secret key · $PW: secret db"]),
    (Remove(dest=text("/srv/x"), of="3@web1"), ["put back what stood at /srv/x before"]),
    (Request(url=text("http://h/"), method="POST", body=text('{"a": 1}'), via="host",
             headers={"Authorization": SecretRef(name="token"), "A": text("b")}),
     ["POST http://h/ from the host", "Authorization: secret token", "A: b", 'body: {"a": 1}',
      "expects any 2xx"]),
    (Wait(seconds=90), ["wait 1m30s"]),
    (Check(that=(text("True"), text("False")), message=text("no release")),
     ["check: holds already now", "check: DOES NOT HOLD already now", "otherwise: no release"]),
    (Ask(question=text("Is the dashboard green?")), ["ask: Is the dashboard green?"]),
    (Ask(question=text("Call the bank"), manual=True), ["a person does: Call the bank"]),
    (Notify(message=text("done")), ["tell: done"]),
    (Recall(runbook="deploy", value="previous", host="web1", default="A"),
     ["recall previous from the newest succeeded run of deploy on web1, else 'A'"]),
]  # fmt: skip


@pytest.mark.parametrize(("work", "expected"), EVERY_KIND, ids=lambda v: type(v).__name__)
def test_every_kind_of_work_is_described(work: Work, expected: list[str]) -> None:
    shown = view.text(one(work))
    for words in expected:
        assert words in shown
    assert works.headline(work) != ""


def test_colour_adds_nothing_but_colour() -> None:
    plan = samples.plan()
    painted = view.text(plan, Look(paint=Paint(colour=True)))
    assert painted != view.text(plan)
    assert bare(painted) == view.text(plan)


def test_headings_fit_80_columns() -> None:
    shown = view.text(samples.plan(200, (1, 50)))
    heads = [row for row in shown.splitlines() if row.startswith(("Batch", "Preflight", "Always"))]
    assert max(map(len, heads)) <= 80


def test_parameters_stand_as_they_would_be_typed() -> None:
    plan = replace(samples.plan(), parameters={"w": 0, "b": 604800.0, "a": None, "n": ""})
    shown = view.text(plan, Look(durations={"w", "b"}))
    told = {line.split()[0]: line.split()[1] for line in shown.splitlines()[3:7]}
    assert told == {"w": "0s", "b": "7d", "a": "-", "n": "-"}


def test_what_a_condition_rules_out_is_neither_missed_nor_without_a_way_back() -> None:
    plan = one(Command(text=text("reboot")), when=text("False"))
    assert str(view.counts(plan.actions, plan.stages)) == "0 read, 0 change"
    assert "No way back" in view.text(one(Command(text=text("reboot"))))
    assert "No way back" not in view.text(plan)
    reads = replace(plan, stages={"4": replace(plan.stages["4"], effect="read")})
    assert "Not read on every host" not in view.text(reads, Look(read=True))
