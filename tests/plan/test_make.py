"""A plan is the same for the same input, in order, with every value where it belongs."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opskit import load
from opskit.errors import InputError
from opskit.execute.driver import Write
from opskit.model.codec import canonical, from_json, parse, to_json
from opskit.model.job import Job, Output
from opskit.model.plan import Plan
from opskit.model.problem import ProblemsError
from opskit.model.value import SecretRef
from opskit.model.work import Command
from opskit.plan import preview, progress
from opskit.plan.batches import split
from opskit.plan.make import make, seal
from tests.support.world import World, go, no_files, planned, runbook, texts

STEPS = """
  - {name: look, run: look, effect: read, phase: preflight, save: before}
  - {name: put, run: 'put {{ word }} {{ host }}', undo: {run: 'back {{ before }}'}}
  - {name: tell, run: 'tell {{ target }} of {{ host }}', on: {group: lb, per: host}}
  - {name: all, run: all, on: controller}
  - {name: each, run: 'do {{ item }} {{ index }}', for_each: [x, y]}
"""
WORD = "params: {word: {default: w}}\n"


def test_the_same_input_gives_the_same_plan(tmp_path: Path) -> None:
    one = planned(runbook(STEPS, WORD), tmp_path, word="a b")
    two = planned(runbook(STEPS, WORD), tmp_path, word="a b")
    assert one == two
    assert one.digest == two.digest
    assert planned(runbook(STEPS, WORD), tmp_path, word="a c").digest != one.digest


def test_a_plan_survives_its_own_json(tmp_path: Path) -> None:
    plan = planned(runbook(STEPS, WORD), tmp_path, word="a b")
    again = from_json(Plan, parse(canonical(to_json(plan))))
    assert again == plan
    assert seal(again).digest == plan.digest


def test_keys_are_stable_and_name_host_target_and_item(tmp_path: Path) -> None:
    plan = planned(runbook(STEPS, WORD + "batches: [1]\n"), tmp_path, word="w")
    assert [a.key for a in plan.actions] == [
        "1/web1", "1/web2",
        "2/web1", "3/web1>lb1", "4/>controller", "5/web1#0", "5/web1#1",
        "2/web2", "3/web2>lb1", "5/web2#0", "5/web2#1",
    ]  # fmt: skip
    assert texts(plan)[2:7] == ["put w web1", "tell lb1 of web1", "all", "do x 0", "do y 1"]
    assert [u.key for u in plan.actions[2].undo] == ["2/web1!1"]


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [
        (["1", "25%", "100%"], [1, 2, 7]),
        (["3"], [3, 3, 3, 1]),
        (["10%"], [1] * 10),
        (["5%", "50%"], [1, 5, 4]),
        (["100%"], [10]),
    ],
)
def test_batches_round_down_but_not_to_nothing(sizes: list[str], lengths: list[int]) -> None:
    hosts = [f"h{n}" for n in range(10)]
    batches = split(hosts, sizes)
    assert [len(b) for b in batches] == lengths
    assert [h for b in batches for h in b] == hosts


@pytest.mark.parametrize("step", ["each", "5"])
def test_a_run_may_begin_at_a_step_by_name_or_number(tmp_path: Path, step: str) -> None:
    planned(runbook(STEPS, WORD), tmp_path, word="w")
    book, hosts = load.runbook(tmp_path / "r.yaml", []), load.inventory(tmp_path / "i.yaml")
    plan = make(book, hosts, {"word": "w"}, from_step=step, files=no_files)
    assert {action.position for action in plan.actions} == {"1", "5"}


def test_a_step_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    planned(runbook(STEPS, WORD), tmp_path, word="w")
    book, hosts = load.runbook(tmp_path / "r.yaml", []), load.inventory(tmp_path / "i.yaml")
    with pytest.raises(InputError) as caught:
        make(book, hosts, {"word": "w"}, from_step="1", files=no_files)
    assert caught.value.what == "r has no step '1' to begin at"
    assert caught.value.hint == "--from wants one of: 2 put; 3 tell; 4 all; 5 each"


def test_no_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="selects no host"):
        planned(runbook(STEPS, WORD), tmp_path, hosts=0, word="w")


def test_every_template_that_cannot_be_rendered_is_named_at_once(tmp_path: Path) -> None:
    steps = "  - {name: a, run: 'x {{ vars.a }}'}\n  - {name: b, run: 'y {{ vars.b }}'}\n"
    with pytest.raises(ProblemsError) as caught:
        planned(runbook(steps), tmp_path)
    assert len(caught.value.problems) == 2
    assert "r.yaml:7:" in str(caught.value)
    assert "r.yaml:8:" in str(caught.value)


HOSTILE = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
    st.sampled_from(
        ["$(id)", "`id`", "'", '"', "\\", "a\nb", "; id", "-rf", "*", "~", "é✓", "%s", "a" * 65536]
    ),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(word=HOSTILE)
def test_hostile_values_are_one_word_in_planned_and_in_late_text(tmp_path: Path, word: str) -> None:
    """What a host says (a saved value) is as little to be trusted as a parameter."""
    steps = (
        "  - {name: a, run: look, effect: read, save: late}\n"
        "  - {name: b, run: 'printf %s {{ word }}'}\n"
        "  - {name: c, run: 'printf %s {{ late }}'}\n"
    )
    plan = planned(runbook(steps, WORD), tmp_path, hosts=1, word=word)
    world = Echo(answers={"1/web1": word.encode() + b"\n"})
    go(plan, world)
    for line in world.lines:
        shell = subprocess.run(["sh", "-eu"], input=line.encode(), capture_output=True, check=True)
        assert shell.stdout.decode() == word


class Echo(World):
    """Keeps the text of each change as it is sent."""

    @property
    def lines(self) -> list[str]:
        return [line for line in self.sent if line.startswith("printf")]

    def perform(self, job: Job, write: Write) -> Output:
        output = super().perform(job, write)
        if isinstance(job.work, Command):
            self.sent.append(job.work.text.fixed())
        return output


def test_a_preview_reads_on_each_host_up_to_its_first_change(tmp_path: Path) -> None:
    steps = """
  - {name: a, run: a, effect: read}
  - {name: b, run: b, creates: /x}
  - {name: c, run: c, effect: read}
  - {name: d, run: d, effect: read, on: {group: lb, per: run}}
