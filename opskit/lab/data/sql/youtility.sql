-- S4: PostgreSQL first. Functions, materialized views, task tables, caches and sessions in the database.
create table tenants_tenant (id integer generated always as identity primary key, name text not null);
create table people (id bigint generated always as identity primary key, loginid text not null unique, peoplename text not null,
    email text, enable boolean not null default true, tenant_id integer not null references tenants_tenant);
create table locations (id bigint generated always as identity primary key, name text not null, description text,
    is_active boolean not null default true, tenant_id integer not null references tenants_tenant);
create table assets (id bigint generated always as identity primary key, name text not null, asset_tag text not null,
    is_active boolean not null default true, tenant_id integer not null references tenants_tenant);
create table auth_rate_limit_attempts (
    id bigint generated always as identity primary key, ip_address inet not null, username varchar(150), user_agent text,
    attempt_time timestamptz not null default now(), attempt_type text not null, success boolean not null default false,
    failure_reason text, created_at timestamptz not null default now());
create table django_session (session_key varchar(40) primary key, session_data text not null, expire_date timestamptz not null);
create table select2_cache (cache_key varchar(250) primary key, cache_value jsonb not null, tenant_id integer not null,
    created_at timestamptz not null, expires_at timestamptz not null);
create table task_queue (id uuid primary key, task_name text not null, queue_name text not null default 'default', status text not null,
    priority integer not null default 5, retry_count integer not null default 0, max_retries integer not null default 3,
    worker_id text not null default '', error_message text not null default '', traceback text not null default '',
    created_at timestamptz not null, scheduled_at timestamptz not null, started_at timestamptz);
create table task_execution_history (id uuid primary key, task_id uuid not null references task_queue on delete cascade, status text not null,
    started_at timestamptz not null, duration_ms integer);
create table scheduled_tasks (id integer generated always as identity primary key, name text not null unique, task_name text not null,
    interval_seconds integer, enabled boolean not null default true, next_run_at timestamptz);
create table scheduled_task_executions (id uuid primary key, scheduled_task_id integer not null references scheduled_tasks, status text not null,
    executed_at timestamptz not null);
create table task_workers (id uuid primary key, worker_id text not null unique, hostname text not null, pid integer not null, status text not null,
    last_heartbeat timestamptz not null);
create table worker_heartbeats (id uuid primary key, worker_id text not null, timestamp timestamptz not null, active_tasks integer not null);
create table task_dependencies (id uuid primary key, task_id uuid not null references task_queue, depends_on_task_id uuid not null references task_queue,
    unique (task_id, depends_on_task_id));
create table task_workflows (id uuid primary key, name text not null, workflow_definition jsonb not null, status text not null);
create table task_performance_metrics (id uuid primary key, task_name text not null, period_start timestamptz not null, period_end timestamptz not null,
    total_executions integer not null, p95_duration_ms integer);

insert into tenants_tenant (name) select 'Tenant ' || g from generate_series(1, 5) g;
insert into people (loginid, peoplename, email, enable, tenant_id)
select 'user' || g, 'Person ' || g, 'user' || g || '@example.com', g % 10 <> 0, 1 + g % 5
from generate_series(1, current_setting('lab.rows')::bigint) g;
insert into locations (name, description, tenant_id) select 'Location ' || g, 'Floor ' || g % 9, 1 + g % 5
from generate_series(1, greatest(current_setting('lab.rows')::bigint / 5, 1)) g;
insert into assets (name, asset_tag, tenant_id) select 'Asset ' || g, 'A-' || g, 1 + g % 5
from generate_series(1, greatest(current_setting('lab.rows')::bigint / 5, 1)) g;
-- These are counted back from now: what has expired, and what is inside the window, depends on the clock.
insert into auth_rate_limit_attempts (ip_address, username, attempt_time, attempt_type, success, failure_reason)
select ('10.0.' || g % 4 || '.' || g % 250)::inet, case when g % 3 > 0 then 'user' || g end, now() - g * interval '30 seconds',
       (array['login', 'password_reset', 'api_access', 'form_submission'])[1 + g % 4], g % 5 > 2, case when g % 5 <= 2 then 'bad password' end
