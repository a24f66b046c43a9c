-- Before every data set. psql reads all of it in one session, so that temporary tables can carry
-- what is expected and what is planted to the end, and nothing of them stays in the database.
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
\pset format unaligned
\o /dev/null
set client_min_messages = warning;
set timezone = 'UTC';
set search_path = public;
select set_config('lab.seed', :'seed', false), set_config('lab.rows', :'rows', false),
       set_config('lab.tables', :'tables', false), set_config('lab.cases', :'cases', false),
       set_config('lab.since', :'since', false);
select exists (select from pg_roles where rolname = 'owner') as has_owner \gset
create extension if not exists pg_stat_statements;
create extension if not exists amcheck;
create extension if not exists pgstattuple;
\if :has_owner
set role owner;
\endif

-- A number from 0 to `below` - 1 that depends on the seed and the words given, and on nothing else.
create function pg_temp.pick(words text, below integer) returns integer
language sql immutable as
$$ select (('x' || substr(md5(current_setting('lab.seed') || ':' || words), 1, 7))::bit(28)::integer) % below $$;

-- The time of the first rows of a ledger; the last ones are 90 days later.
create function pg_temp.since() returns timestamptz language sql stable as
$$ select current_setting('lab.since')::timestamptz $$;

-- Indexes that should be there. They are created from these rows, so both can't differ.
create temporary table expected (
    name text primary key, tbl text not null, keys text[] not null,
    include text[] not null default '{}', pred text, uniq boolean not null default false,
    method text not null default 'btree');
-- Everything else that should be there: functions, views, tables, extensions, foreign keys.
create temporary table expected_other (
    kind text not null, name text not null, detail jsonb not null default '{}');
-- Faults. `instead`: the expected index of that name is not created; `ddl`: what is done for it.
-- Statements that are meant to fail, and leave something behind by that, stand in `failing`.
create temporary table fault (
    n integer generated always as identity, kind text not null, tbl text not null,
    name text, instead boolean not null default false, object text,
    ddl text[] not null default '{}', failing text[] not null default '{}', note text);
-- Planted groups of rows: what a rule has to say about each row of them.
create temporary table planted (
    "case" text not null, rule text not null, may text[] not null default '{}',
    within text[] not null default '{}', tbl text not null, rows jsonb not null);

create function pg_temp.create_index(e expected) returns text language sql stable as
$$ select format('create %s index %I on %s using %s (%s)%s%s',
        case when e.uniq then 'unique' else '' end, e.name, e.tbl, e.method,
        array_to_string(e.keys, ', '),
        case when e.include <> '{}' then format(' include (%s)', array_to_string(e.include, ', ')) else '' end,
        case when e.pred is not null then ' where ' || e.pred else '' end) $$;
