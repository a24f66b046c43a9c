"""Values that steps save: taken from their output, or the reason why that can't be."""

from collections.abc import Mapping
from dataclasses import replace

from opskit.errors import InputError
from opskit.execute.book import Book
from opskit.execute.send import Outside, Ready
from opskit.model.job import Output
from opskit.model.value import Json, Secret


class Saving:
    """Takes what a step saves from its output."""

    def __init__(self, book: Book, outside: Outside) -> None:
        self.book = book
        self.outside = outside

    def saved(self, ready: Ready, output: Output) -> tuple[Output, Mapping[str, Json]]:
        """Take the value that the step saves from its output, or fail it if there is none."""
        if ready.unmasked:
            return _withheld(ready, output), {}
        save = ready.stage.save
        if save is not None and save.secret:  # part of it may stand there, which no mask would find
            evidence = {name: value for name, value in output.evidence.items() if name != "body"}
            output = replace(output, evidence=evidence)
        if save is None or output.outcome != "succeeded":
            return output, {}
        try:
            value = output.stdout.decode().removesuffix("\n")
        except UnicodeDecodeError:
            return replace(
                output, outcome="failed", reason="its output can't be saved: it is not UTF-8"
            ), {}
        if len(output.stdout) >= ready.job.capture:
            reason = f"its output can't be saved: it has {ready.job.capture} bytes or more"
            return replace(output, outcome="failed", reason=reason), {}
        shared = not ready.action.host or ready.stage.scope in ("once", "batch", "controller")
        if save.secret:
            return self._hidden(ready, output, Secret(save.name, value), shared=shared), {}
        return output, {"saved": {save.name: value}, **({"shared": True} if shared else {})}

    def _hidden(self, ready: Ready, output: Output, secret: Secret, *, shared: bool) -> Output:
        """Keep what a step has saved as a secret out of everything, or fail it if that can't be."""
        try:
            self.outside.hide(secret)
        except InputError as error:
            reason = f"its output can't be saved as a secret: {error.what}"
            return replace(output, outcome="failed", reason=reason)
        self.book.keep(ready.action, secret, shared=shared)
        return output


def _withheld(ready: Ready, output: Output) -> Output:
    """Leave out what was printed: a secret may stand in it that nobody knows here any more."""
    why = "a secret that an earlier step saved is not known any more, so it could not be masked"
    evidence = {name: value for name, value in output.evidence.items() if name != "body"}
    output = replace(output, evidence={**evidence, "output": f"not kept: {why}"})
    if ready.stage.save is None or output.outcome != "succeeded":
        return output
    return replace(output, outcome="failed", reason=f"its output can't be saved: {why}")
