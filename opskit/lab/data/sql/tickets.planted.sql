insert into fault (kind, tbl, name, instead, object, ddl, note) values
    ('missing', 'tickets_ticket', 'tickets_ticket_assigned_agent_status_idx', true, null, '{}', null),
    ('drifted', 'tickets_ticket', 'tickets_ticket_sla_policy_idx', true, 'tickets_ticket_sla_policy_id_1f8e3c92',
        array['create index tickets_ticket_sla_policy_id_1f8e3c92 on tickets_ticket (sla_policy_id)'],
        'the definition is there under the name that Django gives'),
    ('predicate', 'tickets_ticket', 'tickets_ticket_first_response_due_idx', true, 'tickets_ticket_first_response_due_idx',
        array[$$create index tickets_ticket_first_response_due_idx on tickets_ticket (first_response_due) where status = 'new'$$], 'partial'),
    ('duplicate', 'tickets_ticket', 'tickets_ticket_resolution_due_idx', false, 'tickets_ticket_resolution_due_again_idx',
        array['create index tickets_ticket_resolution_due_again_idx on tickets_ticket (resolution_due)'], null);
