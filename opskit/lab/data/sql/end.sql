-- After every data set: the indexes, then the faults, then the manifest.
select pg_temp.create_index(e) from expected e
where not exists (select from fault f where f.name = e.name and f.instead) order by e.name
\gexec
select step from fault, unnest(ddl) with ordinality as s (step, place) order by n, place
\gexec
\set ON_ERROR_STOP off
select step from fault, unnest(failing) with ordinality as s (step, place) order by n, place
\gexec
\set ON_ERROR_STOP on
-- Numbers that were given by hand are taken.
select format('select setval(pg_get_serial_sequence(%L, %L), (select max(%I) from %I))', relname, attname, attname, relname)
from pg_attribute join pg_class on pg_class.oid = attrelid
where relnamespace = 'public'::regnamespace and attidentity = 'd'
\gexec
-- What a REINDEX CONCURRENTLY leaves that was stopped: the catalog says the same of these.
reset role;
update pg_index set indisvalid = false, indisready = false
from fault where fault.kind = 'ccnew' and failing = '{}' and indexrelid = to_regclass(fault.object);
analyze;
\o
select jsonb_pretty(jsonb_build_object(
    'data', :'name', 'seed', :'seed'::bigint, 'rows', :'rows'::bigint, 'tables', :'tables'::integer,
    'cases', :'cases'::integer, 'planted', :'planted'::boolean,
    'indexes', coalesce((select jsonb_agg(jsonb_build_object('name', name, 'table', tbl,
        'keys', keys, 'include', include, 'where', pred, 'unique', uniq, 'method', method)
        order by name) from expected), '[]'),
    'objects', coalesce((select jsonb_agg(jsonb_build_object('kind', kind, 'name', name) || detail
        order by kind, name) from expected_other), '[]'),
    'faults', coalesce((select jsonb_agg(jsonb_build_object('kind', kind, 'table', tbl,
        'expected', name, 'object', object, 'note', note) order by n) from fault), '[]'),
    'groups', coalesce((select jsonb_agg(jsonb_build_object('case', "case", 'rule', rule, 'may', may,
        'within', within, 'table', tbl, 'rows', rows) order by "case", rows -> 0 ->> 'id')
        from planted), '[]')));