from generate_series(1, current_setting('lab.rows')::bigint) g
union all -- one who is blocked by name, behind an address that is blocked and is not his alone
select '192.0.2.7', case when g <= 6 then 'john' else 'mary' || g % 2 end, now() - g * interval '20 seconds', 'login', false, 'bad password'
from generate_series(1, 18) g;
insert into django_session (session_key, session_data, expire_date)
select md5('session-' || g), repeat('x', 64), now() + case when g % 2 = 0 then 1 else -1 end * g * interval '1 minute'
from generate_series(1, current_setting('lab.rows')::bigint) g;
insert into select2_cache (cache_key, cache_value, tenant_id, created_at, expires_at)
select 'select2:' || g, jsonb_build_object('results', g), 1 + g % 5, now() - g * interval '1 hour', now() + (500 - g) * interval '1 minute'
from generate_series(1, current_setting('lab.rows')::bigint) g;
-- Most tasks are done; a tenth waits; a few hang with a worker that is gone, or have failed for good.
insert into task_queue (id, task_name, queue_name, status, priority, retry_count, worker_id, error_message, created_at, scheduled_at, started_at)
select md5('task-' || g)::uuid, (array['send_report', 'sync_asset'])[1 + g / 5 % 2],
       (array['default', 'high_priority', 'email', 'reports', 'maintenance'])[1 + g % 5], state, 1 + g % 10, case state when 'failed' then 3 else 0 end,
       case state when 'processing' then 'worker2' when 'completed' then 'worker1' else '' end, case state when 'failed' then 'timeout' else '' end,
       at, at, case when state <> 'pending' then at end
from (select g, state, now() - case state when 'pending' then g / 10 % 10 else 30 + g end * interval '1 minute' as at
      from (select g, case when g % 10 = 0 then 'pending' when g % 100 = 7 then 'processing' when g % 50 = 9 then 'failed' else 'completed' end as state
            from generate_series(1, current_setting('lab.rows')::bigint) g) made) row;
insert into task_execution_history (id, task_id, status, started_at, duration_ms)
select md5('execution-' || g)::uuid, md5('task-' || g)::uuid, 'completed', now() - g * interval '5 seconds', 20 + g % 50
from generate_series(1, least(current_setting('lab.rows')::bigint, 100)) g;
insert into task_workers (id, worker_id, hostname, pid, status, last_heartbeat) values
    (md5('worker1')::uuid, 'worker1', 'web1', 4711, 'active', now()), (md5('worker2')::uuid, 'worker2', 'web2', 4712, 'active', now() - interval '1 hour');
insert into scheduled_tasks (name, task_name, interval_seconds) values
    ('cleanup_old_tasks', 'cleanup_old_tasks', 86400), ('update_performance_metrics', 'update_performance_metrics', 3600);

-- Failed attempts inside the window; who is blocked by name is told of first, an address has three times as many.
create function check_rate_limit(p_ip_address inet, p_username varchar, p_time_window interval, p_max_attempts integer)
returns json language plpgsql stable as $$
declare
    by_ip integer; by_name integer; last_at timestamptz; reason text;
begin
    select count(*) filter (where ip_address = p_ip_address and not success),
           count(*) filter (where username = p_username and not success), max(attempt_time)
    into by_ip, by_name, last_at
    from auth_rate_limit_attempts
    where (ip_address = p_ip_address or username = p_username) and attempt_time >= now() - p_time_window;
    reason := case when by_name >= p_max_attempts then 'username' when by_ip >= 3 * p_max_attempts then 'ip' end;
    return json_build_object('is_blocked', reason is not null, 'ip_attempts', by_ip, 'username_attempts', by_name,
        'max_attempts', p_max_attempts, 'time_window', p_time_window, 'last_attempt', last_at,
        'block_reason', coalesce(reason, ''), 'time_until_reset', last_at + p_time_window - now());
