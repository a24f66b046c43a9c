"""The keys of a runbook, of its parameters and of an inventory."""

from opskit.model.inventory import MARKERS
from opskit.steps import Key

FORMAT = 1
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
VERSION = r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}(?:-[0-9A-Za-z.-]{1,32})?"
HOST_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}"
GROUP_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
ADDRESS = (
    r"[0-9A-Za-z][0-9A-Za-z._-]{0,252}"
    r"|(?=(?:[^:]*:){2})[0-9A-Fa-f:.]{2,45}(?:%[0-9A-Za-z.-]+)?"  # IPv6 has at least two colons
)
SHARE = r"(?:[1-9][0-9]?|100)%"
BATCH = rf"[1-9][0-9]{{0,5}}|{SHARE}"
BUDGET = rf"0|0%|{BATCH}"

GIVEN = frozenset({"host", "target", "service", "services", "balancers", "vars", "groups", "hosts"})
"""Names that templates may use in every step."""
SOMETIMES = frozenset({"batch", "by_host", "item", "index", "run"})
"""Names that templates may use in some steps."""
_HOST = ("name", "address", "vars", "groups")
ATTRIBUTES = {
    "host": _HOST,
    "target": _HOST,
    "batch": ("index", "hosts"),
    "run": ("id", "status", "reason", "user", "started"),
}
"""What these names have; a parameter or a saved value may be of any shape."""
RESERVED = (
    GIVEN
    | SOMETIMES
    | frozenset({"true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is"})
    | frozenset({"if", "else", "for", "loop", "range", "dict", "cycler", "joiner", "namespace"})
    | frozenset({"self", "super", "caller", "varargs", "kwargs", "raw", "words"})
)

TYPES = ("string", "int", "number", "bool", "enum", "duration", "file", "secret")
PARAM: tuple[Key, ...] = (
    Key("type", "enum", choices=TYPES, default="string", help="what it may be"),
    Key("help", "literal", help="what it is for"),
    Key("required", "bool", help="false: it may be missing, and is then null"),
    Key("default", "value", help="the value when none is given"),
    Key("pattern", "literal", help="regular expression that the whole text must match (string)"),
    Key("choices", "list", help="the values that it may have (enum)"),
    Key("min", "value", help="the least value (int, number, duration)"),
    Key("max", "value", help="the greatest value (int, number, duration)"),
)

RUNBOOK: tuple[Key, ...] = (
    Key("opskit", "data", required=True, help="version of the file format: 1"),
    Key("name", "literal", required=True, pattern=NAME, help="its name"),
    Key("version", "literal", required=True, pattern=VERSION, help="its version, such as 1.2.0"),
    Key("summary", "literal", required=True, help="what it does, in a line"),
    Key("owner", "literal", help="who looks after it"),
    Key("params", "data", help="name → parameter, see below"),
    Key("hosts", "text", default="all", help="host expression, such as `web:!web3`"),
    Key(
        "batches",
        "literal",
        many=True,
        pattern=BATCH,
        default=("100%",),
        help="hosts at a time: numbers or percentages; the last one repeats",
    ),
    Key(
        "max_failures",
        "literal",
        pattern=BUDGET,
        default="0",
        help="how many hosts may fail, a number or a percentage of all targeted hosts",
    ),
    Key(
        "on_failure",
        "enum",
        choices=("undo", "stop", "ask"),
        default="stop",
        help="what follows when more hosts fail",
    ),
    Key("lock", "text", help="name of what only one run at a time may work on"),
    Key(
        "urgent",
        "bool",
        default=False,
        help="whether it is for emergencies: change windows and freezes don't hold it up",
    ),
    Key("steps", "steps", required=True, help="what to do, in order"),
    Key("always", "steps", help="what to do at the end of every run, however it ended"),
    Key("export", "list", help="saved names that a runbook which includes this one may use"),
)

