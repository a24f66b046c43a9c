-- What is asked in SQLite's own words.

-- name: found_store
insert into store (only, id, created) values (1, :id, :created);

-- name: endings_with
-- Outcomes in whose text a marker stands.
select body from events
where run = :run and kind = 'step ended' and instr(body, :marker) > 0 order by number;

-- name: beat
-- A sign of life of the process that drives a run.
update holds set beats = beats + 1, heard = :heard where run = :run and token = :token returning beats;

-- name: quiet
-- How long ago the last one was, by the clock of the store: a file has none.
select 0.0 as seconds from holds where run = :run and 0;

-- name: guards
select name, sql from sqlite_master where type = 'trigger' order by name;

-- name: run_of_process
-- The run that a process of a machine drives.
select r.id from holds h join runs r on r.number = h.run where h.machine = :machine and h.pid = :pid;
