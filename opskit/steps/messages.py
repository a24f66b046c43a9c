"""`messages`: put messages of a queue of Celery aside, or replay what was put aside.

Plan sees to it that the argument `server` is there, and names one of the inventory.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from opskit.model.problem import Problem
from opskit.model.queues import MessageDeed, Messages
from opskit.model.runbook import Effect, Step
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_number,
    a_word,
    an_amount,
    one_of,
    problem,
    refuse,
)
from opskit.steps.looks import wrong
from opskit.steps.queues import LAYOUT, layout, names

DEEDS = ("park", "replay")
ENDS = ("fail", "ok")
PARKED = "opskit:parked:"
"""What stands before the name of a list in which messages are put aside."""
MOST = 5000
"""So many messages are moved at once at most, whatever a runbook says."""
SUMMARY = (
    "Put messages of a queue of Celery on a Redis aside, by the names of their tasks or by their "
    "ids, where no worker takes them; or put back what was put aside. Each is moved exactly once, "
    "byte by byte, after it was kept in a folder of evidence; opskit takes it back by itself when "
    "the run is undone."
)
KEYS = (
    Key(
        "do",
        "enum",
        required=True,
        choices=DEEDS,
        help="`park`: from the queue; `replay`: to the queue, only tasks that may be done twice",
    ),
    Key("server", "text", help="its name in the inventory; needed where that has several"),
    Key("queue", "text", required=True, help="one queue, as the application names it"),
    Key("tasks", "text", default="", help="tasks that are meant, with commas between: shop.mail"),
    Key("ids", "text", default="", help="ids of messages that are meant, with commas between"),
    Key(
        "idempotent",
        "text",
        default="",
        help="of `replay`: the tasks that may be done twice, with commas between; one that is not "
        "among them is refused",
    ),
    Key("none", "enum", choices=ENDS, default="fail", help="what it is when no message is meant"),
    *LAYOUT,
    Key("max_messages", "int", default=100, minimum=1, help="more than this are refused"),
    Key(
        "max_share",
        "number",
        default=20,
        minimum=0,
        help="of `park`: more of what waits in the queue than this is refused; percent",
    ),
    Key("override", "text", default="", help="a reason for which more than that may be moved"),
    Key(
        "part",
        "number",
        default=100,
        minimum=0,
        help="only so much of what is meant, the oldest first, one at least; percent",
    ),
    Key(
        "evidence",
        "text",
        default="",
        help="the folder in which each deed gets one of its own, a whole path; empty: `evidence` "
        "beside the local record. What messages carry is in it",
    ),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "done_when", "creates", "unless", "stdin", "cwd", "sudo", "secrets")
    yield from refuse(step, "silent", "save", "until")
    if step.effect != "change":
        told = "this moves messages; a dry run tells which it would move"
        yield problem(step, "effect", told, "take `effect` out")
    if step.undo:
        told = "what was moved is put back by opskit itself"
        yield problem(step, "undo", told, "take it out, or write undo: []")


def work(args: Mapping[str, Value], step: Step) -> Messages:
    do: MessageDeed = "replay" if one_of(args["do"], step, "do", DEEDS) == "replay" else "park"

    def word(key: str) -> str:
        return a_word(args[key], step, key)

    made = Messages(
        do=do,
        server=word("server"),
        queue=word("queue").strip(),
        layout=layout(args, step),
        tasks=names(word("tasks")),
        ids=names(word("ids")),
        idempotent=names(word("idempotent")),
        most=min(int(an_amount(args["max_messages"], step, "max_messages")), MOST),
        share=a_number(args["max_share"], step, "max_share"),
        override=word("override").strip(),
        part=a_number(args["part"], step, "part"),
        evidence=word("evidence"),
        none="ok" if one_of(args.get("none"), step, "none", ENDS) == "ok" else "fail",
    )
    for key, what, write in _problems(made):
        raise wrong(step, key, what, write)
    return made


def _problems(made: Messages) -> Iterable[tuple[str, str, str]]:
    if not made.queue or "," in made.queue:
        yield "queue", f"{made.queue[:60]!r} names no single queue", "one queue at a time"
    if made.queue.startswith(PARKED) or (made.layout.prefix + made.queue).startswith("opskit:"):
        yield "queue", "that is opskit's own", "name the queue that the messages came from"
    if any(set(one) & set("*?[") for one in made.tasks + made.ids):
        yield "tasks", "a pattern is no name of a task", "name each task: shop.mail,shop.report"
    if made.do == "park" and not made.tasks and not made.ids:
        told = "nothing says which messages are meant, so it would be the whole queue"
        yield "tasks", told, "name tasks, ids, or both; a queue is never purged"
    if made.do == "replay" and not made.idempotent:
        told = "no task is named that may be done twice"
        yield "idempotent", told, "name those that do no harm when they are done once more"
    foreign = [one for one in made.tasks if one not in made.idempotent]
    if made.do == "replay" and foreign:
        told = f"{foreign[0][:80]} is not among the tasks that may be done twice"
        yield "tasks", told, "add it to idempotent, if that is so; else a person decides on each"
    if not (made.most >= 1 and 0 <= made.share <= 100 and 0 < made.part <= 100):
        told = "caps are a number from 1, and 0 to 100 percent"
        yield "max_share", told, "max_messages: 100, max_share: 20, part: 100"
    folder = made.evidence
    if folder and not (PurePath(folder).is_absolute() or folder.startswith("~/")):
        told = f"{folder[:80]!r} is no whole path"
        yield "evidence", told, "/var/lib/… or ~/…: it is to be found again"
