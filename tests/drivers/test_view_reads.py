"""A refresh that looks for views where none is ever listed, and what a look at them says."""

import psycopg
import pytest

from opskit.model.expected import Expected, Index, Relation
from tests.support.database import ROLES
from tests.support.expecting import findings, verified
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance
VIEWS = ("mv_people_dropdown", "mv_location_dropdown")
TABLES = """
    CREATE TABLE people (id bigint PRIMARY KEY, name text NOT NULL);
    INSERT INTO people VALUES (1, 'a'), (2, 'b');
    CREATE MATERIALIZED VIEW mv_people_dropdown AS SELECT id, name AS text FROM people WITH NO DATA;
    CREATE MATERIALIZED VIEW mv_location_dropdown AS SELECT id, name AS text FROM people
        WITH NO DATA;
    CREATE UNIQUE INDEX ON mv_people_dropdown (id);
    CREATE UNIQUE INDEX ON mv_location_dropdown (id);
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader
"""
REFRESH = """
    CREATE FUNCTION refresh_select2_materialized_views() RETURNS json LANGUAGE plpgsql AS $$
    DECLARE refreshed text[] := '{}'; one text;
    BEGIN
        FOREACH one IN ARRAY ARRAY['mv_people_dropdown', 'mv_location_dropdown'] LOOP
            IF EXISTS (SELECT 1 FROM information_schema.tables
                       WHERE table_name = one AND table_type = 'VIEW') THEN
                EXECUTE format('REFRESH MATERIALIZED VIEW %I', one);
                refreshed := refreshed || one;
            END IF;
        END LOOP;
        RETURN json_build_object('success', true, 'refreshed_views', refreshed);
    END $$
"""


def test_f1_a_refresh_that_refreshes_nothing_says_success_and_we_say_critical(
    postgres: Server,
) -> None:
    url = postgres.database(empty=True)
    wanted = Expected(
        relations=tuple(
            Relation(name=name, view=True, columns=("id", "text"),
                     indexes=(Index(keys=("id",), unique=True),))
            for name in VIEWS
        )
    )  # fmt: skip
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ROLES.encode())
        connection.execute(TABLES.encode())
        connection.execute(REFRESH.encode())
        said = connection.execute("SELECT refresh_select2_materialized_views()").fetchone()
        assert said == ({"success": True, "refreshed_views": []},)
        output, _ = verified(url, wanted)
        assert output.outcome == "failed"
        found = [(one["check"], one["table"]) for one in findings(output, "CRIT")]
        assert sorted(found) == [("view", name) for name in sorted(VIEWS)]
        for name in VIEWS:
            connection.execute(f"REFRESH MATERIALIZED VIEW {name}".encode())
    assert verified(url, wanted)[0].outcome == "succeeded"


def test_when_a_view_was_refreshed_is_unknown_where_the_server_keeps_no_times(
    postgres: Server,
) -> None:
    url = postgres.database(empty=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"CREATE MATERIALIZED VIEW seen AS SELECT 1 AS a")
    wanted = Expected(relations=(Relation(name="seen", view=True, fresh_within=3600.0),))
    output, _ = verified(url, wanted)
    assert [(one["check"], one["level"]) for one in findings(output)] == [("fresh", "UNKNOWN")]
    assert "keeps no times of commits (track_commit_timestamp)" in findings(output)[0]["text"]
