-- Groups of rows, each `cases` times: what is a duplicate by one rule, and what only looks like one.
-- key, ref, ord, task: `group` is the same for all members, `own` is not. `at` counts from the group's start.
-- verdict: what the rule says of that row; null for a row that no rule may report.
create temporary table member (
    "case" text, rule text, m integer, merchant integer, payee integer, extra numeric, currency text, status text,
    key text, ref text, ord text, task text, at interval, verdict text);
insert into member values
    -- A: one key, several rows. The survivor is settled first, then processing, then oldest, then lowest id.
    ('same_key', 'A', 1, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', 'SURVIVOR'),
    ('same_key', 'A', 2, 0, 0, 0, 'EUR', 'pending', 'group', 'none', 'own', 'own', '2 days', 'HOLD'),
    ('same_key_settled_later', 'A', 1, 0, 0, 0, 'EUR', 'pending', 'group', 'none', 'own', 'own', '0', 'HOLD'),
    ('same_key_settled_later', 'A', 2, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '2 days', 'SURVIVOR'),
    ('same_key_processing', 'A', 1, 0, 0, 0, 'EUR', 'pending', 'group', 'none', 'own', 'own', '0', 'HOLD'),
    ('same_key_processing', 'A', 2, 0, 0, 0, 'EUR', 'processing', 'group', 'own', 'own', 'own', '2 days', 'SURVIVOR'),
    ('same_key_three', 'A', 1, 0, 0, 0, 'USD', 'paid', 'group', 'own', 'own', 'own', '0', 'SURVIVOR'),
    ('same_key_three', 'A', 2, 0, 0, 0, 'USD', 'paid', 'group', 'own', 'own', 'own', '2 days', 'MONEY_SENT_REVIEW'),
    ('same_key_three', 'A', 3, 0, 0, 0, 'USD', 'pending', 'group', 'none', 'own', 'own', '4 days', 'HOLD'),
    ('same_key_same_moment', 'A', 1, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', 'SURVIVOR'),
    ('same_key_same_moment', 'A', 2, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', 'MONEY_SENT_REVIEW'),
    ('same_key_failed_between', 'A', 1, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', 'SURVIVOR'),
    ('same_key_failed_between', 'A', 2, 0, 0, 0, 'EUR', 'failed', 'group', 'none', 'own', 'own', '1 day 2 hours', null),
    ('same_key_failed_between', 'A', 3, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '3 days', 'MONEY_SENT_REVIEW'),
    ('key_reused_amount', 'A', 1, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', 'SURVIVOR'),
    ('key_reused_amount', 'A', 2, 0, 0, 5, 'EUR', 'pending', 'group', 'none', 'own', 'own', '2 days', 'KEY_REUSED_DIFFERENT_PAYLOAD'),
    ('key_reused_payee', 'A', 1, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', 'SURVIVOR'),
    ('key_reused_payee', 'A', 2, 0, 1, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '1 minute', 'KEY_REUSED_DIFFERENT_PAYLOAD'),
    ('key_reused_currency', 'A', 1, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', 'SURVIVOR'),
    ('key_reused_currency', 'A', 2, 0, 0, 0, 'USD', 'paid', 'group', 'own', 'own', 'own', '1 minute', 'KEY_REUSED_DIFFERENT_PAYLOAD'),
    ('failed_then_paid', 'none', 1, 0, 0, 0, 'EUR', 'failed', 'group', 'none', 'own', 'own', '0', null),
    ('failed_then_paid', 'none', 2, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '1 minute', null),
    ('held_before', 'none', 1, 0, 0, 0, 'EUR', 'held', 'group', 'none', 'own', 'own', '0', null),
    ('held_before', 'none', 2, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '1 minute', null),
    ('two_merchants', 'none', 1, 0, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '0', null),
    ('two_merchants', 'none', 2, 1, 0, 0, 'EUR', 'paid', 'group', 'own', 'own', 'own', '1 minute', null),
    -- B: rows with no key are no duplicates of each other; they are counted apart.
    ('null_key', 'B', 1, 0, 0, 0, 'EUR', 'paid', 'none', 'own', 'own', 'own', '0', 'KEYLESS'),
    ('null_key', 'B', 2, 0, 1, 0, 'EUR', 'paid', 'none', 'own', 'own', 'own', '1 minute', 'KEYLESS'),
    ('null_key', 'B', 3, 0, 2, 0, 'USD', 'pending', 'none', 'none', 'own', 'own', '2 minutes', 'KEYLESS'),
    ('null_key', 'B', 4, 0, 3, 0, 'USD', 'failed', 'none', 'none', 'own', 'own', '3 minutes', null),
    ('blank_key', 'B', 1, 0, 0, 0, 'EUR', 'paid', 'blank', 'own', 'own', 'own', '0', 'KEYLESS'),
    ('blank_key', 'B', 2, 0, 1, 0, 'EUR', 'paid', 'blank', 'own', 'own', 'own', '1 minute', 'KEYLESS'),
    ('spaces_key', 'B', 1, 0, 0, 0, 'EUR', 'paid', 'spaces', 'own', 'own', 'own', '0', 'KEYLESS'),
    ('spaces_key', 'B', 2, 0, 1, 0, 'EUR', 'paid', 'spaces', 'own', 'own', 'own', '1 minute', 'KEYLESS'),
    ('tabs_key', 'B', 1, 0, 0, 0, 'EUR', 'paid', 'tabs', 'own', 'own', 'own', '0', 'KEYLESS'),
    ('tabs_key', 'B', 2, 0, 1, 0, 'EUR', 'paid', 'tabs', 'own', 'own', 'own', '1 minute', 'KEYLESS'),
    -- C: one payee, amount and currency within a window, under different keys.
    ('near', 'C', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '0', 'MEMBER'),
    ('near', 'C', 2, 0, 0, 0, 'EUR', 'pending', 'own', 'none', 'own', 'own', '5 minutes', 'MEMBER'),
    ('edge_inside', 'C', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '0', 'MEMBER'),
    ('edge_inside', 'C', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '10 minutes', 'MEMBER'),
    ('edge_outside', 'C', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '0', 'MEMBER'),
    ('edge_outside', 'C', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '10 minutes 0.000001 seconds', 'MEMBER'),
    ('day_edge_inside', 'C', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '0', 'MEMBER'),
    ('day_edge_inside', 'C', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '25 hours', 'MEMBER'),
    ('day_edge_outside', 'none', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '0', null),
    ('day_edge_outside', 'none', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '25 hours 0.000001 seconds', null),
    ('failed_near', 'none', 1, 0, 0, 0, 'EUR', 'failed', 'own', 'none', 'own', 'own', '0', null),
    ('failed_near', 'none', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '1 minute', null),
    ('two_currencies', 'none', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '0', null),
    ('two_currencies', 'none', 2, 0, 0, 0, 'USD', 'paid', 'own', 'own', 'own', 'own', '1 minute', null),
    -- Of these the ledger's description says that they rightly come again.
    ('allowed_repeat', 'none', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'settlement', 'own', '0', null),
    ('allowed_repeat', 'none', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'settlement', 'own', '1 minute', null),
    ('weekly_repeat', 'none', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '0', null),
    ('weekly_repeat', 'none', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', '7 days', null),
    -- D, E, G: one order, one provider's reference, one worker's task on two rows.
    ('same_order', 'D', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'group', 'own', '0', 'MEMBER'),
    ('same_order', 'D', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'group', 'own', '3 days', 'MEMBER'),
    ('same_order_after_failed', 'none', 1, 0, 0, 0, 'EUR', 'failed', 'own', 'none', 'group', 'own', '0', null),
    ('same_order_after_failed', 'none', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'group', 'own', '3 days', null),
    ('same_reference', 'E', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'group', 'own', 'own', '0', 'MEMBER'),
    ('same_reference', 'E', 2, 0, 1, 7, 'EUR', 'paid', 'own', 'group', 'own', 'own', '3 days', 'MEMBER'),
    ('same_reference_after_failed', 'none', 1, 0, 0, 0, 'EUR', 'failed', 'own', 'group', 'own', 'own', '0', null),
    ('same_reference_after_failed', 'none', 2, 0, 1, 7, 'EUR', 'paid', 'own', 'group', 'own', 'own', '3 days', null),
    ('same_task', 'G', 1, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'group', '0', 'MEMBER'),
    ('same_task', 'G', 2, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'group', '3 days', 'MEMBER');
-- A chain: each gap lies within ten minutes, the whole does not.
insert into member
select 'chained', 'C', m, 0, 0, 0, 'EUR', 'paid', 'own', 'own', 'own', 'own', (m - 1) * interval '9 minutes', 'MEMBER'
from generate_series(1, 5) m;

create temporary table planned as
select member.*, kind.n * 1000 + k as grp,
       current_setting('lab.rows')::bigint + row_number() over (order by k, kind.n, m) as id
from (select "case", row_number() over (order by "case") as n from (select distinct "case" from member) c) kind
join member using ("case"), generate_series(1, current_setting('lab.cases')::integer) k;
insert into payouts
select id, 1 + grp % 50 + merchant, 1000000000 + grp * 10 + payee, 500 + grp % 97 + extra, currency, status,
       case key when 'group' then 'planted-' || grp when 'own' then 'planted-' || grp || '-' || m
                when 'blank' then '' when 'spaces' then '   '
                when 'tabs' then E'\t\n' end,
       case ref when 'group' then 'planted-ref-' || grp when 'own' then 'planted-ref-' || grp || '-' || m end,
       case ord when 'group' then 'planted-order-' || grp when 'settlement' then 'settlement-' || grp || '-' || m else 'planted-order-' || grp || '-' || m end,
       case task when 'group' then 'planted-task-' || grp else 'planted-task-' || grp || '-' || m end,
       pg_temp.since() + interval '1 day' + pg_temp.pick('group.' || grp, 6000000) * interval '1 second' + at
from planned;
insert into planted ("case", rule, may, within, tbl, rows)
select "case", rule, case when "case" = 'same_key_same_moment' then array['C'] else '{}' end,
       case when rule <> 'C' then '{}' when "case" in ('edge_outside', 'day_edge_inside') then array['25 hours']
            else array['10 minutes', '25 hours'] end,
       'payouts', jsonb_agg(jsonb_build_object('id', id, 'verdict', verdict) order by m)
from planned group by "case", rule, grp;
