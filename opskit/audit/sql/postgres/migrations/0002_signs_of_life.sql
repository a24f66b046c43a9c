-- Signs of life of the process that drives a run: a count that grows, when it last grew by the server's
-- clock, and the last entry in which that process looked for wishes.

alter table holds
    add column beats integer not null default 0,
    add column beat timestamptz not null default clock_timestamp(),
    add column heard integer not null default 0;

-- Whoever may drive runs may say so.
do $$
declare
    allowed record;
begin
    for allowed in
        select distinct g.grantee::regrole as role
        from pg_class c, aclexplode(c.relacl) g
        where c.oid = 'opskit.holds'::regclass and g.privilege_type = 'INSERT' and g.grantee <> 0
    loop
        execute format('grant update (beats, beat, heard) on opskit.holds to %s', allowed.role);
    end loop;
end
$$;
