"""opskit lab: a practice fleet on this machine."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from opskit.cli import complete, screen
from opskit.cli.group import Group
from opskit.view import jsonl

SOURCES = ("auto", "embedded", "system")
FAULTS = ("unhealthy", "slow", "errors", "crash", "wrong-release")


def of_project(_: click.Context, __: click.Parameter, given: Path | None) -> Path | None:
    """Return the folder given, else the one whose inventory `opskit.yaml` names, if it is a lab."""
    if given is not None:
        return given
    from opskit import load, settings

    file = settings.project_file(Path.cwd())
    named = load.mapping(file).get("inventory") if file is not None else None
    if file is None or not isinstance(named, str):
        return None
    path = file.parent / named
    return path.parent if (path.parent.name, path.name) == ("lab", "inventory.yaml") else None


folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="OPSKIT_LAB",
    callback=of_project,
    help="The lab's folder. Default: OPSKIT_LAB, or the lab that opskit.yaml names, or one in "
    "your state directory.",
)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


def _say(value: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """Answer a program with an object and a person with text."""
    words = json.dumps(value) if as_json else text
    if words:
        screen.out(words + "\n")


@click.group(cls=Group)
def lab() -> None:
    """A practice fleet on this machine: hosts with SSH, a service, a balancer."""


@lab.command()
@click.option("--web", default=4, show_default=True, help="How many web hosts.")
@click.option("--lb", default=1, show_default=True, help="How many balancers.")
@click.option("--release", default="A", show_default=True, help="The first live release.")
@click.option("--disk", default="512m", show_default=True, help="Size of each host's disk.")
@click.option(
    "--isolation",
    type=click.Choice(("namespaces", "user-namespaces", "shared")),
    help="How far hosts are kept apart. Default: as far as this machine and user allow.",
)
@click.option(
    "--postgres",
    is_flag=False,
    flag_value="auto",
    type=click.Choice(SOURCES),
    help="A PostgreSQL, too: the one that comes with the extra `lab`, or the machine's own.",
)
@click.option(
    "--redis",
    is_flag=False,
    flag_value="auto",
    type=click.Choice(SOURCES),
    help="A Redis, too: the one that comes with the extra `lab`, or the machine's own.",
)
@click.option(
    "--data",
    default="",
    metavar="SET,…",
    help="Fill databases: teams, tickets, sync, youtility, payouts, catalog, limits (a Redis).",
)
@click.option("--rows", type=int, help="How many rows of each. Default: 1000 (catalog: 20).")
@click.option("--tables", default=40, show_default=True, help="How many tables in `catalog`.")
@click.option("--planted", is_flag=True, help="Plant faults and duplicates, and say where.")
@click.option("--cases", default=1, show_default=True, help="How many of each that is planted.")
@click.option("--seed", default=1, show_default=True, help="Another one makes other data.")
@json_option
@folder_option
def up(
    *,
    web: int,
    lb: int,
    release: str,
    disk: str,
    isolation: str | None,
    postgres: str | None,
    redis: str | None,
    data: str,
    as_json: bool,
    folder: Path | None,
    rows: int | None,
    tables: int,
    cases: int,
    seed: int,
    planted: bool,
) -> None:
    """Start a fleet, and a PostgreSQL and a Redis beside it if asked for."""
    from opskit import lab as fleet
    from opskit.lab.layout import Mode

    sets = tuple(name.strip() for name in data.split(",") if name.strip())
    amount = fleet.Amount(rows=rows, tables=tables, cases=cases, seed=seed, planted=planted)
    wish = fleet.Wish(postgres=postgres, redis=redis, data=sets, amount=amount)

    made = fleet.up(
        folder,
        web=web,
        lb=lb,
        release=release,
        disk_size=disk,
        isolation=Mode(isolation) if isolation else None,
        wish=wish,
    )
    _say(made.status(), f"{made.describe()}\ninventory: {made.inventory}", as_json=as_json)


@lab.command()
@json_option
@folder_option
def down(folder: Path | None, as_json: bool) -> None:
    """End the fleet; no process, mount or file of it is left."""
    from opskit import lab as fleet

    gone = fleet.down(folder)
    text = "the lab is gone" if gone else "there is no lab here"
    _say({"kind": "lab", "ended": gone}, text, as_json=as_json)


@lab.command()
@json_option
@folder_option
def status(as_json: bool, folder: Path | None) -> None:
    """Show the hosts."""
    from opskit.lab import Lab

    found = Lab.load(folder)
    _say(found.status(), found.describe(), as_json=as_json)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("host", shell_complete=complete.lab_hosts)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--user", "-u", help="Run as this user of the host instead of root.")
@json_option
@folder_option
def exec_(
    *, host: str, command: tuple[str, ...], user: str | None, as_json: bool, folder: Path | None
) -> int:
    """Run a command on a host, not through SSH: opskit lab exec web1 -- ps -ef."""
    from opskit.lab import Lab

    done = Lab.load(folder).exec(host, command, user=user, timeout=None, capture=as_json)
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    if as_json:
        printed = {"stdout": jsonl.printed(done.stdout), "stderr": jsonl.printed(done.stderr)}
        _say({"host": host, "status": status, **printed}, "", as_json=True)
    return status


@lab.command()
@click.argument("host", shell_complete=complete.lab_hosts)
@json_option
@folder_option
def reboot(host: str, as_json: bool, folder: Path | None) -> None:
    """Cut a host's power and start it again."""
    from opskit.lab import Lab

    found = Lab.load(folder)
    text = ""
    if not found.reboot(host):
        text = f"{host} is up, but its service did not start: "
        text += f"opskit lab exec {host} -- labctl start"
    _say(found.host_status(host), text, as_json=as_json)


