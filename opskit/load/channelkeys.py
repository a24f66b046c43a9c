"""The keys of a channel of an inventory."""

from opskit.model.channel import DEADLINE, SEVERITIES
from opskit.steps import Key

CHANNEL: tuple[Key, ...] = (
    Key(
        "webhook",
        "name",
        help="name of the secret with the address that messages are POSTed to: who has it may "
        "write there, so it stands nowhere else",
    ),
    Key(
        "body",
        "enum",
        choices=("slack", "json"),
        default="json",
        help="what the webhook wants: `slack` (also Mattermost, Rocket.Chat), or `json` with "
        "`id`, `text`, `severity`, `runbook`, `run`, `step`, `host`, `inventory`, `who`, `at`",
    ),
    Key(
        "command",
        "literal",
        help="shell text in the place of a webhook, run where opskit runs: it gets the message on "
        "its input, and `OPSKIT_SUBJECT`, `_SEVERITY`, `_RUNBOOK`, `_RUN`, `_STEP` as variables",
    ),
    Key("secrets", "map", help="variable → name of the secret that the command gets in it"),
    Key(
        "severity",
        "enum",
        choices=SEVERITIES,
        default="info",
        help="messages go there from this severity on",
    ),
    Key(
        "every",
        "duration",
        default=0.0,
        help="the same message (runbook, step and severity) goes there once in so much time",
    ),
    Key(
        "timeout",
        "duration",
        default=DEADLINE,
        help="how long sending may take, with all tries",
    ),
)
