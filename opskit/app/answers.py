"""What the answers to a run's questions do, in words for whoever is asked."""

from collections.abc import Mapping, Sequence

from opskit.execute import LEFT

_ABORT = "end the run as it stands; nothing more is done, nothing is taken back"
_STAYS = "what was done there stays"
_EXCLUDE = f"go on without this host; nothing more starts there, {_STAYS}"
_UNDO = "take back what the run did, on every host, and come to the end"
_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "failed": {
        "retry": "do the step again there",
        "done": "it is done after all, by hand perhaps; go on with the next step",
        "skip": "leave the step as it is and go on with the next one; no undo takes it back",
        "failed": "it has failed there; what follows is as the runbook says",
        "exclude": _EXCLUDE,
        "undo": _UNDO,
        "abort": _ABORT,
    },
    "unknown": {
        "done": "it has happened; go on with the next step",
        "failed": "it has not happened, or not well; what follows is as the runbook says",
        "retry": "do it, although it may have happened already",
        "exclude": _EXCLUDE + "; it stays unknown",
        "undo": _UNDO + "; where this is unknown nothing is taken back",
        "abort": _ABORT,
    },
    "inconclusive": {
        "retry": "watch again, from the beginning",
        "done": "take it as passed, for a reason; go on with the next step",
        "failed": "take it as failed; what follows is as the runbook says",
        "exclude": _EXCLUDE,
        "undo": _UNDO,
        "abort": _ABORT,
    },
    LEFT: {
        "done": "it has happened; nothing follows, an undo can take it back",
        "failed": "it has not happened, or not well; nothing follows",
        "abort": "leave it unknown; the run stays ended",
    },
    "manual": {
        "done": "it is done; go on",
        "failed": "it could not be done; what follows is as the runbook says",
        "exclude": _EXCLUDE,
        "undo": _UNDO,
        "abort": _ABORT,
    },
    "confirm": {
        "yes": "go on",
        "no": "the step has failed; what follows is as the runbook says",
        "exclude": _EXCLUDE,
        "undo": _UNDO,
        "abort": _ABORT,
    },
    "budget": {
        "retry": "try the hosts that fell out again; what is unknown there is not repeated",
        "exclude": "go on without the hosts that fell out; nothing more starts there, what was done"
        " there stays",
        "undo": _UNDO,
        "stop": "leave everything as it is now, and come to the end",
        "abort": "the same, without the steps that come at the end of every run",
    },
    "pause": {"go on": "begin the next batch", "abort": _ABORT},
    "window": {
        "override": "go on in spite of it, to the end of the run; `opskit resume` goes on once a "
        "window is open",
        "undo": _UNDO,
        "abort": _ABORT,
    },
}


REASONED = ("done", "failed", "skip", "no", "exclude", "override")
"""Answers that somebody will want to know the reason of."""


def meanings(
    why: str, choices: Sequence[str], *, parameters: bool = False, left: str = ""
) -> Mapping[str, str]:
    """Return what each of these choices does when a run asks for this reason.

    `parameters`: whether a retry can be given others. `left`: the last step that has changed the
    host that is asked about.
    """
    known = dict(_MEANINGS.get(why, {}))
    if left and "exclude" in known:
        known["exclude"] = known["exclude"].replace(_STAYS, f"it stays as {left!r} has left it")
    if parameters and "retry" in known and why != "budget":
        known["retry"] += "; with `-p NAME=VALUE`: with another value of a parameter"
    return {choice: known.get(choice, "") for choice in choices}