"""
    plan = planned(runbook(steps), tmp_path)
    looks = preview(plan, {})
    assert [a.key for a in looks.actions] == [
        "1/web1", "1/web2", "2/web1?skip", "2/web2?skip", "4/>lb1",
    ]  # fmt: skip
    assert {looks.stage(a).effect for a in looks.actions} == {"read"}
    world = World(fails={"2/web2?skip": -1})
    _, paper = go(looks, world)
    assert world.effects == []
    further = preview(plan, progress(paper.entries))
    assert [a.key for a in further.actions] == ["3/web1"]


def test_hosts_and_lock_may_be_templates(tmp_path: Path) -> None:
    text = runbook("  - {name: a, run: a}\n", "lock: 'deploy-{{ tier }}'\n")
    text = text.replace("hosts: web", "params: {tier: {default: web}}\nhosts: '{{ tier }}:!web1'")
    plan = planned(text, tmp_path, tier="web")
    assert plan.batches == (("web2",),)
    assert plan.locks == ("deploy-web",)


def test_for_each_takes_an_expression(tmp_path: Path) -> None:
    steps = "  - {name: a, run: 'do {{ item }}', for_each: \"{{ vars.get('x', ['p', 'q']) }}\"}\n"
    assert texts(planned(runbook(steps), tmp_path, hosts=1)) == ["do p", "do q"]


def test_includes_keep_their_saved_names_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        "opskit: 1\nname: inner\nversion: 1.0.0\nsummary: s\nparams: {p: {default: d}}\n"
        "lock: deep\nexport: [shown]\nsteps:\n"
        "  - {name: s, run: s, effect: read, save: shown}\n"
        "  - {name: h, run: h, effect: read, save: hidden}\n"
        "  - {name: use, run: 'use {{ hidden }} {{ p }}'}\n"
    )
    steps = """
  - {name: mine, run: mine, effect: read, save: hidden}
  - {name: inc, runbook: {name: inner, with: {p: '{{ host.name }}'}}}
  - {name: use, run: 'outer {{ hidden }} {{ shown }}'}
