# ruff: noqa: S608 (names are quoted, values are bound)
"""The statements that switch payouts off in the database, and on again where nobody else has.

A switch is a row: `name`, and `enabled`, at which workers look before they pay. Who has switched it
off stands beside the marks, so that the last run that is taken back lifts the freeze and no other
does. Which version of the row a run has left tells what others have written meanwhile.
"""

from opskit.model.payouts import Payouts, Switch
from opskit.model.text import Text
from opskit.render.ledgers import name
from opskit.render.payouts import Script

_OURS = "s.xmin = pg_catalog.pg_current_xact_id()::xid"


class _Script(Script):
    """Statements about one switch being written."""

    def __init__(self, deed: Payouts, schema: str, run: str, action: str) -> None:
        super().__init__(deed, schema, run, action)
        assert deed.switch is not None
        self.switch: Switch = deed.switch
        self.switches = f"{name(self.switch.schema)}.{name(self.switch.table)}"
        self.freezes = f"{name(schema)}.{name('payout_freeze')}"

    def named(self) -> str:
        return f"s.name::text = {self.value(self.switch.name, '::text')}"

    def about(self, of: str) -> str:
        """Say that a freeze is of this switch, and is not over."""
        return f"{of}.switch = {self.value(str(self.switch))} AND {of}.ended_at IS NULL"

    def mine(self, of: str) -> str:
        return f"{of}.run = {self.value(self.run)} AND {of}.action = {self.value(self.action)}"

    def held(self) -> str:
        """Lock the switch: who comes at the same time waits."""
        return (
            f"SELECT count(*) AS locked FROM (SELECT FROM {self.switches} AS s"
            f" WHERE {self.named()} FOR UPDATE) AS locked"
        )

    def others(self) -> str:
        """Select the freezes of other actions that are not over."""
        return (
            f"SELECT o.run FROM {self.freezes} AS o WHERE {self.about('o')} AND NOT"
            f" ({self.mine('o')})"
        )


def seen(deed: Payouts, schema: str) -> Text:
    """Say whether the switch is there, without doing anything."""
    script = _Script(deed, schema, "", "")
    return script.made(f"SELECT {_there(script)} AS wrong, {_state(script)} AS told")


def _there(script: _Script) -> str:
    told = script.value(f"{script.switch.name!r} in {script.switch.schema}.{script.switch.table}")
    counted = f"(SELECT count(*) FROM {script.switches} AS s WHERE {script.named()})"
    return (
        f"CASE {counted} WHEN 1 THEN '' WHEN 0 THEN 'there is no switch ' || {told}::text"
        f" ELSE 'there is more than one switch ' || {told}::text END"
    )


def _state(script: _Script) -> str:
    return (
        f"(SELECT CASE WHEN s.enabled THEN 'it is on' ELSE 'it is off' END"
        f" FROM {script.switches} AS s WHERE {script.named()} LIMIT 1)"
    )


