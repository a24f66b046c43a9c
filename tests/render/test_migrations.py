"""Plans of migrations: their order, what is due, what came since a release, and the way back."""

import json

import pytest

from opskit.render import TemplateError, evaluate
from opskit.render.migrations import (
    additions,
    alone,
    due,
    listed,
    log,
    lost,
    order_faults,
    planned,
    reversals,
    since,
    sql_faults,
    stops,
    touched,
)

SEVEN = [
    "core.0010_sync_idempotency_record",
    "core.0011_tenant_conflict_policy",
    "core.0012_sync_analytics_models",
    "core.0013_upload_session",
    "core.0014_sync_device_health",
    "core.0015_conflict_resolution_log",
    "voice_recognition.0001_voice_verification_log",
]
BASE = ["core.0008_a", "core.0009_b"]


def plan(*names: str, applied: int = 0) -> str:
    return "\n".join(f"[{'X' if n < applied else ' '}]  {name}" for n, name in enumerate(names))


def test_a_plan_is_read_whatever_is_printed_around_it() -> None:
    text = "System check: fine\n[X]  a.0001_initial\n[ ]  b.0002_x ... (a.0001_initial)\r\nbye [ ]"
    assert [one.name for one in planned(text)] == ["a.0001_initial"]
    text = "[X]  a.0001_initial\r\n[ ]  b.0002_x  (a.0001_initial)\r\n"
    assert due(text) == ["b.0002_x"]
    assert due("(no migrations)") == []
    with pytest.raises(TemplateError, match="no plan of migrations"):
        due("Traceback (most recent call last)")
    with pytest.raises(TemplateError, match="no plan of migrations"):
        due("")


@pytest.mark.parametrize("applied", range(10))
def test_the_seven_in_their_order_are_fine_however_far_they_are(applied: int) -> None:
    text = plan(*BASE, *SEVEN, applied=applied)
    assert order_faults(text, SEVEN) == ""
    assert due(text) == [*BASE, *SEVEN][applied:]


def test_any_other_order_is_told() -> None:
    for place in range(6):
        other = [*SEVEN]
        other[place], other[place + 1] = other[place + 1], other[place]
        said = order_faults(plan(*BASE, *other), SEVEN)
        assert said == f"{SEVEN[place + 1]} would come before {SEVEN[place]}"
    late = plan(*SEVEN).replace("[ ]  core.0014", "[X]  core.0014")
    assert order_faults(late, SEVEN).count("is applied, and core.0010") == 1
    gap = plan(*(name for name in SEVEN if name != SEVEN[2]))
    assert order_faults(gap, SEVEN) == f"the plan has no {SEVEN[2]}"
    assert order_faults(plan(*SEVEN[:4]), SEVEN) == ""
    with pytest.raises(TemplateError, match="is a list"):
        order_faults(plan(*SEVEN), "core.0010")


SQL = """-- opskit migration core.0010_a
BEGIN;
--
-- Create model N
--
CREATE TABLE "core_n" ("id" bigint PRIMARY KEY);
ALTER TABLE "core_t" ADD COLUMN "note" text NULL;
COMMIT;
-- opskit migration core.0011_b
CREATE INDEX CONCURRENTLY "i" ON "core_t" ("note");
-- opskit migration voice.0001_c
BEGIN;
--
-- Raw Python operation
--
-- THIS OPERATION CANNOT BE WRITTEN AS SQL
COMMIT;
-- opskit migration voice.0002_d
-- opskit failed ValueError: Found wrong number (0) of constraints
-- opskit migration voice.0003_e
"""


def test_what_migrations_are_is_written_down() -> None:
    assert alone(SQL) == ["core.0011_b"]
    assert touched(SQL) == ["core_t"]
    every = {one["name"]: one for one in json.loads(log(SQL))["migrations"]}
    assert [one["class"] for one in every.values()] == [
        "additive", "additive", "unread", "unread", "additive",
    ]  # fmt: skip
    assert every["core.0010_a"]["adds"] == ["core_n", "core_t:note"]
    assert alone(
        SQL.replace("\nBEGIN;\n--\n-- Raw", "\n--\n-- Raw").replace("SQL\nCOMMIT;", "SQL")
    )[1:] == ["voice.0001_c"]


