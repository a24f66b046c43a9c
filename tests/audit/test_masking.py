"""No encoding of a secret gets through, wherever the stream is cut."""

import base64
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opskit.audit import masking
from opskit.audit.masking import Masker, fingerprints
from opskit.model.value import Json, Secret

SECRETS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"'\\ $/+-_\n=&%"),
    min_size=6,
    max_size=24,
).filter(lambda s: len(s.strip()) >= 6)
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda s: s.encode(),
    "base64": lambda s: base64.b64encode(s.encode()),
    "base64, one byte before": lambda s: base64.b64encode(b"u" + s.encode()),
    "base64, two bytes before": lambda s: base64.b64encode(b"u:" + s.encode() + b"\n"),
    "base64, three bytes before": lambda s: base64.b64encode(b"u: " + s.encode() + b"."),
    "base64, URL-safe": lambda s: base64.urlsafe_b64encode(b"x" + s.encode()),
    "base64, no padding": lambda s: base64.urlsafe_b64encode(s.encode()).rstrip(b"="),
    "base64, in lines": lambda s: base64.encodebytes(b"\xff" * 50 + s.encode()),
    "URL": lambda s: quote(s, safe="").encode(),
    "URL, lower case": lambda s: _lower_percent(quote(s, safe="")).encode(),
    "URL, slash kept": lambda s: quote(s).encode(),
    "URL, plus for space": lambda s: quote_plus(s).encode(),
    "URL, twice": lambda s: quote(quote(s, safe=""), safe="").encode(),
    "URL, as a browser": lambda s: quote(s, safe="!'()*~").encode(),
    "shell": lambda s: shlex.quote(s).encode(),
    "shell, backslashes": lambda s: s.replace("'", "'\\''").encode(),
    "JSON": lambda s: json.dumps(s).encode(),
    "JSON, UTF-8": lambda s: json.dumps(s, ensure_ascii=False).encode(),
    "JSON, slashes": lambda s: json.dumps(s).replace("/", "\\/").encode(),
    "JSON, all as \\u": lambda s: _escape_all(s).encode(),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)).encode(),
    "hex": lambda s: s.encode().hex().encode(),
    "hex, upper case": lambda s: s.encode().hex().upper().encode(),
    # What stands before it is in no secret: 0xff is no byte of UTF-8.
    "hex, in lines": lambda s: _in_lines((b"\xff" * 22 + s.encode()).hex().encode(), 60),
}


def _lower_percent(text: str) -> str:
    parts = text.split("%")
    return parts[0] + "".join(f"%{p[:2].lower()}{p[2:]}" for p in parts[1:])


def _escape_all(text: str) -> str:
    units = text.encode("utf-16-be").hex()
    codes = [units[i : i + 4] for i in range(0, len(units), 4)]
    return "".join(
        chr(int(c, 16)) if int(c, 16) < 128 and chr(int(c, 16)).isalnum() else f"\\u{c}"
        for c in codes
    )


def _in_lines(data: bytes, width: int) -> bytes:
    return b"\n".join(data[i : i + width] for i in range(0, len(data), width))


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(c, len(data)) for c in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def _through(masker: Masker, pieces: list[bytes]) -> bytes:
    stream = masker.stream()
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=25, deadline=None)
@given(secret=SECRETS)
@example(secret="0000[\\")
@example(secret="00\x80\x80--0\x80")
def test_no_encoding_of_a_secret_survives(encoding: str, secret: str) -> None:
    masker, written = Masker([secret]), ENCODINGS[encoding](secret)

    masked = masker.clean(b"<" + written + b">")

    left = masked.replace(b"[secret]", b"").replace(b"\n", b"")
    # Up to four characters at either end may belong to what stood beside the secret.
    core = written.replace(b"\n", b"")[72 if "in lines" in encoding else 5 : -5]
    assert not [core[i : i + 4] for i in range(len(core) - 3) if core[i : i + 4] in left]
    assert b"[secret]" in masked
    assert masked.startswith(b"<")
    assert masked.endswith(b">")