def freeze(deed: Payouts, schema: str, run: str, action: str) -> Text:
    """Switch it off, and keep whether it was on before anybody did."""
    script = _Script(deed, schema, run, action)
    over = (
        f"UPDATE {script.freezes} AS f SET ended_at = clock_timestamp(),"
        f" ended_by = {script.value(run)}, ended = 'switched by somebody'\n"
        f"FROM {script.switches} AS s WHERE {script.named()} AND {script.about('f')}\n"
        f"  AND (s.enabled OR s.xmin::text <> f.version)"
    )
    kept = (
        f"INSERT INTO {script.freezes} (run, action, switch, was_on)\n"
        f"SELECT {script.value(run)}, {script.value(action)}, {script.value(str(script.switch))},\n"
        f"  coalesce(s.enabled, false) OR EXISTS (SELECT FROM {script.freezes} AS o"
        f" WHERE {script.about('o')} AND o.was_on)\n"
        f"FROM {script.switches} AS s WHERE {script.named()}"
    )
    off = (
        f"UPDATE {script.switches} AS s SET enabled = false"
        f" WHERE {script.named()} AND s.enabled IS DISTINCT FROM false"
    )
    version = (
        f"UPDATE {script.freezes} AS f SET version = s.xmin::text FROM {script.switches} AS s\n"
        f"WHERE {script.named()} AND {script.mine('f')}"
    )
    told = (
        f"(SELECT CASE WHEN {_OURS} THEN 'switched off' ELSE 'it was off already' || coalesce("
        f"': ' || (SELECT pg_catalog.string_agg('run ' || run, ', ' ORDER BY run)"
        f" FROM ({script.others()}) AS o) || ' has frozen it, too', '') END\n"
        f"  FROM {script.switches} AS s WHERE {script.named()} LIMIT 1)"
    )
    on = (
        f"CASE WHEN EXISTS (SELECT FROM {script.switches} AS s WHERE {script.named()}"
        f" AND s.enabled IS DISTINCT FROM false) THEN 'it is on in spite of it' END"
    )
    wrong = f"pg_catalog.concat_ws('; ', nullif({_there(script)}, ''), {on})"
    last = f"SELECT {wrong} AS wrong,\n  {told} AS told"
    return script.made(script.held(), over, kept, off, version, last)


def thaw(deed: Payouts, schema: str, run: str) -> Text:
    """Switch it on again, where it was, nobody else has it off, and nobody has touched it since."""
    script = _Script(deed, schema, run, deed.of)
    back = (
        f"UPDATE {script.switches} AS s SET enabled = true FROM {script.freezes} AS f\n"
        f"WHERE {script.named()} AND {script.mine('f')} AND f.ended_at IS NULL AND f.was_on\n"
        f"  AND NOT s.enabled AND s.xmin::text = f.version\n"
        f"  AND NOT EXISTS ({script.others()})"
    )
    why = (
        f"(SELECT CASE WHEN s.enabled AND {_OURS} THEN 'switched on'"
        f" WHEN s.enabled THEN 'on already' WHEN s.xmin::text <> f.version THEN"
        f" 'switched by somebody' WHEN NOT f.was_on THEN 'was off before'"
        f" WHEN EXISTS ({script.others()}) THEN 'frozen by another run' ELSE 'still off' END\n"
        f"  FROM {script.switches} AS s WHERE {script.named()} LIMIT 1)"
    )
    ended = (
        f"UPDATE {script.freezes} AS f SET ended_at = clock_timestamp(),"
        f" ended_by = {script.value(run)}, ended = coalesce({why}, 'gone')\n"
        f"WHERE {script.mine('f')} AND f.ended_at IS NULL"
    )
    mine = f"FROM {script.freezes} AS f WHERE {script.mine('f')}"
    wrong = f"(SELECT 'it is off in spite of it' {mine} AND f.ended = 'still off')"
    others = (
        "(SELECT pg_catalog.string_agg('run ' || run, ', ' ORDER BY run)"
        f" FROM ({script.others()}) AS o)"
    )
    told = (
        "CASE f.ended WHEN 'switched on' THEN 'it is on again'"
        " WHEN 'on already' THEN 'it is on: somebody has switched it on before'"
        " WHEN 'was off before' THEN 'it stays off: it was off before'"
        f" WHEN 'frozen by another run' THEN 'it stays off: ' || coalesce({others}"
        " || ' has frozen it, too', 'another run had frozen it, too')"
        " WHEN 'gone' THEN 'the switch is gone'"
        f" ELSE 'it is ' || CASE WHEN (SELECT s.enabled FROM {script.switches} AS s"
        f" WHERE {script.named()} LIMIT 1) THEN 'on' ELSE 'off, and left so' END ||"
        " CASE WHEN f.ended_by = f.run THEN ': somebody else has switched it since'"
        " ELSE ': somebody had switched it on meanwhile' END END"
    )
    nothing = "'this run has switched nothing off'"
    last = f"SELECT {wrong} AS wrong,\n  coalesce((SELECT {told} {mine}), {nothing}) AS told"
    return script.made(script.held(), back, ended, last)
