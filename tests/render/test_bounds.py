"""A slip of the pen in a template takes no memory and no time."""

import time

import pytest

from opskit.render import TemplateError
from opskit.render.engine import rendered, true

IMMENSE = [
    '"x" * 3000000000',
    '3000000000 * "x"',
    "([1] * 99999999) | length",
    "10 ** 9999999",
    '"%3000000000d" % 1',
    '"%*d" % (3000000000, 1)',
    '"%3000000000d" | format(1)',
    '"{:3000000000}".format(1)',
    '"{:{w}}".format(1, w=3000000000)',
    '"x".ljust(3000000000)',
    '"x" | center(3000000000)',
    '"x" | indent(3000000000, true)',
]


@pytest.mark.parametrize("expression", IMMENSE)
def test_what_would_become_immense_is_refused(expression: str) -> None:
    began = time.monotonic()
    with pytest.raises(TemplateError, match="makes more than 1048576 characters"):
        rendered("{{ " + expression + " }}", "plain", {})
    with pytest.raises(TemplateError, match="makes more than 1048576 characters"):
        true(expression, {})
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("expression", "text"),
    [('"ab" * 3', "ababab"), ("2 ** 10", "1024"), ('"%5d" % 3', "    3"), ("7 % 4", "3"),
     ('"{:>5}".format(1)', "    1"), ('"%s" | format(3000000000)', "3000000000"),
     ('"{}".format(3000000000)', "3000000000"), ('"x".center(5)', "  x  "),
     ('"x" | center(5)', "  x  "), ('"a\nb" | indent(width=2)', "a\n  b")],
)  # fmt: skip
def test_what_is_not_stays_as_it_was(expression: str, text: str) -> None:
    assert rendered("{{ " + expression + " }}", "plain", {}) == text
