-- The record of all runs, as in sqlite/schema.sql. Facts are appended and never changed: triggers
-- refuse it to everybody, and the role of those who run has no right to it.

create table migrations (
    number  integer primary key,
    name    text not null,
    by      text not null,
    at      timestamptz not null default now()
);

create table store (
    single  boolean primary key default true check (single),
    id      text not null,
    created double precision not null,
    runs    integer not null default 0,
    tokens  integer not null default 0
);

create table keys (                             -- for digests of secrets: of this store, and of those
    store text primary key,                     -- whose runs were imported
    body  bytea not null
);

create table runs (
    number  integer primary key,
    id      text not null unique,
    kind    text not null,
    runbook text not null,
    created double precision not null
);

create table documents (
    digest  text primary key,
    body    bytea not null
);

create table events (
    run     integer not null references runs (number),
    number  integer not null,
    at      double precision not null,
    kind    text not null,
    key     text not null,
    host    text not null,
    body    bytea not null,
    hash    text not null,
    primary key (run, number)
);

create table outputs (
    run     integer not null references runs (number),
    key     text not null,
    attempt integer not null,
    stream  text not null check (stream in ('stdout', 'stderr')),
    part    integer not null,
    size    integer not null,
    packed  boolean not null,
    body    bytea not null,
    primary key (run, key, attempt, stream, part)
);
alter table events alter column body set storage external;     -- compressed before it gets here,
alter table outputs alter column body set storage external;    -- or short
alter table documents alter column body set storage external;

create table heads (
    run     integer primary key references runs (number),
    entries integer not null,
    hash    text not null,
    state   text not null,
    ended   double precision,
    sealed  integer not null default 0
) with (fillfactor = 50);
create index heads_unsealed on heads (run) where entries > sealed;

create table locks (
    name  text primary key,
    run   integer not null references runs (number),
    since double precision not null
);

create table holds (
    run     integer primary key references runs (number),
    token   text not null,
    who     text not null,
    origin  text not null,
    machine text not null,
    pid     integer not null,
    started text not null,
    boot    text not null,
    since   double precision not null
);

-- Facts are append only. The triggers fire always, also where replication would pass them over. What
-- their functions call is the server's own, whatever a session has put before it on its search path.

create function refuse() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'the record is append-only: % are not changed or deleted', tg_table_name;
end
$$;

create function count_run() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if new.number <> (select runs + 1 from opskit.store) then
        raise exception 'the record is append-only: runs are numbered without a gap';
    end if;
    return new;
end
$$;

create function count_event() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if new.number <> (
        select coalesce(max(number), 0) + 1 from opskit.events where run = new.run
    ) then
        raise exception 'the record is append-only: events are numbered without a gap';
    end if;
    return new;
end
$$;

create function count_part() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if new.part <> (
        select coalesce(max(part), -1) + 1 from opskit.outputs
        where run = new.run and key = new.key and attempt = new.attempt and stream = new.stream
    ) then
        raise exception 'the record is append-only: parts are numbered without a gap';
    end if;
    return new;
end
$$;

create function keep_store() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if new.id <> old.id or new.created <> old.created then
        raise exception 'the record is append-only: a store keeps its identity';
    end if;
    if new.runs not in (old.runs, old.runs + 1) then
        raise exception 'the record is append-only: runs are counted one by one';
    end if;
    if new.tokens not in (old.tokens, old.tokens + 1) then
        raise exception 'the record is append-only: tokens are counted one by one';
    end if;
    return new;
end
$$;

create function grow_head() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if new.entries < old.entries or new.run <> old.run then
        raise exception 'the record is append-only: a run does not get shorter';
    end if;
    return new;
end
$$;

create trigger runs_keep before delete or update on runs for each row execute function refuse();
create trigger runs_stay before truncate on runs for each statement execute function refuse();
create trigger runs_count before insert on runs for each row execute function count_run();
create trigger documents_keep before delete or update on documents for each row execute function refuse();
create trigger documents_stay before truncate on documents for each statement execute function refuse();
create trigger events_keep before delete or update on events for each row execute function refuse();
create trigger events_stay before truncate on events for each statement execute function refuse();
create trigger events_count before insert on events for each row execute function count_event();
create trigger outputs_keep before delete or update on outputs for each row execute function refuse();
create trigger outputs_stay before truncate on outputs for each statement execute function refuse();
create trigger outputs_count before insert on outputs for each row execute function count_part();
create trigger store_keep before update on store for each row execute function keep_store();
create trigger store_delete before delete on store for each row execute function refuse();
create trigger store_stay before truncate on store for each statement execute function refuse();
create trigger keys_keep before delete or update on keys for each row execute function refuse();
create trigger keys_stay before truncate on keys for each statement execute function refuse();
create trigger heads_grow before update on heads for each row execute function grow_head();
create trigger heads_delete before delete on heads for each row execute function refuse();
create trigger heads_stay before truncate on heads for each statement execute function refuse();
create trigger migrations_keep before delete or update on migrations for each row execute function refuse();
create trigger migrations_stay before truncate on migrations for each statement execute function refuse();

do $$
declare
    guard record;
begin
    for guard in select tgrelid::regclass as place, tgname from pg_trigger
        where not tgisinternal and tgrelid in (
            select oid from pg_class where relnamespace = 'opskit'::regnamespace
        )
    loop
        execute format('alter table %s enable always trigger %I', guard.place, guard.tgname);
    end loop;
end
$$;
