-- From format 2 to 3: signs of life of the process that drives a run.
alter table holds add column beats integer not null default 0;
alter table holds add column heard integer not null default 0;
