-- The record of all runs, format 3. Facts are appended and never changed: the triggers below refuse
-- it. What may change stands apart: `heads` (derived, can be rebuilt from the events), `locks` and
-- `holds` (who works on what right now), and the counter in `store`.

create table store (
    only    integer primary key check (only = 1),
    id      text not null,
    created real not null,
    runs    integer not null default 0,         -- how many runs there have ever been
    tokens  integer not null default 0          -- how often a process has begun or gone on with a run
);

create table runs (
    number  integer primary key,                -- 1, 2, 3 … without a gap
    id      text not null unique,
    kind    text not null,
    runbook text not null,
    created real not null
);

create table documents (                        -- runbooks, inventories, plans, by their content
    digest  text primary key,                   -- SHA-256 of the text
    body    blob not null                       -- deflated (zlib)
);

create table events (
    run     integer not null references runs (number),
    number  integer not null,                   -- 1, 2, 3 … without a gap in each run
    at      real not null,                      -- UTC seconds
    kind    text not null,                      -- kind, key and host repeat what body says
    key     text not null,
    host    text not null,
    body    blob not null,                      -- the event, canonical JSON
    hash    text not null,                      -- SHA-256 over this entry and the hash before it
    primary key (run, number)
) without rowid;

create table outputs (                          -- what actions printed, secrets masked
    run     integer not null references runs (number),
    key     text not null,
    attempt integer not null,
    stream  text not null check (stream in ('stdout', 'stderr')),
    part    integer not null,                   -- 0, 1, 2 … without a gap in each stream
    size    integer not null,                   -- bytes before deflating
    packed  integer not null,                   -- 1: body is deflated (zlib), 0: as it is
    body    blob not null,
    unique (run, key, attempt, stream, part)
);

create table heads (                            -- where each run stands: derived from its events
    run      integer primary key references runs (number),
    entries  integer not null,
    hash     text not null,
    state    text not null,
    ended    real,
    sealed   integer not null default 0         -- up to which entry a later run vouches for it
);
create index heads_unsealed on heads (run) where entries > sealed;

create table locks (
    name  text primary key,                     -- what is locked; one run at a time
    run   integer not null references runs (number),
    since real not null
);

create table holds (                            -- the process that drives a run now
    run     integer primary key references runs (number),
    token   text not null,
    who     text not null,
    origin  text not null,
    machine text not null,
    pid     integer not null,
    started text not null,                      -- start time of the process, in clock ticks since boot
    boot    text not null,                      -- boot id of the machine
    since   real not null,
    beats   integer not null default 0,         -- a count that grows while the process lives
    heard   integer not null default 0          -- the last entry in which it looked for wishes
);

-- Facts are append only.

create trigger runs_keep before update on runs
begin select raise(abort, 'the record is append-only: runs are not changed'); end;
create trigger runs_stay before delete on runs
begin select raise(abort, 'the record is append-only: runs are not deleted'); end;
create trigger runs_count before insert on runs
when new.number <> (select runs + 1 from store)
begin select raise(abort, 'the record is append-only: runs are numbered without a gap'); end;

create trigger documents_keep before update on documents
begin select raise(abort, 'the record is append-only: documents are not changed'); end;
create trigger documents_stay before delete on documents
begin select raise(abort, 'the record is append-only: documents are not deleted'); end;
-- Nor may an insert replace one (`insert or replace` fires no delete trigger).
create trigger documents_once before insert on documents
when exists (select 1 from documents where digest = new.digest)
begin select raise(abort, 'the record is append-only: documents are not replaced'); end;

create trigger events_keep before update on events
begin select raise(abort, 'the record is append-only: events are not changed'); end;
create trigger events_stay before delete on events
begin select raise(abort, 'the record is append-only: events are not deleted'); end;
create trigger events_count before insert on events
when new.number <> (select coalesce(max(number), 0) + 1 from events where run = new.run)
begin select raise(abort, 'the record is append-only: events are numbered without a gap'); end;

create trigger outputs_keep before update on outputs
begin select raise(abort, 'the record is append-only: outputs are not changed'); end;
create trigger outputs_stay before delete on outputs
begin select raise(abort, 'the record is append-only: outputs are not deleted'); end;
create trigger outputs_count before insert on outputs
when new.part <> (
    select coalesce(max(part), -1) + 1 from outputs
    where run = new.run and key = new.key and attempt = new.attempt and stream = new.stream
)
begin select raise(abort, 'the record is append-only: parts are numbered without a gap'); end;

create trigger store_keep before update of id, created on store
begin select raise(abort, 'the record is append-only: a store keeps its identity'); end;
create trigger store_count before update of runs on store when new.runs <> old.runs + 1
begin select raise(abort, 'the record is append-only: runs are counted one by one'); end;
create trigger store_tokens before update of tokens on store when new.tokens <> old.tokens + 1
begin select raise(abort, 'the record is append-only: tokens are counted one by one'); end;
create trigger store_stay before delete on store
begin select raise(abort, 'the record is append-only: a store is not deleted'); end;

create trigger heads_grow before update on heads when new.entries < old.entries
begin select raise(abort, 'the record is append-only: a run does not get shorter'); end;
create trigger heads_stay before delete on heads
begin select raise(abort, 'the record is append-only: runs are not deleted'); end;
