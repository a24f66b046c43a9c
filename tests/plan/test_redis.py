"""Redis steps in a plan: their words, their server, where they run, the look before them."""

from pathlib import Path

import pytest

from opskit import load
from opskit.load.commands import split
from opskit.model.codec import canonical, from_json, parse, to_json
from opskit.model.plan import Action, Plan
from opskit.model.problem import ProblemsError
from opskit.model.text import Late
from opskit.model.work import RedisCall, RedisLook
from opskit.plan.make import make
from opskit.plan.redis import marked
from opskit.render import TemplateError, text
from opskit.view import works
from tests.support.world import no_files

HEAD = (
    "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\nhosts: web\nparams: {x: {type: string}}\n"
)
INVENTORY = """
opskit: 1
hosts: {web1: 10.0.0.1, web2: 10.0.0.2, db1: 10.0.0.3}
groups: {web: [web1, web2]}
secrets: {word: env:WORD}
redis:
  main: {url: 'redis://app@db1:6379/2', password: word, via: db1}
  copy: {url: 'redis://db2', role: replica}
"""


def plan(folder: Path, steps: str, inventory: str = INVENTORY, x: str = "it's") -> Plan:
    (folder / "t.yaml").write_text(f"{HEAD}steps:\n{steps}")
    (folder / "i.yaml").write_text(inventory)
    runbook = load.runbook(folder / "t.yaml", [])
    return make(runbook, load.inventory(folder / "i.yaml"), {"x": x}, files=no_files)


def spots(actions: tuple[Action, ...]) -> list[tuple[str, str, str]]:
    return [(action.key, action.host, action.target) for action in actions]


def call(made: Plan, number: int = -1) -> RedisCall:
    work = made.actions[number].work
    assert isinstance(work, RedisCall)
    return work


def words(work: RedisCall) -> list[list[str]]:
    return [[word.fixed() for word in row] for row in work.commands]


def test_commands_are_done_once_a_run_at_their_server_after_a_look(tmp_path: Path) -> None:
    step = "  - redis: {command: 'SET a {{ x }}', server: main}\n"
    made = plan(tmp_path, step, x="b c 'd' \"e\"\r\nFLUSHALL")
    assert spots(made.actions) == [
        ("0:redis:main/", "", "redis:main"), ("1/>redis:main", "", "redis:main")
    ]  # fmt: skip
    assert made.actions[0].work == RedisLook(server="main")
    assert made.stage(made.actions[0]).phase == "preflight"
    assert words(call(made)) == [["SET", "a", "b c 'd' \"e\"\r\nFLUSHALL"]]
    assert (made.redis["main"].via, marked(made)) == ("db1", frozenset({"main"}))
    assert "db1" in made.hosts
    assert "redis:main" not in made.hosts
    assert from_json(Plan, parse(canonical(to_json(made)))) == made


def test_reads_alone_need_no_look(tmp_path: Path) -> None:
    made = plan(tmp_path, "  - redis: {command: GET a, server: copy}\n    effect: read\n")
    assert spots(made.actions) == [("1/>redis:copy", "", "redis:copy")]
    assert marked(made) == frozenset()


def test_each_line_and_each_item_is_a_command(tmp_path: Path) -> None:
    steps = (
        "  - redis:\n      server: main\n      command: |\n        SET a 1\n\n        INCR a\n"
        "  - redis:\n      server: main\n      command: [SET a 1, [SET, 'b c', '', '{{ x }}']]\n"
    )
    made = plan(tmp_path, steps)
    assert words(call(made, -2)) == [["SET", "a", "1"], ["INCR", "a"]]
    assert words(call(made)) == [["SET", "a", "1"], ["SET", "b c", "", "it's"]]


@pytest.mark.parametrize(
    ("written", "cut"),
    [
        ("SET a  b", [("SET", "a", "b")]),
        ("SET 'a b' \"c'd\"", [("SET", "a b", "c'd")]),
        (r"""SET "a\n\x00\"\\" 'it\'s \n'""", [("SET", 'a\n\0"\\', "it's \\n")]),
        (r'SET "\xc3\xbc\xff"', [("SET", "\udcc3\udcbc\udcff")]),
        ("SET {{ x }} k:{{ x ~ ' ' }}:{t}", [("SET", "{{ x }}", "k:{{ x ~ ' ' }}:{t}")]),
        ("SET 'a {{ x['b c'] }}' \"\"", [("SET", "a {{ x['b c'] }}", "")]),
        ("SET {user:{{ x }}}:a", [("SET", "{user:{{ x }}}:a")]),
        (r'SET "\x7b\x7b x }}"', [("SET", '{{ "{" }}{{ "{" }} x }}')]),
        (" \nGET a\n\n", [("GET", "a")]),
    ],
)
def test_a_text_is_cut_as_redis_cli_does_and_expressions_are_whole(
    written: str, cut: list[tuple[str, ...]]
) -> None:
    assert split(written) == cut


