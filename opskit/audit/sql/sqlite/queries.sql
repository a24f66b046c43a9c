-- What is asked in SQLite's own words.

-- name: found_store
insert into store (only, id, created) values (1, :id, :created);

-- name: endings_with
-- Outcomes in whose text a marker stands.
select body from events
where run = :run and kind = 'step ended' and instr(body, :marker) > 0 order by number;

-- name: claimed
-- Whether a process of another machine drives a run: none can, a file is for one machine.
select 1 where 0;

-- name: guards
select name, sql from sqlite_master where type = 'trigger' order by name;