end $$;
create function cleanup_expired_sessions() returns json language plpgsql as $$
declare gone integer;
begin
    delete from django_session where expire_date < now();
    get diagnostics gone = row_count;
    return json_build_object('deleted_count', gone, 'cleanup_time', now());
end $$;
create function cleanup_select2_cache(p_days_old integer default 7) returns json language plpgsql as $$
declare gone integer;
begin
    delete from select2_cache where expires_at < now() and created_at < now() - make_interval(days => p_days_old);
    get diagnostics gone = row_count;
    return json_build_object('deleted_count', gone, 'days_old', p_days_old, 'cleanup_time', now());
end $$;
create function refresh_select2_materialized_views() returns json language plpgsql as $$
declare found_view name; done text[] := '{}';
begin
    for found_view in select matviewname from pg_matviews where schemaname = 'public'
            and matviewname in ('mv_people_dropdown', 'mv_location_dropdown', 'mv_asset_dropdown') order by 1 loop
        execute format('refresh materialized view %I', found_view);
        done := done || found_view::text;
    end loop;
    return json_build_object('success', done <> '{}', 'refreshed_views', done, 'refresh_time', now());
end $$;
create materialized view mv_people_dropdown as
    select id, peoplename as text, loginid, email, tenant_id from people where enable;
create materialized view mv_location_dropdown as
    select id, name as text, description, tenant_id from locations where is_active;
create materialized view mv_asset_dropdown as
    select id, name as text, asset_tag, tenant_id from assets where is_active;

insert into expected (name, tbl, keys, pred, uniq) values
    ('idx_mv_people_dropdown_id', 'mv_people_dropdown', array['id'], null, true),
    ('idx_mv_location_dropdown_id', 'mv_location_dropdown', array['id'], null, true),
    ('idx_mv_asset_dropdown_id', 'mv_asset_dropdown', array['id'], null, true),
    ('auth_rate_limit_ip_time_idx', 'auth_rate_limit_attempts', array['ip_address', 'attempt_time'], null, false),
    ('auth_rate_limit_username_time_idx', 'auth_rate_limit_attempts', array['username', 'attempt_time'], null, false),
    ('auth_rate_limit_success_time_idx', 'auth_rate_limit_attempts', array['success', 'attempt_time'], null, false),
    ('django_session_expire_date_idx', 'django_session', array['expire_date'], null, false),
    ('select2_cache_expires_idx', 'select2_cache', array['expires_at'], null, false),
    ('idx_task_queue_pickup', 'task_queue', array['status', 'priority', 'scheduled_at', 'queue_name'], $$status = 'pending'$$, false),
    ('idx_task_execution_history_task_id', 'task_execution_history', array['task_id'], null, false),
    ('idx_scheduled_tasks_next_run', 'scheduled_tasks', array['next_run_at'], 'enabled', false);
insert into expected_other (kind, name, detail)
select 'table', tbl, '{}'::jsonb from unnest(array['task_queue', 'task_execution_history', 'scheduled_tasks', 'scheduled_task_executions',
    'task_workers', 'worker_heartbeats', 'task_dependencies', 'task_workflows', 'task_performance_metrics', 'select2_cache',
    'django_session', 'auth_rate_limit_attempts']) tbl
union all values
    ('extension', 'pg_stat_statements', '{}'::jsonb),
    ('function', 'check_rate_limit(inet,varchar,interval,integer)', '{"ms": 20}'),
    ('function', 'cleanup_expired_sessions()', '{"ms": 100}'),
    ('function', 'cleanup_select2_cache(integer)', '{"ms": 50}'),
    ('function', 'refresh_select2_materialized_views()', '{}'),
    ('view', 'mv_people_dropdown', '{"columns": ["id", "text", "loginid", "tenant_id"], "ms": 5}'),
    ('view', 'mv_location_dropdown', '{"columns": ["id", "text", "tenant_id"], "ms": 5}'),
    ('view', 'mv_asset_dropdown', '{"columns": ["id", "text", "tenant_id"], "ms": 5}');
