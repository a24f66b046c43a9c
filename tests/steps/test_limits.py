"""Which keys are counters, and which patterns are narrow enough to be acted on."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import InputError
from opskit.model.keys import Keys, Rate
from opskit.model.problem import Place
from opskit.model.runbook import Step
from opskit.model.text import text
from opskit.render import text as rendered
from opskit.steps import KINDS, globs, limits
from opskit.steps.base import Value

PLACE = Place(file="case.yaml", line=1, column=1)


def made(**args: Value) -> Keys:
    given: Mapping[str, Value] = {
        "do": text("remove"), "server": text("cache"), "max_keys": 1000, "max_share": 20,
        "override": text(""), "digest": text(""), "methods": text(""), "counters": text("rl:"),
        **args,
    }  # fmt: skip
    work = KINDS["keys"].work(given, Step(position="1", name="", kind="keys", place=PLACE, args={}))
    assert isinstance(work, Keys)
    return work


def wrong(**args: Value) -> str:
    with pytest.raises(InputError) as caught:
        made(**args)
    assert caught.value.hint
    assert ("add the beginning to `allow`" in caught.value.hint) == (
        "of what is allowed" in caught.value.what
    )
    return caught.value.what


def listed(*words: str) -> tuple[Value, ...]:
    return tuple(map(text, words))


def counters(library: str, **args: Value) -> Keys:
    return made(library=text(library), **args)


def test_a_cap_from_a_parameter_may_be_more_than_a_year_has_seconds() -> None:
    assert made(keys=listed("a"), allow=listed("a"), max_keys=text("50000000")).most == 2_000_000


# What django-ratelimit 4.1.0 itself answers at these times.
DIGESTS = [
    ("auth.login", "5/m", "17", "", 1700000000,
     "61d0d38df5a1a3bf161262b65479ad2e2c8215f580da8fa2ad7e81bb18c1e4db"),
    ("auth.login", "3/10m", "10.1.2.3", "GETPOST", 1700000039,
     "9ed21b45f15c70d88558d74a086d52b93d26d174b2e29027763ba0b3b7697f88"),
    ("a.b", "100/h", "2001:db8:1:2:3:4:5:6", "", 1700000000,
     "f4ab0f35b6e097c5a8cdccd4b7c39ed37c4f3e85d8e6a64c5d425d02ec2ed175"),
]  # fmt: skip


@pytest.mark.parametrize("known", DIGESTS)
def test_a_digest_of_django_ratelimit_is_computed_as_it_does(
    known: tuple[str, str, str, str, int, str],
) -> None:
    group, rate, value, methods, now, digest = known
    key = "ip" if "." in value or ":" in value else "user"
    work = counters("django-ratelimit", group=text(group), rate=text(rate), **{key: text(value)},
                    methods=text(methods))  # fmt: skip
    (windows,) = work.windows
    assert limits.names(windows, now) == (f":1:rl:{digest}",)
    edge = limits.window(now, windows.value, windows.seconds)
    assert len(limits.names(windows, edge)) == 2
    assert work.allow == (":1:rl:",)


def test_one_identity_of_drf_is_exact_keys() -> None:
    work = counters("drf", user=text("12"))
    assert work.names == (
        ":1:throttle_anon_12", ":1:throttle_user_12", ":1:throttle_auth_12",
        ":1:throttle_password_reset_12",
    )  # fmt: skip
    assert not work.pattern
    odd = counters("drf", user=text("a[b]*?\\ ü"), scopes=listed("user", ""))
    assert odd.names == (":1:throttle_user_a[b]*?\\ ü",)
    chain = counters("drf", ip=text("1.2.3.4, 5.6.7.8"), scopes=listed("anon"), prefix=text(""))
    assert chain.names == ("throttle_anon_1.2.3.4,5.6.7.8",)
    some = counters("drf", ip=text("10.0.0.0/30"), scopes=listed("anon"))
    assert len(some.names) == 4


def test_one_identity_of_flask_limiter_is_an_escaped_pattern() -> None:
    work = counters("flask-limiter", user=text("a[b]*"))
    assert work.pattern == r"LIMITS:LIMITER/a\[b\]\*/*"
    sliding = counters("flask-limiter", ip=text("10.0.0.1"), prefix=text("LIMITS:{LIMITER/"))
    assert sliding.pattern == "LIMITS:{LIMITER/10.0.0.1/*"


def test_all_of_a_library_is_its_pattern() -> None:
    assert counters("drf", all=text("true")).pattern == ":1:throttle_*"
    assert counters("drf", all=True, scopes=listed("au_th")).pattern == ":1:throttle_au_th_*"
    assert counters("django-ratelimit", all=True).pattern == ":1:rl:" + "?" * 64
    mine = counters("django-ratelimit", all=True, counters=text("limit:"))
    assert (mine.pattern, mine.allow) == (":1:limit:" + "?" * 64, (":1:limit:",))
    assert counters("flask-limiter", all=True).pattern == "LIMITS:LIMITER/*"


BAD_IDENTITIES = [
    ({"all": True, "user": text("1")}, "`user` and `all` are said, and they contradict each other"),
    ({"ip": text("10.0.0.1"), "user": text("1")}, "`user` and `ip` are said"),
    ({}, "none of `user`, `ip` and `all` is said"),
    ({"ip": text("0.0.0.0/0")}, "0.0.0.0/0 is wider than /24"),
    ({"ip": text("10.0.0.0/23")}, "10.0.0.0/23 is wider than /24"),
    ({"ip": text("::/0")}, "::/0 is wider than /64"),
    ({"ip": text("2001:db8::/64")}, "2001:db8::/64 has more than 256 addresses"),
    ({"ip": text("10.0.0.7/24")}, "'10.0.0.7/24' is no network"),
    ({"ip": text("10.0.0.256")}, "'10.0.0.256' is no IP address"),
    ({"ip": text("10.0.0.*")}, "'10.0.0.*' is no IP address"),
    ({"user": text("a\nb")}, "the user: 'a\\nb' has a control character"),
    ({"user": text("a\u202eb")}, "has a control character"),
    ({"user": text("  ")}, "the user: it is empty"),
    ({"user": text("1"), "rate": text("5 a minute")}, "'5 a minute' is no rate"),
    ({"user": text("1"), "rate": text("0/m")}, "'0/m' is no rate"),
]


@pytest.mark.parametrize(("args", "told"), BAD_IDENTITIES)
def test_what_is_no_identity_is_refused(args: Mapping[str, Value], told: str) -> None:
    assert told in wrong(library=text("drf"), **args)


def test_counters_of_django_ratelimit_have_a_beginning() -> None:
    told = wrong(library=text("django-ratelimit"), all=True, prefix=text(""), counters=text(""))
    assert "it is empty" in told


def test_django_ratelimit_finds_nobody_without_group_and_rate() -> None:
    told = "one identity is found by its group and rate only"
    assert told in wrong(library=text("django-ratelimit"), user=text("1"))
    assert told in wrong(library=text("django-ratelimit"), user=text("1"), rate=text("5/m"))


BAD_PATTERNS = [
    ("", "neither a key nor a pattern"),
    ("*", "does not begin with the prefix ':1:'"),
    ("?", "does not begin with the prefix"),
    ("a*", "does not begin with the prefix"),
    (":1:*", "is too wide"),
    (":1:tea*", "is too wide: fewer than 4 characters after ':1:'"),
    (":1:[t]eam:*", "is too wide"),
    (":1:other:*", "begins with none of what is allowed"),
    (":1:team", "it is one key, which goes under `keys`"),
    (r":1:team:\*", "it is one key"),
    (":1:team:\n*", "has a control character"),
    (":1:team:" + "x" * 1024 + "*", "it is longer than 1024 characters"),
    (":1:django.contrib.sessions*", "belongs to a queue, to sessions or to opskit"),
]


@pytest.mark.parametrize(("pattern", "told"), BAD_PATTERNS)
def test_a_pattern_that_is_too_wide_is_refused(pattern: str, told: str) -> None:
    allow = listed(":1:team:", ":1:django.contrib", "")
    if "django" not in pattern:
        allow = listed(":1:team:")
    found = wrong(pattern=text(pattern), prefix=text(":1:"), allow=allow)
    assert told in found or ("django" in pattern and "belongs to" in found)


@pytest.mark.parametrize(
    ("allow", "told"),
    [
        ((), "begins with none of what is allowed: nothing is"),
        (("*",), "it has no *, ? or ["),
        (("celery",), "belongs to a queue"),
        (("opskit:",), "belongs to a queue, to sessions or to opskit"),
    ],
)
def test_what_may_be_touched_is_narrow(allow: tuple[str, ...], told: str) -> None:
    assert told in wrong(keys=listed("team:1"), allow=listed(*allow))


def test_keys_and_a_pattern_contradict_each_other() -> None:
    told = wrong(keys=listed("team:1"), pattern=text("team:*"), allow=listed("team:"))
    assert told == "keys and a pattern are named, and one of them is meant"


def test_a_pattern_within_what_is_allowed_is_taken() -> None:
    work = made(pattern=text(":1:team:7:*"), prefix=text(":1:"), allow=listed(":1:team:", ""))
    assert (work.pattern, work.allow) == (":1:team:7:*", (":1:team:",))
    assert made(keys=listed("team:*", ""), allow=listed("team:")).names == ("team:*",)


@given(st.text(alphabet="ab*?[]\\^-é", max_size=8))
def test_an_expression_in_a_pattern_stands_for_itself(value: str) -> None:
    pattern = str(rendered("team:{{ x }}:*", {"x": value}, context="glob").fixed())
    assert globs.head(pattern) == f"team:{value}:"
    assert str(rendered("{{ x | raw }}", {"x": "a*"}, context="glob").fixed()) == "a*"


def test_rates_are_read() -> None:
    assert limits.rate("100/hour", "h") == Rate(head="h", count=100, seconds=3600)
    assert limits.rate("3/10m") == Rate(head="", count=3, seconds=600)
    assert limits.rate("5/s").seconds == 1
