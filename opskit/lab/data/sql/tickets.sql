-- S2: helpdesk tickets with their agents and service levels.
create table accounts_user (id bigint generated always as identity primary key, email text not null unique);
create table tickets_slapolicy (id bigint generated always as identity primary key, name text not null, minutes integer not null);
create table tickets_ticket (
    id bigint generated always as identity primary key, subject text not null, status text not null, priority text not null,
    assigned_agent_id bigint references accounts_user, sla_policy_id bigint references tickets_slapolicy,
    first_response_due timestamptz, resolution_due timestamptz, created_at timestamptz not null);
insert into accounts_user (email) select 'agent' || g || '@example.com' from generate_series(1, 50) g;
insert into tickets_slapolicy (name, minutes) select 'Policy ' || g, g * 60 from generate_series(1, 5) g;
insert into tickets_ticket (subject, status, priority, assigned_agent_id, sla_policy_id, first_response_due, resolution_due, created_at)
select 'Ticket ' || g, (array['new', 'open', 'pending', 'resolved', 'closed'])[1 + g % 5], (array['low', 'normal', 'high'])[1 + g % 3],
       nullif(pg_temp.pick('agent.' || g, 51), 0), 1 + g % 5,
       at + interval '1 hour', at + interval '1 day', at
from (select g, timestamptz '2026-01-01 00:00+00' + g * interval '1 minute' as at
      from generate_series(1, current_setting('lab.rows')::bigint) g) row;
-- The seed gives these no names; what counts is what they are on.
insert into expected (name, tbl, keys) values
    ('tickets_ticket_assigned_agent_status_idx', 'tickets_ticket', array['assigned_agent_id', 'status']),
    ('tickets_ticket_sla_policy_idx', 'tickets_ticket', array['sla_policy_id']),
    ('tickets_ticket_first_response_due_idx', 'tickets_ticket', array['first_response_due']),
    ('tickets_ticket_resolution_due_idx', 'tickets_ticket', array['resolution_due']);
insert into expected_other (kind, name, detail) values
    ('table', 'tickets_ticket', '{}'), ('table', 'tickets_slapolicy', '{}'),
    ('foreign_key', 'tickets_ticket', '{"columns": ["assigned_agent_id"], "references": "accounts_user"}'),
    ('foreign_key', 'tickets_ticket', '{"columns": ["sla_policy_id"], "references": "tickets_slapolicy"}');
