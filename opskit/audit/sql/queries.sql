-- What is asked of every store, in SQL that SQLite and PostgreSQL both understand. What they say
-- differently stands in the queries.sql of each. A query begins at its name; parameters are `:name`.

-- name: store
select id, created, runs, tokens from store;

-- name: count_run
update store set runs = runs + 1;

-- name: count_token
update store set tokens = tokens + 1;

-- name: add_run
insert into runs (number, id, kind, runbook, created) values (:number, :id, :kind, :runbook, :created);

-- name: add_document
insert into documents (digest, body)
select :digest, :body where not exists (select 1 from documents where digest = :digest);

-- name: add_event
insert into events (run, number, at, kind, key, host, body, hash)
values (:run, :number, :at, :kind, :key, :host, :body, :hash);

-- name: add_output
insert into outputs (run, key, attempt, stream, part, size, packed, body)
values (:run, :key, :attempt, :stream, :part, :size, :packed, :body);

-- name: begin_head
insert into heads (run, entries, hash, state) values (:run, 0, '', 'planned');

-- name: head
-- Where a run stands, and which process may go on with it.
select h.entries, h.hash, h.state, h.ended, (select token from holds where run = h.run) as token
from heads h where h.run = :run;

-- name: move_head
update heads set entries = :entries, hash = :hash, state = :state, ended = :ended where run = :run;

-- name: unsealed
-- Runs with entries that no later run vouches for yet.
select r.id, h.entries, h.hash from heads h join runs r on r.number = h.run
where h.entries > h.sealed order by h.run;

-- name: seal
update heads set sealed = entries where entries > sealed;

-- name: last_hash
-- The hash that the newest run but one stands at.
select hash from heads where run < :before order by run desc limit 1;

-- name: run
select number, id, kind, runbook, created from runs where id = :id;

-- name: run_numbered
select id from runs where number = :number;

-- name: every_run
select number, id, kind, runbook, created from runs order by number;

-- name: counts
-- How many runs there are, by all who know of it.
select s.runs as counted, (select count(*) from runs) as listed,
    (select coalesce(max(number), 0) from runs) as newest,
    (select count(*) from runs r join heads h on h.run = r.number) as headed
from store s;

-- name: newest
-- The newest run that did something, or was to: a dry run is named by its id, as is a message.
select id from runs where kind not in ('preview', 'notify') order by number desc limit 1;

-- name: like_id
-- Runs whose id begins or ends with a text, the newest first.
select id from runs
where substr(id, 1, length(:text)) = :text or substr(id, length(id) - length(:text) + 1) = :text
order by number desc limit 6;

-- name: runs
-- The newest runs, each with its first event (who, why, what), where it stands, and its end.
select r.number, r.id, h.entries, h.state, h.ended, e.at, e.body, (
    select x.body from events x where x.run = r.number and x.kind = 'run ended'
    order by x.number desc limit 1
) as ending
from runs r join heads h on h.run = r.number
left join events e on e.run = r.number and e.number = 1
where (cast(:since as double precision) is null or r.created >= :since)
and (cast(:runbook as text) is null or r.runbook = :runbook)
and (:previews or r.kind <> 'preview')
order by r.number desc limit :limit;

-- name: events
select number, at, kind, key, host, body, hash from events
where run = :run and number > :after order by number limit :limit;

-- name: event_hash
select hash from events where run = :run and number = :number;

-- name: first_event
select number, at, kind, key, host, body, hash from events where run = :run and number = 1;

-- name: first_events
select r.id, e.body from runs r join events e on e.run = r.number and e.number = 1 order by r.number;

-- name: anything_started
select 1 from events where run = :run and kind = 'step started' limit 1;

-- name: last_started
select host, body from events where run = :run and kind = 'step started' order by number desc limit 1;

-- name: notes
-- Remarks among the entries of a run from one to another.
select number, body from events
where run = :run and number > :after and number <= :upto and kind = 'note' order by number;

-- name: said
-- What people said and decided in the runs since a moment.
select r.id, e.number, e.at, e.body, e.hash, coalesce((
    select p.hash from events p where p.run = e.run and p.number = e.number - 1
), '') as previous
from runs r join events e on e.run = r.number
where r.created >= :since and (cast(:runbook as text) is null or r.runbook = :runbook)
and e.kind in ('note', 'decided')
order by r.number, e.number;

-- name: takers
-- What was last said of who went on with a run, or took its locks away; the newest first.
select kind, body from events
where run = :run and kind in ('run resumed', 'note') order by number desc limit 50;

-- name: last_waiting
select body from events where run = :run and kind = 'waiting' order by number desc limit 1;

-- name: amendments
-- What changed the plan of a run, the newest first.
select number, at, kind, key, host, body, hash from events
where run = :run and kind = 'plan amended' order by number desc;

-- name: document
select body from documents where digest = :digest;

-- name: every_document
select digest, body from documents order by digest;

-- name: output
select part, size, packed, body from outputs
where run = :run and key = :key and attempt = :attempt and stream = :stream and part >= :part
order by part limit 8;

-- name: part
select size from outputs
where run = :run and key = :key and attempt = :attempt and stream = :stream and part = :part;

-- name: streams
-- Which streams of which attempts have output.
select distinct key, attempt, stream from outputs where run = :run order by key, attempt, stream;

-- name: recallable
-- Runs of a runbook that have begun something on a host, the newest first.
select r.number, r.id, h.state from runs r join heads h on h.run = r.number
where r.kind = 'run' and r.runbook = :runbook and (cast(:id as text) is null or r.id = :id) and exists (
    select 1 from events e where e.run = r.number and e.kind = 'step started' and e.host = :host
)
order by r.number desc;

-- name: lock
select l.name, l.run, l.since, r.id, r.runbook, h.state from locks l
join runs r on r.number = l.run join heads h on h.run = l.run where l.name = :name;

-- name: take_lock
insert into locks (name, run, since) values (:name, :run, :since);

-- name: free_lock
delete from locks where name = :name;

-- name: free_locks
delete from locks where run = :run;

-- name: hold
insert into holds (run, token, who, origin, machine, pid, started, boot, since)
values (:run, :token, :who, :origin, :machine, :pid, :started, :boot, :since);

-- name: holder
select token, who, origin, machine, pid, started, boot, since, beats, heard from holds where run = :run;

-- name: release
delete from holds where run = :run;
