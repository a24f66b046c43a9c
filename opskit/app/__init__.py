"""One short function for each thing that a person can ask for.

`app.hosts` is not among these names: it loads the SSH library, which most commands do without.
"""

from opskit.app.adhoc import exec_ as exec  # noqa: A004 - the word of the command line
from opskit.app.admission import in_hours
from opskit.app.again import resume, retry, undo
from opskit.app.decide import Open, decide, question, refuse_unasked
from opskit.app.deciding import Answer
from opskit.app.find import inventory, lint, list_runbooks, settings, show
from opskit.app.look import Preview, Reading
from opskit.app.look import look as preview
from opskit.app.person import Person, Question
from opskit.app.prepare import Ask, Prepared, check_plan, prepare, save_plan
from opskit.app.record import entries, free_run, last_words, load_run, output, plan_of, runs, verify
from opskit.app.runs import abort, note, run
from opskit.app.steer import follow, pause, stop

__all__ = [
    "Answer",
    "Ask",
    "Open",
    "Person",
    "Prepared",
    "Preview",
    "Question",
    "Reading",
    "abort",
    "check_plan",
    "decide",
    "entries",
    "exec",
    "follow",
    "inventory",
    "last_words",
    "lint",
    "list_runbooks",
    "free_run",
    "in_hours",
    "load_run",
    "note",
    "output",
    "pause",
    "plan_of",
    "prepare",
    "preview",
    "question",
    "refuse_unasked",
    "resume",
    "retry",
    "run",
    "runs",
    "save_plan",
    "settings",
    "show",
    "stop",
    "undo",
    "verify",
]
