"""The keys of a file of schedules."""

from opskit.steps import Key

FILE: tuple[Key, ...] = (
    Key("opskit", "data", required=True, help="version of the file format: 1"),
    Key("schedules", "data", required=True, help="name → what is run when, see below"),
)
SCHEDULE: tuple[Key, ...] = (
    Key("runbook", "literal", help="name of the runbook, or its path; it or `remind` must be "
        "there"),
    Key("remind", "name", many=True, help="instead of a runbook: channels of the inventory that "
        "are told when [a word about an incident](../how-to/outage.md#the-next-word) is due"),
    Key("at", "literal", required=True, help="when, as cron has it: minute, hour, day of month, "
        "month, weekday, such as `15 * * * *`; numbers, `*`, `1-5`, `*/5`, `1,15`"),
    Key("user", "literal", required=True, help="whose job it is on the machine with the clock"),
    Key("alert", "literal", help="shell text for when a run did not succeed; it has the "
        "schedule's name in `$OPSKIT_SCHEDULE`. It or `tell` must be there"),
    Key("tell", "name", many=True, help="channels of the inventory that are told, as *critical*, "
        "when a run did not succeed"),
    Key("resolved", "bool", default=True, help="channels of `tell` that were told hear, too, once "
        "it succeeds again"),
    Key("inventory", "literal", help="the hosts: as `-i` takes it"),
    Key("params", "map", help="parameter → value"),
    Key("limit", "literal", help="only these of the hosts"),
    Key("reason", "literal", help="why, for the record; without it, that it was scheduled"),
    Key("zone", "literal", default="UTC", help="the time zone of `at`; elsewhere than in UTC a "
        "time may be there twice a year, or not at all"),
    Key("jitter", "duration", default=0.0, help="begin at random within so much time"),
    Key("wait", "duration", default=0.0, help="wait so long for a lock that another run has"),
    Key("longest", "duration", default=3600.0, help="a run that takes longer is stopped and fails"),
    Key("missed", "enum", choices=("skip", "once"), default="skip", help="what was missed while "
        "the machine was off is left out, or made up for once"),
    Key("environment", "literal", help="full path of a file with lines NAME=VALUE for its "
        "environment"),
)  # fmt: skip
