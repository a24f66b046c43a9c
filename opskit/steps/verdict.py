"""What a gate has said → how its step ended."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from opskit.model.job import Output

_SAID = 300
_ENDINGS: Mapping[tuple[str, int | None], Literal["succeeded", "failed"]] = {
    ("PASS", 0): "succeeded",
    ("FAIL", 1): "failed",
}


def verdict(output: Output) -> Output:
    """Read how a gate ended: only its own last line lets it pass, or fail.

    What was never sent, is still looked for, or was ended from outside has come to no verdict.
    """
    if output.lost or not output.sent or {"ended", "stopped"} & output.evidence.keys():
        return output
    *_, last = output.stdout.decode(errors="replace").strip().split("\n")
    word, _, why = last.partition(": ")
    outcome = _ENDINGS.get((word, output.status))
    if outcome is None:
        why = why if word == "INCONCLUSIVE" else output.reason or "it did not say how it ended"
    said = word.lower() if outcome else "inconclusive"
    return replace(
        output,
        outcome=outcome or "failed",
        reason=why[:_SAID],
        evidence={**output.evidence, "verdict": said},
    )