@lab.command()
@click.argument("host", shell_complete=complete.lab_hosts)
@json_option
@folder_option
def freeze(host: str, as_json: bool, folder: Path | None) -> None:
    """Stop all processes of a host, as when a machine hangs."""
    from opskit.lab import Lab

    found = Lab.load(folder)
    found.freeze(host)
    _say(found.host_status(host), "", as_json=as_json)


@lab.command()
@click.argument("host", shell_complete=complete.lab_hosts)
@click.option("--reset", is_flag=True, help="By resets and refusals instead of silence.")
@json_option
@folder_option
def cut(host: str, reset: bool, as_json: bool, folder: Path | None) -> None:
    """Take a host off the net; what runs on it goes on."""
    from opskit.lab import Lab

    found = Lab.load(folder)
    found.cut(host, reset=reset)
    _say(found.host_status(host), "", as_json=as_json)


@lab.command()
@click.argument("host", shell_complete=complete.lab_hosts)
@json_option
@folder_option
def heal(host: str, as_json: bool, folder: Path | None) -> None:
    """Take back freeze and cut."""
    from opskit.lab import Lab

    found = Lab.load(folder)
    found.heal(host)
    _say(found.host_status(host), "", as_json=as_json)


@lab.command()
@click.argument("where")
@click.argument("values", nargs=-1, metavar="[NAME=VALUE]...")
@json_option
@folder_option
def switch(where: str, values: tuple[str, ...], as_json: bool, folder: Path | None) -> None:
    """Break the service of a host, of blue or green, or of web (all): error_share=0.1, slow_ms=500.

    What is not named is switched off; without values all is.
    """
    from opskit.lab import Lab, switches

    layout = Lab.load(folder).layout
    wanted = switches.parse(values)
    switches.put(layout, where, wanted)
    names = [host.name for host in switches.hosts(layout, where)]
    text = f"{', '.join(names)}: {' '.join(values) or 'nothing is switched on'}"
    _say({"hosts": names, "switches": wanted}, text, as_json=as_json)


@lab.command()
@click.argument("name")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Default: NAME.tar.gz"
)
@click.option("--fault", type=click.Choice(FAULTS), help="What shall be wrong with it.")
@json_option
def release(name: str, output: Path | None, fault: str | None, as_json: bool) -> None:
    """Make a release of the practice service, good or broken."""
    from opskit.lab import release as releases

    written = releases.write(name, output or Path(f"{name}.tar.gz"), fault)
    _say({"release": name, "file": str(written), "fault": fault}, str(written), as_json=as_json)


@lab.command()
@click.option("--seconds", "-s", default=10.0, show_default=True, help="For how long.")
@click.option("--rate", type=float, help="Requests per second. Default: as fast as answers come.")
@click.option("--threads", default=8, show_default=True, help="Half of them keep connections.")
@click.option("--posts", default=0.0, help="Share of requests that are POSTs with an id each.")
@click.option("--sockets", default=0, help="How many WebSockets to hold open beside.")
@click.option("--hold", type=float, help="Seconds each of them is held. Default: to the end.")
@click.option(
    "--balancer",
    default="web",
    show_default=True,
    type=click.Choice(("web", "app", "edge")),
    help="Which of the first balancer's: nginx; its two colours; those of HAProxy.",
)
@click.option("--url", help="Another server than the lab's.")
@json_option
@folder_option
def load(
    *,
    seconds: float,
    rate: float | None,
    threads: int,
    posts: float,
    sockets: int,
    hold: float | None,
    balancer: str,
    url: str | None,
    as_json: bool,
    folder: Path | None,
) -> int:
    """Send requests and count how each ends; Ctrl-C counts early. Status 1 when one failed."""
    import signal
    import threading

    from opskit.lab import Lab, inventory
    from opskit.lab import load as loads

    target = url or inventory.front(Lab.load(folder).layout, balancer)
    enough = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a script's & had it ignored
        signal.signal(number, lambda *_: enough.set())
    wish = loads.Load(
        url=target, rate=rate, threads=threads, posts=posts, sockets=sockets, hold=hold
    )
    report = loads.run(wish, seconds, enough)
    _say(report.to_json(), report.describe(), as_json=as_json)
    return 1 if report.failures or report.sockets.get("not_opened") else 0


@lab.command()
@click.option("--mark", is_flag=True, help="Count from now on.")
@json_option
@folder_option
def failures(mark: bool, as_json: bool, folder: Path | None) -> None:
    """Count requests and failures by the balancers' and the services' own logs."""
    from opskit.lab import Lab
    from opskit.lab import failures as logs

    layout = Lab.load(folder).layout
    if mark:
        logs.mark(layout)
        return
    counts = logs.read(layout)
    _say(counts, logs.describe(counts), as_json=as_json)
