-- Many tables of five indexes each, for what must be found among them. No system's own names.
select format($$create table item_%s (
    id bigint generated always as identity primary key, tenant_id integer not null,
    status text not null, score integer not null, name text not null, email text not null,
    amount numeric(12, 2) not null, created_at timestamptz not null)$$, lpad(n::text, 4, '0'))
from generate_series(1, current_setting('lab.tables')::integer) n
\gexec
-- The first two rows of each table have one tenant and status: a unique index on these must fail.
select format($$insert into item_%s (tenant_id, status, score, name, email, amount, created_at)
    select case when g <= 2 then 1 else 1 + g %% 7 end,
           case when g <= 2 then 'active' else (array['active', 'paused', 'deleted'])[1 + g %% 3] end,
           pg_temp.pick('%1$s.' || g, 1000), 'name ' || g, 'User' || g || '@example.com',
           g + 0.25, timestamptz '2026-01-01 00:00+00' + g * interval '1 hour'
    from generate_series(1, %s) g$$, lpad(n::text, 4, '0'), greatest(current_setting('lab.rows')::integer, 2))
from generate_series(1, current_setting('lab.tables')::integer) n
\gexec
insert into expected (name, tbl, keys, include, pred)
select format('item_%s_%s', lpad(n::text, 4, '0'), part), format('item_%s', lpad(n::text, 4, '0')),
       keys, include, pred
from generate_series(1, current_setting('lab.tables')::integer) n,
    (values ('tenant_status', array['tenant_id', 'status'], array[]::text[], null),
            ('score', array['score DESC', 'name'], '{}', null),
            ('active', array['created_at'], '{}', $$status = 'active'$$),
            ('email', array['lower(email) text_pattern_ops'], '{}', null),
            ('name', array['name COLLATE "C"'], array['amount'], null)) as d (part, keys, include, pred);

-- Views and functions: two for each kind of fault that is planted, and two more.
create temporary table place as
select n, format('%s', lpad(n::text, 4, '0')) as number,
       row_number() over (order by md5(current_setting('lab.seed') || '.object.' || n)) as rank
from generate_series(1, 2 + 4 * current_setting('lab.cases')::integer) n;
create temporary table view_part as
select number, case when :'planted'::boolean and rank <= current_setting('lab.cases')::integer then 'unpopulated'
    when :'planted'::boolean and rank <= 2 * current_setting('lab.cases')::integer then 'columns' end as kind
from place;
create temporary table function_part as
select number, case when :'planted'::boolean and rank <= current_setting('lab.cases')::integer then 'overloaded'
    when rank <= 2 * current_setting('lab.cases')::integer then 'both' end as kind
from place;
select format('create materialized view item_view_%s as select id, name as %s, score from item_0001%s',
    number, case kind when 'columns' then 'display_name' else 'name' end,
    case kind when 'unpopulated' then ' with no data' else '' end)
from view_part order by number
\gexec
select format('create function item_count_%s(%s) returns bigint language sql stable as %L', number, argument,
    'select count(*) from item_0001')
from function_part, unnest(case kind when 'overloaded' then array['text']
    when 'both' then array['integer', 'text'] else array['integer'] end) argument order by number
\gexec
insert into expected (name, tbl, keys, uniq)
select format('item_view_%s_id', number), format('item_view_%s', number), array['id'], true from view_part;
insert into expected_other (kind, name, detail)
select 'view', format('item_view_%s', number), jsonb_build_object('columns', array['id', 'name', 'score'])
from view_part
union all
select 'function', format('item_count_%s(integer)', number), '{}' from function_part;
insert into fault (kind, tbl, object, note)
select kind, format('item_view_%s', number), format('item_view_%s', number), case kind
    when 'columns' then 'has display_name, and no name' end
from view_part where kind is not null order by number;
insert into fault (kind, tbl, object, note)
select kind, '', format('item_count_%s(text)', number), format('there is no item_count_%s(integer)', number)
from function_part where kind = 'overloaded' order by number;