CONNECTION: tuple[Key, ...] = (
    Key("user", "literal", help="the user to log in as"),
    Key("port", "int", minimum=1, help="the port"),
    Key("key", "literal", help="path of the private key"),
    Key("known_hosts", "literal", help="path of the known hosts file"),
    Key("ssh_config", "literal", help="path of an OpenSSH client configuration"),
    Key("jump", "literal", help="`user@host:port` to go through"),
    Key("state_dir", "literal", help="where opskit keeps its state on the host; `~/.opskit`"),
    Key("read_user", "literal", help="the user that reads run as"),
    Key("max_output", "size", minimum=1024, help="how much output of one command is kept; 256MiB"),
    Key("connect_timeout", "duration", help="how long connecting may take; 15s"),
)
GROUP: tuple[Key, ...] = (
    Key("hosts", "list", help="names of hosts"),
    Key("groups", "list", help="names of groups whose hosts belong to this one too"),
    Key("vars", "data", help="values for templates"),
    Key("connection", "table", keys=CONNECTION, help="how its hosts are reached"),
)
HOST: tuple[Key, ...] = (
    Key("address", "literal", pattern=ADDRESS, help="name or IP address; without it the name"),
    Key("connection", "table", keys=CONNECTION, help="how it is reached"),
    Key("vars", "data", help="values for templates"),
    Key("services", "data", help="service → what differs on this host"),
    Key("balancers", "data", help="balancer → what differs on this host"),
)
BACKUP: tuple[Key, ...] = (
    Key(
        "file", "literal", required=True, help="whole path, or a pattern of which the newest counts"
    ),
    Key("user", "literal", help="the user who may read it"),
    Key("database", "literal", help="name of the database that it must be of"),
    Key("max_age", "duration", default=86400.0, help="how old it may be; 24h"),
    Key("min_size", "size", default=1, help="how large it must be at least"),
    Key("pg_restore", "literal", help="the program that lists it, where it is on no PATH"),
)
MIGRATIONS: tuple[Key, ...] = (
    Key(
        "manage",
        "literal",
        required=True,
        help="shell command for Django's manage.py, in the directory of a release",
    ),
    Key("user", "literal", help="the user that it runs as"),
    Key("order", "list", help="migrations, as APP.NAME, that must come in this order"),
    Key("backup", "table", keys=BACKUP, help="what must be there before anything is migrated"),
    Key(
        "check",
        "enum",
        choices=("ERROR", "WARNING"),
        help="from which level on `check --deploy` "
        "of the new release refuses it; without, it is not asked",
    ),
    Key("exports", "literal", help="folder for rows that a rollback takes out; ROOT/exports"),
)
LIMITED: tuple[Key, ...] = (
    Key("path", "literal", required=True, help="a page whose requests are counted"),
    Key("allowed", "int", required=True, minimum=1, help="how many are allowed in its window"),
    Key("address", "literal", help="whose requests they are to be (`X-Forwarded-For`); the host's"),
)
SERVICE: tuple[Key, ...] = (
    Key("hosts", "literal", required=True, help="host expression: where it runs"),
    Key("root", "literal", help="directory of its releases"),
    Key("port", "int", minimum=1, help="the port that it listens on"),
    Key("health", "data", help="path of its health page"),
    Key("restart", "data", help="how to restart it"),
    Key("pids", "data", help="how to find its processes"),
    Key("user", "literal", help="the user that it runs as"),
    Key("migrations", "table", keys=MIGRATIONS, help="how `deploy` migrates its database"),
    Key("before", "data", help="checks, as in `checks`, that must hold before a deploy"),
    Key("after", "data", help="checks, as in `checks`, that must hold after a deploy"),
    Key("limited", "table", keys=LIMITED, help="what must be refused after a deploy"),
)
BALANCER: tuple[Key, ...] = (
    Key("type", "enum", choices=("nginx", "haproxy"), required=True, help="what it is"),
    Key("hosts", "literal", required=True, help="host expression: where it runs"),
    Key("members", "literal", required=True, help="host expression: whom it balances"),
    Key("port", "int", minimum=1, help="the members' port"),
    Key(
        "file",
        "literal",
        help="the file that lists the members (or for colours: says the shares), written by opskit "
        "alone",
    ),
    Key(
        "colours",
        "data",
        help="two colours and the upstream that each is: `{blue: app_blue, green: app_green}`; for "
        "HAProxy the servers of each: `{blue: [blue1], green: [green1]}`",
    ),
    Key("socket", "literal", help="HAProxy's socket, of level admin"),
    Key("backend", "literal", help="HAProxy's backend, where that is not called as the pool"),
    Key(
        "state_file",
        "literal",
        help="HAProxy's `server-state-file`, which opskit keeps current so that a reload undoes "
        "nothing; null: it has none",
    ),
    Key(
        "header",
        "literal",
        help="header in which answers name the upstream (colours), `X-Pool` when not written",
    ),
    Key("upstream", "literal", help="name of the upstream block, where that is not the pool's"),
    Key("test", "data", help="command that tests the configuration"),
    Key("reload", "data", help="command that reloads it"),
    Key("pid", "literal", help="file with the process id of the master"),
    Key("error_log", "literal", help="its error log"),
    Key(
        "log",
        "literal",
        help="access log that a `gate` reads: each line has the side that answered, the status and "
        "the time it took",
    ),
    Key(
        "log_fields",
        "data",
        help="which word of a line is what, 1 the first and -1 the last, or the name before it "
        '(`status=200`, `"status":200`); when not written `{side: 1, status: 2, time: 3, unit: s}`',
    ),
    Key(
        "latency",
        "enum",
        choices=("mean",),
        help="HAProxy without `log` and `counts`: let a `gate` compare mean times for the p95, "
        "which its counters don't tell",
    ),
    Key(
        "counts",
        "literal",
        help="page that tells a `gate` in JSON what each side has had so far: "
        '`{"app_green": {"requests": 1200, "errors": 3, "p95_ms": 34}, …}`',
    ),
    Key("sudo", "literal", help="the user to become on it"),
    Key(
        "listen",
        "data",
        help="where it listens; for colours, a page of it that is asked for to see who answers: "
        "`http://ADDRESS:PORT/PAGE`, or `https://` (any certificate will do)",
    ),
    Key(
        "scheme",
        "enum",
        choices=("http", "https"),
        help="`https` where the members speak TLS themselves and are asked so (any certificate "
        "will do); http",
    ),
    Key(
        "health",
        "literal",
        help="page on which members say how they are; without it `health` of their service with "
        "this port; null: they are not asked",
    ),
)
DATABASE: tuple[Key, ...] = (
    Key(
        "url",
        "literal",
        required=True,
        help="`postgresql://USER@HOST:PORT/DATABASE`, with libpq's options after a `?`; no "
        "password, and no pooler that hands out a connection for a transaction only",
    ),
    Key("password", "name", help="name of the secret with the user's password"),
    Key("via", "literal", help="host through whose SSH connection it is reached"),
    Key("standby", "bool", default=False, help="whether it is a standby; asserted before use"),
    Key(
        "system_identifier",
        "literal",
        pattern=r"[0-9]{1,20}",
        help="that of the cluster, as pg_control_system() has it; asserted before use",
    ),
    Key(
        "read_role",
        "literal",
        help="role that reads are made as (`SET ROLE`), where the user may write or is a superuser",
    ),
    Key(
        "marker_schema",
        "literal",
        default=MARKERS,
        pattern=r"[A-Za-z_][A-Za-z0-9_]{0,62}",
        help="schema of the table in which changes leave their marks (`opskit db init`)",
    ),
    Key(
        "max_output",
        "size",
        minimum=1024,
        help="how much of what a statement returns is kept; 16MiB",
    ),
    Key("connect_timeout", "duration", default=10.0, help="how long connecting may take"),
)
REDIS: tuple[Key, ...] = (
    Key(
        "url",
        "literal",
        required=True,
        help="`redis://USER@HOST:PORT/INDEX`, or `rediss://` for TLS; USER and INDEX may be left "
        "out; no password",
    ),
    Key("password", "name", help="name of the secret with the user's password"),
    Key("via", "literal", help="host through whose SSH connection it is reached"),
    Key(
        "role",
        "enum",
        choices=("master", "replica"),
        default="master",
        help="what it must be; asserted before use",
    ),
    Key(
        "run_id",
        "literal",
        pattern=r"[0-9a-f]{40}",
        help="that of the process, as INFO has it, where one and no other is meant; asserted "
        "before use",
    ),
    Key("ca", "literal", help="file with the certificates that prove the server's own (TLS)"),
    Key(
        "max_output",
        "size",
        minimum=1024,
        help="how long an answer may be; 16MiB",
    ),
    Key("connect_timeout", "duration", default=10.0, help="how long connecting may take"),
)
ANSIBLE: tuple[Key, ...] = (
    Key(
        "inventory",
        "literal",
        required=True,
        help="path of the inventory: INI, YAML, a program that answers `--list`, or a folder",
    ),
    Key("hosts", "literal", default="all", help="host expression: which of its hosts are meant"),
    Key(
        "without_files",
        "list",
        help="files under `group_vars/` and `host_vars/` that are not read, as "
        "`group_vars/all/vault.yml`; `*` is known",
    ),
    Key("without_vars", "list", help="vars that are left out, by name; `*` is known"),
    Key("timeout", "duration", default=60.0, help="how long a program may take"),
)
_SCOPE: tuple[Key, ...] = (
    Key("timezone", "literal", default="UTC", help="where these times are meant"),
    Key("runbooks", "list", help="names of the runbooks that it is about; without it all"),
)
WINDOW: tuple[Key, ...] = (
    Key(
        "days",
        "literal",
        many=True,
        help="days such as `mon-thu`; those on which it begins, every day without it",
    ),
    Key("from", "literal", required=True, help="time of day, `09:00`"),
    Key(
        "to",
        "literal",
        required=True,
        help="time of day up to which changes may be made; of the next day where it is not later, "
        "`24:00` for the end of the day",
    ),
    *_SCOPE,
)
FREEZE: tuple[Key, ...] = (
    Key("from", "literal", required=True, help="`2026-12-20`, or `2026-12-20 18:00`"),
    Key("until", "literal", required=True, help="the same; of a date the whole day is frozen"),
    Key("reason", "literal", required=True, help="why, for those it holds up"),
    *_SCOPE,
)
INVENTORY: tuple[Key, ...] = (
    Key("opskit", "data", required=True, help="version of the file format: 1"),
    Key("connection", "table", keys=CONNECTION, help="how hosts are reached"),
    Key("vars", "data", help="values for templates on all hosts"),
    Key(
        "ansible",
        "table",
        keys=ANSIBLE,
        main="inventory",
        help="an inventory of Ansible that hosts and groups come from",
    ),
    Key("hosts", "data", help="name → address, or a table, see below; needed without `ansible`"),
    Key("groups", "data", help="name → list of hosts, or a table, see below"),
    Key("services", "data", help="name → what runs where, see below"),
    Key("balancers", "data", help="name → load balancer, see below"),
    Key("databases", "data", help="name → PostgreSQL database, see below"),
    Key("redis", "data", help="name → Redis server, see below"),
    Key("channels", "data", help="name → where messages go, see below"),
    Key(
        "notify",
        "name",
        many=True,
        help="the channels of every `notify` step that names none",
    ),
    Key("change_windows", "data", help="list of when changes may be made, see below"),
    Key("freezes", "data", help="list of when no changes may be made, see below"),
    Key("secrets", "map", help="name → `env:NAME`, `file:PATH` or `cmd:COMMAND`"),
)
