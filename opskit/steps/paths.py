"""What upload and template ask of the path that they write."""

from collections.abc import Iterator

from opskit.model.problem import Problem
from opskit.model.runbook import Step
from opskit.steps.base import is_template, problem


def dest_problems(step: Step) -> Iterator[Problem]:
    """Refuse a destination that can only be a mistake."""
    dest = step.args.get("dest")
    if not isinstance(dest, str):
        return
    if not dest.startswith(("/", "{{", "{%")):
        yield problem(
            step, "dest", f"{dest!r} is not an absolute path", "begin it with / (there is no `~`)"
        )
    elif ".." in dest.split("/"):
        yield problem(step, "dest", "`..` in a destination", "write the path that you mean")
    elif dest.endswith("/") and not is_template(dest):
        yield problem(step, "dest", f"{dest!r} names a directory", f"name the file: {dest}NAME")
