insert into fault (kind, tbl, name, instead, object, ddl, failing, note) values
    ('missing', 'sync_analytics_snapshot', 'idx_sync_analytics_timestamp', true, null, '{}', '{}', null),
    ('column_order', 'sync_tenant_conflict_policy', 'idx_conflict_policy_tenant_domain', true, 'idx_conflict_policy_tenant_domain',
        array['create index idx_conflict_policy_tenant_domain on sync_tenant_conflict_policy (domain, tenant_id)'], '{}', null),
    ('descending', 'sync_analytics_snapshot', 'idx_sync_analytics_tenant_time', true, 'idx_sync_analytics_tenant_time',
        array['create index idx_sync_analytics_tenant_time on sync_analytics_snapshot (tenant_id, timestamp)'], '{}', 'ascending'),
    ('predicate', 'upload_session', 'idx_upload_session_expires', true, 'idx_upload_session_expires',
        array['create index idx_upload_session_expires on upload_session (expires_at)'], '{}', 'not partial'),
    ('twin', 'sync_device_health', 'idx_device_health_device', false, 'idx_device_health_device_twin',
        array['create index idx_device_health_device_twin on sync_device_health (device_id)'], '{}', null),
    ('prefix', 'sync_device_health', 'idx_device_health_user_tenant', false, 'idx_device_health_user',
        array['create index idx_device_health_user on sync_device_health (user_id)'], '{}', 'covered by the expected one'),
    ('foreign_key', 'sync_device_health', null, false, null,
        array['alter table sync_device_health drop constraint sync_device_health_tenant_id_fkey'], '{}', 'sync_device_health (tenant_id) refers to nothing'),
    ('invalid', 'sync_idempotency_record', 'sync_idempotency_record_idempotency_key_uq', true, 'sync_idempotency_record_idempotency_key_uq',
        '{}', array['create unique index concurrently sync_idempotency_record_idempotency_key_uq on sync_idempotency_record (idempotency_key)'],
        'a build that failed');
-- One key on several records: a device's second try that was carried out again, or another request under its key.
create temporary table planned as
select kind, k, m, current_setting('lab.rows')::bigint + row_number() over (order by kind, k, m) as id
from unnest(array['same_key', 'key_reused_request']) kind, generate_series(1, current_setting('lab.cases')::integer) k, generate_series(1, 2) m;
insert into sync_idempotency_record (id, idempotency_key, scope, device_id, user_id, tenant_id, request_hash, response_data, created_at, expires_at)
select id, encode(sha256((kind || k)::bytea), 'hex'), 'item', 'planted-' || k, k, 1 + k % 10,
       encode(sha256((kind || k || case when kind = 'key_reused_request' then '.' || m else '' end)::bytea), 'hex'),
       jsonb_build_object('ok', true, 'item', id), at, at + interval '24 hours'
from (select *, pg_temp.since() + interval '1 day' + k * interval '1 hour' + m * interval '2 seconds' as at from planned) row;
insert into planted ("case", rule, tbl, rows)
select kind, 'A', 'sync_idempotency_record', jsonb_agg(jsonb_build_object('id', id, 'verdict',
    case when m = 1 then 'SURVIVOR' when kind = 'same_key' then 'DUPLICATE' else 'KEY_REUSED_DIFFERENT_PAYLOAD' end) order by m)
from planned group by kind, k;
