"""What the answers to a run's questions do, in words for whoever is asked."""

from collections.abc import Mapping, Sequence

_ABORT = "end the run as it stands; nothing more is done, nothing is taken back"
_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "failed": {
        "retry": "do the step again there",
        "skip": "leave the step as it is and go on with the next one",
        "failed": "it has failed there; what follows is as the runbook says",
        "abort": _ABORT,
    },
    "unknown": {
        "done": "it has happened; go on with the next step",
        "failed": "it has not happened, or not well; what follows is as the runbook says",
        "retry": "do it, although it may have happened already",
        "abort": _ABORT,
    },
    "manual": {
        "done": "it is done; go on",
        "failed": "it could not be done; what follows is as the runbook says",
        "abort": _ABORT,
    },
    "confirm": {
        "yes": "go on",
        "no": "the step has failed; what follows is as the runbook says",
        "abort": _ABORT,
    },
    "budget": {
        "undo": "take back what the run did, on every host",
        "stop": "leave everything as it is now, and come to the end",
        "abort": "the same, without the steps that come at the end of every run",
    },
    "pause": {"go on": "begin the next batch", "abort": _ABORT},
}


def meanings(why: str, choices: Sequence[str]) -> Mapping[str, str]:
    """Return what each of these choices does when a run asks for this reason."""
    known = _MEANINGS.get(why, {})
    return {choice: known.get(choice, "") for choice in choices}
