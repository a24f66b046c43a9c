"""An expression in shell text must stand bare."""

import pytest

from opskit.render.shell import shell_problems


@pytest.mark.parametrize(
    "template",
    [
        "echo {{ x }}/y",
        'echo "a"{{ x }}"b"',
        "echo $(cat {{ x }})",
        'echo "$(cat {{ x }})"',
        "(cd {{ x }} && ls)",
        "echo $((1 + 2)) {{ x }}",
        "echo it\\'s {{ x }}",
        "cat <<EOF\nbody\nEOF\necho {{ x }}",
        "cat <<-'EF'\n\tbody\n\tEF\necho {{ x }}",
        "echo a # comment\necho {{ x }}",
        "echo a#b {{ x }}",
        "{% if a %}echo {{ x }}{% endif %}",
        "A={{ x }} cmd",
        'echo "${v}" {{ x }}',
    ],
)
def test_bare_expressions_are_fine(template: str) -> None:
    assert shell_problems(template) == ()


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ('echo "{{ x }}"', "double"),
        ("echo '{{ x }}'", "single"),
        ("echo `cat {{ x }}`", "backquotes"),
        ("echo $(({{ x }} + 1))", r"\$\(\("),
        ("echo ${v:-{{ x }}}", r"\$\{"),
        ("echo a # {{ x }}", "comment"),
        ("cat <<EOF\n{{ x }}\nEOF\n", "here-document"),
        ("cat <<'EOF'\na {{ x }}\nEOF\n", "here-document"),
        ("cat <<{{ x }}\n", "delimiter"),
        ("echo ${{ x }}", "dollar"),
        ("echo \\{{ x }}", "backslash"),
        ('echo "$(echo "{{ x }}")"', "double"),
    ],
)
def test_elsewhere_they_are_problems(template: str, where: str) -> None:
    import re

    (problem,) = shell_problems(template)
    assert re.search(where, problem.what)
    assert template[problem.offset :].startswith("{{")