"""
    plan = planned(runbook(steps, "lock: top\n"), tmp_path, hosts=1)
    assert plan.locks == ("top", "deep")
    answers = {
        plan.actions[0].key: b"outer", plan.actions[1].key: b"S", plan.actions[2].key: b"inner",
    }  # fmt: skip
    world = Echo(answers=answers)
    go(plan, world)
    assert "use inner web1" in world.sent
    assert "outer outer S" in world.sent


def test_one_machine_under_two_names_is_refused(tmp_path: Path) -> None:
    planned(runbook(STEPS, WORD), tmp_path, word="w")
    text = (tmp_path / "i.yaml").read_text()
    (tmp_path / "i.yaml").write_text(text.replace("10.0.0.2", "10.0.0.1"))
    book, hosts = load.runbook(tmp_path / "r.yaml", []), load.inventory(tmp_path / "i.yaml")
    with pytest.raises(InputError, match="web1 and web2 have the same address"):
        make(book, hosts, {"word": "w"}, files=no_files)
    assert make(book, hosts, {"word": "w"}, limit="web1", files=no_files).actions


def test_a_secret_of_the_inventory_can_be_what_a_command_reads(tmp_path: Path) -> None:
    steps = "  - {run: login, stdin: '{{ password }}'}\n"
    with pytest.raises(ProblemsError, match="nothing is called `password`, neither in the runbook"):
        planned(runbook(steps), tmp_path)
    hosts = (tmp_path / "i.yaml").read_text() + "secrets: {password: 'env:PASSWORD'}\n"
    (tmp_path / "i.yaml").write_text(hosts)
    book, known = load.runbook(tmp_path / "r.yaml", []), load.inventory(tmp_path / "i.yaml")
    plan = make(book, known, {}, files=no_files)
    assert [a.work.stdin for a in plan.actions if isinstance(a.work, Command)] == [
        SecretRef(name="password")
    ] * 2


def test_a_limit_may_be_a_template_that_is_the_same_for_all_hosts(tmp_path: Path) -> None:
    head = "params: {limit: {type: duration, default: 90s}}\n"
    back = "{run: ls, timeout: '{{ limit * 2 }}'}"
    steps = f"  - {{name: look, run: ls, timeout: '{{{{ limit }}}}', undo: {back}}}\n"
    plan = planned(runbook(steps, head), tmp_path, limit=90.0)
    assert [stage.timeout for stage in plan.stages.values()] == [90.0, 180.0]
    assert planned(runbook(steps, head), tmp_path, limit=2.0).digest != plan.digest


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("{{ limit - 90 }}", "`timeout` came to 0"),
        ("{{ limit }} sheep", "`timeout` came to '90.0 sheep'"),
        ("{{ host.name }}", "host"),
        ("{{ before }}", "must be known when planning"),
    ],
)
def test_a_limit_that_comes_to_none_is_refused_where_it_stands(
    tmp_path: Path, limit: str, said: str
) -> None:
    head = "params: {limit: {type: duration, default: 90s}}\n"
    steps = "  - {name: before, run: ls, effect: read, save: before}\n"
    steps += f"  - {{name: look, run: ls, timeout: '{limit}'}}\n"
    with pytest.raises(InputError) as refused:
        planned(runbook(steps, head), tmp_path, limit=90.0)
    assert said in str(refused.value)
    assert "r.yaml:9:" in str(refused.value)


@pytest.mark.parametrize(
    "step", ["run: 'x {{ service.a }}'", "run: x, for_each: '{{ service.a }}'"]
)
@pytest.mark.parametrize(
    ("services", "said"),
    [("", "of this step has none"), ("s: {hosts: all}, t: {hosts: all}", "s, t")],
)
def test_a_service_that_is_none_or_several_is_told_as_that(
    tmp_path: Path, step: str, services: str, said: str
) -> None:
    (tmp_path / "r.yaml").write_text(runbook(f"  - {{name: a, {step}}}\n"))
    (tmp_path / "i.yaml").write_text(
        f"opskit: 1\nhosts: {{web: 10.0.0.1}}\nservices: {{{services}}}\n"
    )
    with pytest.raises(ProblemsError) as caught:
        make(
            load.runbook(tmp_path / "r.yaml", []),
            load.inventory(tmp_path / "i.yaml"),
            {},
            files=no_files,
        )
    (problem,) = caught.value.problems
    assert said in problem.what
    assert "in the inventory" in problem.write
    assert problem.place is not None
    assert problem.place.line == 7
