-- Which table has which fault: by the seed, at most one for a table.
create temporary table chosen as
with kinds as (
    select * from unnest(array['missing', 'column_order', 'descending', 'predicate', 'include',
        'opclass', 'collation', 'expression', 'invalid', 'ccnew', 'duplicate', 'prefix', 'twin',
        'drifted']) with ordinality as k (kind, place)),
tables as (
    select format('item_%s', lpad(n::text, 4, '0')) as tbl,
           row_number() over (order by md5(current_setting('lab.seed') || '.table.' || n)) as rank
    from generate_series(1, current_setting('lab.tables')::integer) n)
select kind, tbl from tables join kinds on place = 1 + (rank - 1) % 14
where rank <= 14 * current_setting('lab.cases')::integer;

-- In these the expected index is unique, which the first two rows do not allow.
update expected set uniq = true
from chosen where chosen.tbl = expected.tbl and kind = 'invalid' and name = expected.tbl || '_tenant_status';

insert into fault (kind, tbl, name, instead, object, ddl, failing, note)
select kind, tbl, name, instead, object,
       case when object is null or kind = 'invalid' then '{}' else array[format(ddl, object, tbl)] end,
       case when kind = 'invalid' then array[format(ddl, object, tbl)] else '{}' end, note
from (
    select kind, tbl, tbl || part as name, instead, case when object is not null then tbl || object end as object, ddl, note
    from chosen join (values
        ('missing', '_tenant_status', true, null, null, null),
        ('column_order', '_tenant_status', true, '_tenant_status', 'create index %I on %I (status, tenant_id)', null),
        ('descending', '_score', true, '_score', 'create index %I on %I (score, name)', 'ascending'),
        ('predicate', '_active', true, '_active', $$create index %I on %I (created_at) where status <> 'deleted'$$, null),
        ('include', '_name', true, '_name', 'create index %I on %I (name collate "C")', 'amount is not included'),
        ('opclass', '_email', true, '_email', 'create index %I on %I (lower(email))', 'the default operator class'),
        ('collation', '_name', true, '_name', 'create index %I on %I (name) include (amount)', 'the default collation'),
        ('expression', '_email', true, '_email', 'create index %I on %I (upper(email) text_pattern_ops)', 'upper, not lower'),
        ('invalid', '_tenant_status', true, '_tenant_status', 'create unique index concurrently %I on %I (tenant_id, status)', 'a build that failed'),
        ('ccnew', '_tenant_status', false, '_tenant_status_ccnew', 'create index %I on %I (tenant_id, status)', 'beside the sound one'),
        ('duplicate', '_tenant_status', false, '_tenant_status_again', 'create index %I on %I (tenant_id, status)', null),
        ('prefix', '_tenant_status', false, '_tenant', 'create index %I on %I (tenant_id)', 'covered by the expected one'),
        ('twin', '_tenant_status', false, '_twin', 'create index %I on %I (tenant_id, status)', 'equal, smaller, and so what the planner takes'),
        ('drifted', '_tenant_status', true, '_ts_5be1c2_idx', 'create index %I on %I (tenant_id, status)', 'the definition is there under another name')
    ) as d (kind, part, instead, object, ddl, note) using (kind)
) planned
order by tbl;
-- The expected index grows by single rows, its twin is built from all at once: the twin is smaller.
update fault set ddl = array[format($$insert into %I (tenant_id, status, score, name, email, amount, created_at)
    select pg_temp.pick('twin.' || g, 20000), 'paused', g, 'twin ' || g, 'twin' || g || '@example.com', g,
           timestamptz '2026-02-01 00:00+00' + g * interval '1 minute' from generate_series(1, 4000) g$$, tbl)] || ddl
where kind = 'twin';
