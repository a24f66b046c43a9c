"""Templates become parts; what is late stays an expression."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.model.inventory import Host
from opskit.model.text import Late
from opskit.render import TemplateError, condition, evaluate, fill, host_view, names, text

LATE = frozenset({"previous", "run"})
HOST = host_view(Host(name="web1", address="fe80::1", vars={"n": 3}, groups=("web",)))


def test_text_without_braces_is_fixed() -> None:
    assert text("plain $x } { text", {}).fixed() == "plain $x } { text"


def test_late_parts_stay_expressions_and_known_ones_are_written_out() -> None:
    made = text("ln {{ a }} {{ previous }} end", {"a": "x y"}, LATE, "word")
    assert str(made) == "ln 'x y' {{ previous }} end"
    assert made.names == ("previous",)
    assert fill(made, {"previous": "$(id)"}).fixed() == "ln 'x y' '$(id)' end"


def test_a_late_part_keeps_the_known_values_that_it_uses() -> None:
    made = text("{{ previous or host.vars.n }}", {"host": HOST}, LATE)
    part = made.parts[0]
    assert isinstance(part, Late)
    assert fill(made, {"previous": ""}).fixed() == "3"


def test_a_block_with_a_late_name_is_late_as_a_whole() -> None:
    made = text("a{% if previous %}b{{ x }}{% endif %}c", {"x": 1}, LATE)
    assert [type(part).__name__ for part in made.parts] == ["Fixed", "Late", "Fixed"]
    assert fill(made, {"previous": "yes"}).fixed() == "ab1c"


def test_set_makes_the_template_one_piece() -> None:
    assert text("{% set a = 2 %}{{ a }}", {}).fixed() == "2"


GIVEN = {
    "service": {"root": "/srv/app", "port": 80, "checks": [{"label": "page"}], "Colour": "blue"},
    "services": {"app": {"root": "/a"}, "sync": {}},
    "host": HOST,
    "many": {f"n{n}": n for n in range(40)},
}
GAPS = {
    "x {{ service.rot }}": "`service.rot` is not there: `service` has root, port, checks, Colour "
    "→ root",
    "{{ service.colour }}": "`service.colour` is not there: `service` has root, port, checks, "
    "Colour → Colour",
    "{{ services.app.root }} {{ services.sync.root }}": "`services.sync.root` is not there: "
    "`services.sync` is empty",
    "{{ service['rot'].x }}": "`service['rot']` is not there: `service` has root, port, checks, "
    "Colour → root",
    "{{ service.checks[3].label }}": "`service.checks[3]` is not there: `service.checks` is a list "
    "of 1",
    "{% for c in service.checks %}{{ c.lable }}{% endfor %}": "`c.lable` is not there: `c` has "
    "label → label",
    "{{ host.adress }}": "`host.adress` is not there: `host` is the host web1, which has name, "
    "address, vars, groups → address",
    "{{ host.name.first }}": "`host.name.first` is not there: `host.name` is a text",
    "{{ (services | list).x }}": "`(…).x` is not there: `(…)` is a list of 2",
    "{{ many.zz }}": "`many.zz` is not there: `many` has 40 other names",
}


@pytest.mark.parametrize("template", GAPS)
def test_what_is_not_there_is_named_with_what_there_is(template: str) -> None:
    with pytest.raises(TemplateError) as caught:
        text(template, GIVEN)
    assert str(caught.value) == GAPS[template]


@pytest.mark.parametrize("expression", ["service.rot == 1", "not service.rot", "service.rot"])
def test_a_condition_names_it_too(expression: str) -> None:
    for asked in (condition, evaluate):
        with pytest.raises(TemplateError, match=r"`service.rot` is not there: .* → root"):
            asked(expression, GIVEN)


def test_only_what_a_run_knows_is_named_when_it_is_written_out() -> None:
    made = text("{{ found.link or service.rot }}", GIVEN, frozenset({"found"}))
    with pytest.raises(TemplateError) as caught:
        fill(made, {"found": {"lnk": ""}})
    assert str(caught.value) == "`found.link` is not there: `found` has lnk → lnk"
    with pytest.raises(TemplateError) as caught:
        fill(made, {"found": {"link": ""}})
    assert str(caught.value).startswith("`service.rot` is not there")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ nope }}", "nope"),
        ("{{ host.nope }}", "nope"),
        ("{{ a", "does not parse"),
        ("{{ none_value }}", "null"),
        ("{{ 1 // 0 }}", "by zero"),
        ("{{ ''.__class__ }}", "unsafe"),
        ("{{ nul }}", "NUL"),
    ],
)
def test_what_cannot_be_rendered_is_refused(template: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        text(template, {"host": HOST, "none_value": None, "nul": "a\0b"})


def test_a_list_in_shell_text_needs_words() -> None:
    with pytest.raises(TemplateError, match="words"):
        text("echo {{ xs }}", {"xs": ["a"]}, context="word")
    assert text("echo {{ xs | words }}", {"xs": ["a b", ";"]}, context="word").fixed() == (
        "echo 'a b' ';'"
    )


def test_a_word_over_the_limit_is_refused() -> None:
    assert text("{{ x }}", {"x": "a" * 65536}, context="word").fixed()
    with pytest.raises(TemplateError, match="stdin"):
        text("{{ x }}", {"x": "a" * 65537}, context="word")


def test_urls_are_encoded_and_keep_their_base() -> None:
    made = text("http://{{ host.address }}/{{ p }}", {"host": HOST, "p": "a/b?c"}, context="url")
    assert made.fixed() == "http://[fe80::1]/a%2Fb%3Fc"
    assert text("{{ u }}/x", {"u": "https://h:1"}, context="url").fixed() == "https://h:1/x"
    with pytest.raises(TemplateError, match="beginning of an http"):
        text("{{ u }}/x", {"u": "file:///etc"}, context="url")


def test_conditions_are_true_false_or_late() -> None:
    assert condition("a == 1", {"a": 1}).fixed() == "True"
    late = condition("previous and a", {"a": 1}, LATE)
    assert late.late
    assert fill(late, {"previous": ""}).fixed() == "False"
    assert names("{{ a.b }}{% for x in xs %}{{ x }}{% endfor %}{{ range(2) }}") == {"a", "xs"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80))
def test_any_value_is_one_word_for_a_real_shell(value: str) -> None:
    line = text("printf %s pre{{ v }}post", {"v": value}, context="word").fixed()
    done = subprocess.run(["sh", "-euc", line], capture_output=True, check=True)
    assert done.stdout.decode() == f"pre{value}post"


def test_a_key_of_a_mapping_comes_before_a_method_of_it() -> None:
    assert evaluate("service.items", {"service": {"items": [1, 2]}}) == [1, 2]
    assert evaluate("service.items() | list", {"service": {"a": 1}}) == [("a", 1)]


def test_what_is_called_is_a_method_whatever_keys_there_are() -> None:
    """Else a runbook would end with what somebody calls a host, or with a column of an answer."""
    hosts = {"by_host": {"values": "1", "items": "2"}}
    assert evaluate("by_host.values() | list", hosts) == ["1", "2"]
    assert evaluate("by_host.items() | map('last') | map('int') | sum", hosts) == 3
    assert text("{{ by_host.values() | join }} {{ by_host.values }}", hosts).fixed() == "12 1"
    assert evaluate("(x.get('get') ~ 'a').upper()", {"x": {"get": "b"}}) == "BA"
    with pytest.raises(TemplateError, match=r"`by_host\.gone` is not there"):
        evaluate("by_host.gone()", hosts)
    with pytest.raises(TemplateError):
        evaluate("by_host.__class__()", hosts)
