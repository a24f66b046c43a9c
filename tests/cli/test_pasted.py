"""A command that is named can be pasted: it has the options that were given."""

import pytest

from opskit.cli.pasted import pasted


@pytest.mark.parametrize(
    ("argv", "hint", "shown"),
    [
        (["resume", "x", "--store", "a b"], "try `opskit undo x`",
         "try `opskit undo x --store 'a b'`"),
        (["resume", "x", "--store=s.db"], "`opskit status x` or `opskit resume x`",
         "`opskit status x --store s.db` or `opskit resume x --store s.db`"),
        (["run", "x", "-i", "inv.yaml", "--store", "s"], "`opskit hosts trust web1`",
         "`opskit hosts trust web1 -i inv.yaml`"),
        (["run", "x", "--inventory=inv.yaml"], "`opskit hosts trust web1 -i other`",
         "`opskit hosts trust web1 -i other`"),
        (["exec", "web", "--", "x", "--store", "s"], "`opskit status x`", "`opskit status x`"),
        (["run", "x"], "`opskit status x`", "`opskit status x`"),
        (["run", "x", "--store", "s"], "`opskit list`", "`opskit list`"),
    ],
)  # fmt: skip
def test_a_hint_has_the_options_that_were_given(argv: list[str], hint: str, shown: str) -> None:
    assert pasted(hint, argv) == shown