def test_what_is_spelt_out_in_quotes_is_no_expression() -> None:
    ((_, word),) = split(r'SET "\x7b\x7b x }}"')
    assert text(word, {}, context="argument").fixed() == "{{ x }}"


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}, None])
def test_an_argument_is_one(value: object) -> None:
    with pytest.raises(TemplateError, match="stands in an argument"):
        text("{{ x }}", {"x": value}, context="argument")
    with pytest.raises(TemplateError, match="an argument is one"):
        text("{{ x | raw }}", {"x": "a"}, context="argument")


def test_an_argument_may_have_any_character() -> None:
    assert text("{{ x }}", {"x": "\0\r\n"}, context="argument").fixed() == "\0\r\n"
    assert text("{{ x }}", {"x": True}, context="argument").fixed() == "true"


def test_bytes_that_are_no_text_are_shown_as_they_were_spelt(tmp_path: Path) -> None:
    made = plan(tmp_path, r"""  - redis: {server: main, command: 'SET k "\xff\x00\n"'}""" + "\n")
    assert works.lines(call(made)) == [r'redis> SET k "\xff\x00\n"']
    assert split(works.lines(call(made))[0].removeprefix("redis> ")) == [
        tuple(words(call(made))[0])
    ]


def test_a_script_is_not_rendered_its_keys_and_arguments_are(tmp_path: Path) -> None:
    script = "return {{KEYS[1]}, ARGV[1]}"
    steps = (
        f"  - redis: {{server: main, script: '{script}', keys: [k], args: ['{{{{ x }}}}', -1]}}\n"
    )
    work = call(plan(tmp_path, steps))
    assert (str(work.script), [str(one) for one in work.keys]) == (script, ["k"])
    assert [one.fixed() for one in work.args] == ["it's", "-1"]
    assert works.lines(work) == ['script, keys k, arguments "it\'s" -1', f"| {script}"]


def test_the_plan_shows_each_argument_so_that_its_ends_can_be_seen(tmp_path: Path) -> None:
    steps = (
        "  - {redis: {command: GET a, server: main}, effect: read, save: old}\n"
        "  - redis: {server: main, command: \"SET 'a b' {{ x }}:{{ old }} ''\", expect: OK}\n"
        "  - redis: {server: main, command: CONFIG SET maxmemory 1, transaction: none}\n"
        "    done_when: {redis: {server: main, command: CONFIG GET maxmemory, expect: '1'}}\n"
    )
    made = plan(tmp_path, steps, x='"\n\x1b[2J')
    late = call(made, -2)
    assert isinstance(late.commands[0][2].parts[-1], Late)
    assert works.lines(late) == [
        r'redis> SET "a b" "\"\n\x1b[2J:{{ old }}" ""', "expects OK"
    ]  # fmt: skip
    assert works.headline(late).startswith('SET "a b"')
    assert works.late_names(made.actions[-2]) == ("old",)
    assert works.lines(call(made)) == ["redis> CONFIG SET maxmemory 1", "alone, without a mark"]
    assert works.lines(made.actions[0].work) == ["see that redis main is the one that is meant"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("redis: {command: GET a, server: other}", "the inventory has no Redis server 'other'"),
        ("redis: GET a", "the step does not say on which Redis server it works"),
        ("redis: {command: DEL a, server: copy}", "the Redis server copy is a replica"),
        ("redis: {command: 'SET a {{ [x] }}', server: main}", "a list or a mapping stands in"),
    ],
)
def test_what_can_not_be_planned_is_told_at_its_place(tmp_path: Path, step: str, said: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        plan(tmp_path, f"  - {step}\n")
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert problem.place.line == 8


def test_the_only_server_is_meant_where_none_is_named(tmp_path: Path) -> None:
    alone = INVENTORY.replace("  copy: {url: 'redis://db2', role: replica}\n", "")
    made = plan(tmp_path, "  - redis: DEL a\n    undo: {redis: SET a 1}\n", alone)
    assert made.actions[1].target == "redis:main"
    assert spots(made.actions[1].undo) == [("1/>redis:main!1", "", "redis:main")]


def test_an_inventory_without_redis_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        plan(tmp_path, "  - redis: GET a\n", INVENTORY.partition("redis:")[0])
    (problem,) = caught.value.problems
    assert problem.what == "the step works on a Redis server, and the inventory has none"
    assert problem.write.startswith("add redis: {NAME: ")
