"""The keys of a health check that is data: in an inventory, or in a file that it names."""

from opskit.steps import Key, health, http

_OF_STEP = {key.name: key for key in health.KEYS}


def _as_step(name: str, **how: object) -> Key:
    """Return a key as a `health` step has it, but never rendered."""
    key = _OF_STEP[name]
    return Key(name, "literal", help=key.help, **how)  # type: ignore[arg-type]


CHECK: tuple[Key, ...] = (
    Key("label", "literal", help="what is checked; in a file each has one of its own"),
    Key("path", "literal", help="a page of the service, asked for on each host"),
    Key("url", "literal", help="any page, asked for on each host"),
    Key("send", "map", help="with these: header → value to send besides those of the runbook"),
    *http.EXPECT,
    Key("warn_latency", "duration", help=_OF_STEP["warn_latency"].help),
    _as_step("run"),
    _as_step("sql"),
    _as_step("database"),
    Key("redis", "data", help=_OF_STEP["redis"].help),
    _as_step("info"),
    Key("window", "duration", minimum=0, help=_OF_STEP["window"].help),
    _as_step("server"),
    _as_step("warn"),
    _as_step("crit"),
    Key("severity", "enum", choices=health.SEVERITIES, help=_OF_STEP["severity"].help),
    _as_step("next"),
    _as_step("system"),
)
INCLUDED: tuple[Key, ...] = (
    Key("file", "literal", required=True, help="path of a file of checks, beside the inventory; or "
        "of one that comes with opskit, such as `checks/redis.yaml`"),
    Key("database", "literal", help="which database its checks ask, where they don't say"),
    Key("server", "literal", help="which Redis its checks ask, where they don't say"),
    Key("without", "literal", many=True, help="labels of checks that are left out"),
)  # fmt: skip
FILE: tuple[Key, ...] = (
    Key("opskit", "data", required=True, help="version of the file format: 1"),
    Key("checks", "data", required=True, help="a list of checks"),
)
