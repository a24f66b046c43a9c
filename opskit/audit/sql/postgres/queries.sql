-- What is asked in PostgreSQL's own words. Everything is in the schema `opskit`, which is the search
-- path of each session.

-- name: endings_with
-- Outcomes in whose text a marker stands.
select body from events
where run = :run and kind = 'step ended' and position(:marker in body) > 0 order by number;

-- name: alone
-- The store to this transaction, until it ends.
select pg_advisory_xact_lock(hashtextextended('opskit: the record', 0));

-- name: beat
-- A sign of life of the process that drives a run.
update holds set beats = beats + 1, beat = clock_timestamp(), heard = :heard
where run = :run and token = :token returning beats;

-- name: quiet
-- How long ago the last one was, by the server's clock: it has set both times.
select extract(epoch from clock_timestamp() - beat)::double precision as seconds from holds where run = :run;

-- name: session
-- This session, so that another can end it: a process id alone may be another's by then.
select pid, backend_start as began from pg_stat_activity where pid = pg_backend_pid();

-- name: end_session
select pg_terminate_backend(pid) from pg_stat_activity
where pid = :pid and backend_start = :began;

-- name: present
-- Whether there is a record here.
select to_regclass('opskit.migrations') is not null as present,
    has_schema_privilege(current_user, to_regnamespace('opskit'), 'usage') as allowed;

-- name: format
select max(number) as number from migrations;

-- name: migrated
insert into migrations (number, name, by) values (:number, :name, current_user);

-- name: found_store
insert into store (id, created) values (:id, :created);

-- name: add_key
insert into keys (store, body) values (:store, :body) on conflict do nothing;

-- name: key
select body from keys where store = :store;

-- name: guards
-- Every trigger: on which table, as it was made, whether it fires, and what its function does.
select t.tgname as name, pg_get_triggerdef(t.oid, true) as made, t.tgenabled::text as fires,
    p.proname as function, p.prosrc as body, array_to_string(p.proconfig, ';') as config
from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
join pg_proc p on p.oid = t.tgfoid
where n.nspname = 'opskit' and not t.tgisinternal order by t.tgname;

-- name: rights
-- What this session's role may do, beside reading and adding, with what is never changed.
select c.relname as table, c.relname in ('heads', 'locks', 'holds', 'store') as moving,
    has_table_privilege(c.oid, 'select') as reads, has_table_privilege(c.oid, 'insert') as adds,
    has_table_privilege(c.oid, 'update') as changes, has_table_privilege(c.oid, 'delete') as deletes,
    has_table_privilege(c.oid, 'truncate') as empties,
    pg_has_role(c.relowner, 'usage') as owns
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'opskit' and c.relkind = 'r' order by c.relname;

-- name: may_beat
-- Whether this session's role may give signs of life.
select has_column_privilege('holds', 'beats', 'update') and has_column_privilege('holds', 'beat', 'update')
    and has_column_privilege('holds', 'heard', 'update') as allowed;

-- name: server
select current_user as role, current_database() as database, current_setting('server_version') as version,
    current_setting('server_version_num')::integer as number,
    (select rolsuper from pg_roles where rolname = current_user) as super,
    pg_is_in_recovery() as standby, current_setting('fsync') as fsync,
    current_setting('full_page_writes') as pages, current_setting('synchronous_commit') as commits;

-- name: role_exists
select 1 as found from pg_roles where rolname = :name;
