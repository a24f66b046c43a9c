insert into fault (kind, tbl, name, instead, object, ddl, note) values
    ('columns', 'mv_people_dropdown', 'idx_mv_people_dropdown_id', true, 'mv_people_dropdown', array[
        'drop materialized view mv_people_dropdown',
        'create materialized view mv_people_dropdown as select id, peoplename as display_name, email from people where enable',
        'create unique index idx_mv_people_dropdown_id on mv_people_dropdown (id)'], 'has display_name, and neither text nor loginid nor tenant_id'),
    ('unpopulated', 'mv_location_dropdown', null, false, 'mv_location_dropdown',
        array['refresh materialized view mv_location_dropdown with no data'], null),
    ('view_missing', 'mv_asset_dropdown', 'idx_mv_asset_dropdown_id', true, null,
        array['drop materialized view mv_asset_dropdown'], null),
    ('overloaded', '', null, false, 'check_rate_limit(text,text,integer)', array[
        'drop function check_rate_limit(inet, varchar, interval, integer)',
        $$create function check_rate_limit(p_ip text, p_username text, p_max integer) returns json language sql stable as
          'select json_build_object(''is_blocked'', false)'$$], 'the name is there, with other arguments'),
    -- Materialized views are not in information_schema: it refreshes nothing and says that it was a success.
    ('refreshes_nothing', '', null, false, 'refresh_select2_materialized_views()', array[
        $$create or replace function refresh_select2_materialized_views() returns json language plpgsql as $body$
        declare found_view text; done text[] := '{}';
        begin
            for found_view in select table_name from information_schema.tables where table_type = 'VIEW' and table_name like 'mv_%_dropdown' loop
                execute format('refresh materialized view concurrently %I', found_view);
                done := done || found_view;
            end loop;
            return json_build_object('success', true, 'refreshed_views', done, 'refresh_time', now());
        end $body$ $$], 'says success, and refreshes no view'),
    ('missing', 'django_session', 'django_session_expire_date_idx', true, null, '{}', null);