NAMES = [*BASE, "core.0010_a", "core.0011_b", "voice.0001_c"]


def test_what_a_deploy_that_was_taken_back_has_left_is_unknown_to_the_live_release() -> None:
    live = (
        plan(*BASE, applied=2) + "\n-- opskit unknown core.0012_drop\n-- opskit unknown gone.0001_x"
    )
    before = plan(BASE[0], applied=1)
    kept = {"name": "core.0012_drop", "class": "destructive", "adds": ["core_z"]}
    recorded = json.dumps({"migrations": [kept]})
    assert "core.0012_drop has taken away" in stops(live, before, recorded)
    assert "core.0012_drop destructive" in listed(live, before, recorded)
    assert "gone" not in stops(live, before, recorded)  # of an app that was taken out long ago
    assert "core.0012_drop" not in stops(live, plan("core.0012_drop", applied=1), recorded)
    assert "core_z" not in additions(live, before, recorded)  # nobody here can take it back
    assert "0012" not in " ".join(reversals(live, before, recorded))


def test_what_came_since_a_release_and_the_way_back() -> None:
    live, before = plan(*NAMES, "voice.0002_d", applied=5) + "\n" + SQL, plan(*BASE, applied=2)
    assert listed(live, before) == "core.0010_a additive\ncore.0011_b additive\nvoice.0001_c unread"
    assert additions(live, before) == ["core_n", "core_t:note"]
    assert reversals(live, before) == [
        "voice 0001_c zero", "core 0011_b 0010_a", "core 0010_a 0009_b",
    ]  # fmt: skip
    together = live.replace("CREATE INDEX CONCURRENTLY", "BEGIN;\nCREATE INDEX")
    assert reversals(together, before) == ["voice 0001_c zero", "core 0011_b,0010_a 0009_b"]
    assert stops(live, before).startswith("voice.0001_c: nobody knows what it did")
    assert stops(live, before, reviewed="voice.0001_c") == ""
    assert stops(live, plan(*NAMES, applied=5)) == ""
    assert reversals(live, plan(*NAMES, applied=5)) == []


def test_the_record_counts_more_than_what_the_sql_says_now() -> None:
    live, before = plan(*NAMES, applied=5), plan(*BASE, applied=2)
    recorded = log(SQL).replace('"additive"', '"destructive"', 1)
    assert "core.0010_a has taken away" in stops(live, before, recorded, "voice.0001_c")
    assert "core.0010_a: nobody knows" in stops(live, before, "")


def test_what_a_restore_would_lose_is_counted_since_the_deploy() -> None:
    then = log("-- opskit written a 4\n-- opskit written b c 9\n" + SQL)
    now = "-- opskit written a 14\n-- opskit written b c 9\n-- opskit written d 1"
    assert lost(now, then) == "10 in a, 1 in d"
    reset = "nobody knows how many in a, whose counter was reset"
    assert lost("-- opskit written a 3", then) == reset
    assert lost(now).startswith("nobody knows")  # and not all that was ever written


def test_what_a_squash_stands_for_is_known_to_who_knows_its_parts() -> None:
    live = "[X]  a.0001_both\n[X]  a.0002_new\n-- opskit known a.0001_both\n"
    assert [one.name for one in since(live, "[X]  a.0001_x\n[X]  a.0002_y")] == ["a.0002_new"]


def test_a_database_without_any_migration_is_in_nobodys_use() -> None:
    text = plan(*NAMES) + "\n" + SQL
    assert sql_faults(text) == ""
    assert "RunPython" in sql_faults(text.replace("[ ]", "[X]", 1))


def test_templates_have_them() -> None:
    assert evaluate("text | migrations_due", {"text": plan("a.0001_x")}) == ["a.0001_x"]
    with pytest.raises(TemplateError, match="no plan of migrations"):
        evaluate("text | migrations_due", {"text": ""})