@settings(max_examples=120, deadline=None)
@given(
    secrets=st.lists(SECRETS, min_size=1, max_size=3),
    encoding=st.sampled_from(list(ENCODINGS)),
    around=st.lists(st.binary(max_size=30), min_size=2, max_size=2),
    cuts=st.lists(st.integers(0, 250), max_size=8),
)
def test_any_split_of_a_stream_is_masked_the_same(
    secrets: list[str], encoding: str, around: list[bytes], cuts: list[int]
) -> None:
    data = around[0] + b"".join(ENCODINGS[encoding](s) for s in secrets) + around[1]
    masker = Masker(secrets)

    assert _through(masker, _cut(data, cuts)) == masker.clean(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.lists(st.integers(0, 60), max_size=8))
def test_overlapping_occurrences_are_masked_as_one_at_any_split(size: int, cuts: list[int]) -> None:
    masker = Masker(["abcabc"])
    data = b"x" + b"abc" * (size + 2) + b"y"

    assert _through(masker, _cut(data, cuts)) == b"x[secret]y"


def test_a_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    masker = Masker(["hunter2hunter2", "two words'"])
    data = b"a hunter2hunter2 b two%20words%27 c " + base64.b64encode(b"x hunter2hunter2")

    assert _through(masker, [data[i : i + 1] for i in range(len(data))]) == masker.clean(data)


@settings(max_examples=80, deadline=None)
@given(secret=SECRETS, data=st.binary(max_size=300))
def test_what_holds_no_secret_passes_unchanged(secret: str, data: bytes) -> None:
    masker = Masker([secret])

    assert masker.holds(data) or masker.clean(data) == data


def test_at_most_one_byte_less_than_the_longest_form_is_held_back() -> None:
    stream = Masker(["hunter2hunter2"]).stream()

    shown = stream.feed(b"." * 10_000)

    assert 10_000 - len(shown) == Masker(["hunter2hunter2"]).reach < 100


def test_each_long_line_of_a_secret_is_one_too() -> None:
    key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA7\nabc\nq83kdj29dkQ/k+2=\n-----END KEY-----\n"
    masked = Masker([key]).clean(
        b"line 2 is MIIEowIBAAKCAQEA7, line 4 q83kdj29dkQ\\/k+2=, line 3 abc"
    )

    assert masked == b"line 2 is [secret], line 4 [secret], line 3 abc"


def test_a_secret_that_a_file_ends_with_a_newline_is_found_without_it() -> None:
    assert Masker(["hunter2!\n"]).mask("it is hunter2!.") == "it is [secret]."


def test_a_secret_of_backslashes_takes_no_time() -> None:
    masker = Masker(["\\" * 40 + "x!"])

    assert masker.clean(b"\\" * 39 + b"y") == b"\\" * 39 + b"y"
    assert masker.clean(b"\\" * 80 + b"x!") == b"[secret]"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=6), st.binary(min_size=1, max_size=4))
def test_the_quick_search_finds_what_python_finds(pieces: list[bytes], part: bytes) -> None:
    contains = masking._finder()
    for data in (b"".join(pieces), part.join(pieces), b"\0".join(pieces)):
        assert contains(data, part) == (part in data)


def test_json_is_masked_in_keys_values_and_numbers() -> None:
    value: Json = {
        "a secret4you": ["x", {"b": "my secret4you"}],
        "pin": 12345678,
        "n": 7,
        "t": True,
    }

    assert Masker(["secret4you", "12345678"]).mask_json(value) == {
        "a [secret]": ["x", {"b": "my [secret]"}],
        "pin": "[secret]",
        "n": 7,
        "t": True,
    }


def test_without_secrets_everything_is_passed_on_at_once() -> None:
    masker = Masker([])

    assert not masker
    assert masker.stream().feed(b"abc") == b"abc"
    assert masker.mask_json({"a": ("b", 1)}) == {"a": ("b", 1)}


def test_nothing_shows_the_value_of_a_secret_in_a_traceback() -> None:
    masker = Masker(["hunter2hunter2"])

    assert "hunter2" not in repr(masker) + repr(masker._forms[0].form) + repr(vars(masker).keys())


def test_fingerprints_tell_equal_secrets_from_others_but_not_across_runs() -> None:
    one, other = Secret("db", "hunter2hunter2"), Secret("db", "hunter3hunter3")

    first = fingerprints([one], key=b"k" * 32, run="r1")

    assert first == fingerprints([Secret("db", "hunter2hunter2")], key=b"k" * 32, run="r1")
    assert first != fingerprints([other], key=b"k" * 32, run="r1")
    assert first != fingerprints([one], key=b"k" * 32, run="r2")
    assert first != fingerprints([one], key=b"j" * 32, run="r1")
