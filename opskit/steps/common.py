"""The keys that every step may have, whatever its kind."""

from opskit.steps.base import Key

SAVE = (
    Key("name", "name", required=True, help="the name that later steps use"),
    Key("secret", "bool", default=False, help="never stored, masked in all output"),
)
ON = (
    Key(
        "scope",
        "enum",
        choices=("each", "once", "batch", "controller"),
        help="`each` host of the batch; `once` a run, on the first live host of the first batch; "
        "once a `batch`, on its first live host; once a run where opskit runs (`controller`)",
    ),
    Key("group", "literal", help="run on the hosts of this group instead of the batch's"),
    Key(
        "per",
        "enum",
        choices=("host", "batch", "run"),
        help="with `group`: once for each `host` of the batch (the default), a `batch`, or a `run`",
    ),
)
UNTIL = (
    Key("every", "duration", default=1.0, help="time between two tries"),
    Key("for", "duration", default=60.0, help="how long to go on trying"),
    Key("successes", "int", default=1, minimum=1, help="how many successes in a row are enough"),
)
RETRY = (
    Key("times", "int", required=True, minimum=1, help="how often to repeat"),
    Key("backoff", "duration", default=1.0, help="wait before the first repeat, then doubled"),
)
SILENT = (
    Key("after", "duration", default=300.0, help="how long it may print nothing"),
    Key("stop", "bool", default=False, help="end it then; it has failed"),
)
COMMON: tuple[Key, ...] = (
    Key("name", "literal", help="what the step is called on screen and in the record"),
    Key("when", "expression", help="do it only if this is true, for example `previous`"),
    Key(
        "on",
        "table",
        keys=ON,
        main="scope",
        help="where it runs and how often",
    ),
    Key(
        "phase",
        "enum",
        choices=("preflight", "main"),
        default="main",
        help="`preflight`: on all hosts before the first change of the run; reads only",
    ),
    Key(
        "effect",
        "enum",
        choices=("read", "change"),
        help="whether it changes anything; reads may run in a dry run",
    ),
    Key(
        "for_each",
        "data",
        help="repeat for each of a list known when planning (`item`, `index`); a text is an "
        "expression",
    ),
    Key(
        "at_once",
        "int",
        default=1,
        minimum=1,
        rendered=True,
        help="of a read over `for_each`: so many of its items at once on a target, 8 at most; "
        "steps that have it, save nothing and follow each other under `always` are done at once, "
        "too",
    ),
    Key("save", "table", keys=SAVE, main="name", help="the name that its standard output gets"),
    Key("until", "table", keys=UNTIL, main="for", help="repeat a read until it succeeds"),
    Key(
        "retry",
        "table",
        keys=RETRY,
        main="times",
        help="permission to repeat after a failure",
    ),
    Key(
        "repeatable",
        "bool",
        default=False,
        help="permission to repeat when the outcome is unknown",
    ),
    Key(
        "on_unknown",
        "enum",
        choices=("ask", "fail", "retry"),
        default="ask",
        help="what to do when nobody can tell how it ended; `retry` needs `repeatable`",
    ),
    Key("done_when", "step", help="a read that tells whether it is done when its end is unknown"),
    Key("creates", "text", help="skip it if this path exists on the target"),
    Key("unless", "shell", help="skip it if this shell text (a read) succeeds on the target"),
    Key("timeout", "duration", default=600.0, rendered=True, help="stop it after this long"),
    Key(
        "silent",
        "table",
        keys=SILENT,
        main="after",
        help="how long it may print nothing before that is pointed out",
    ),
    Key(
        "prepares",
        "bool",
        default=False,
        help="what it changes nobody uses before a later step: a run that ends before such a step, "
        "and has taken this back, was refused (5)",
    ),
    Key("undo", "steps", help="a step or a list of steps that takes it back"),
    Key("secrets", "map", help="environment variable (in `http`: header) → name of a secret"),
    Key("stdin", "text", help="what it reads; a secret may stand here alone: `'{{ token }}'`"),
    Key("sudo", "text", help="the user to become"),
    Key("cwd", "text", help="the directory to run in"),
    Key(
        "on_failure",
        "enum",
        choices=("continue", "stop", "undo", "ask"),
        help="what follows when this step fails, instead of the runbook's `on_failure`",
    ),
)
