insert into fault (kind, tbl, name, instead, object, ddl, note) values
    ('missing', 'teams_team', 'teams_pts_name_idx', true, null, '{}', null),
    ('descending', 'teams_team', 'teams_game_pts_idx', true, 'teams_game_pts_idx',
        array['create index teams_game_pts_idx on teams_team (game, total_points)'], 'ascending'),
    ('drifted', 'teams_team', 'teams_created_idx', true, 'teams_recent_idx',
        array['create index teams_recent_idx on teams_team (created_at desc)'], 'the definition is there under another name'),
    ('column_order', 'teams_teammembership', 'teams_member_team_idx', true, 'teams_member_team_idx',
        array['create index teams_member_team_idx on teams_teammembership (status, team_id)'], null),
    ('prefix', 'teams_teammembership', 'teams_member_prof_idx', false, 'teams_teammembership_profile_id_idx',
        array['create index teams_teammembership_profile_id_idx on teams_teammembership (profile_id)'], 'covered by the expected one'),
    ('duplicate', 'teams_teaminvite', 'teams_invite_exp_idx', false, 'teams_invite_status_expires_idx',
        array['create index teams_invite_status_expires_idx on teams_teaminvite (status, expires_at)'], null);

-- The guard that somebody tried to build while the duplicates were in: invalid, enforcing nothing.
-- To repair it by REINDEX CONCURRENTLY leaves a second one.
insert into expected (name, tbl, keys, pred, uniq) values
    ('economy_payout_dedup_uq', 'economy_cointransaction', array[$$(metadata ->> 'dedup_key')$$],
     $$transaction_type = 'tournament_payout' AND (metadata ->> 'dedup_key') <> ''$$, true);
insert into fault (kind, tbl, name, instead, object, failing, note) values
    ('invalid', 'economy_cointransaction', 'economy_payout_dedup_uq', true, 'economy_payout_dedup_uq',
        array[$$create unique index concurrently economy_payout_dedup_uq on economy_cointransaction ((metadata ->> 'dedup_key'))
              where transaction_type = 'tournament_payout' and (metadata ->> 'dedup_key') <> ''$$], 'a build that failed'),
    ('ccnew', 'economy_cointransaction', 'economy_payout_dedup_uq', false, 'economy_payout_dedup_uq_ccnew',
        array['reindex index concurrently economy_payout_dedup_uq'], 'a repair that failed');

-- Payouts of the ledger: it knows no status and no currency.
create temporary table member ("case" text, rule text, m integer, kind text, payee integer, extra numeric, key text, at interval, verdict text);
insert into member values
    ('same_key', 'A', 1, 'tournament_payout', 0, 0, 'group', '0', 'SURVIVOR'),
    ('same_key', 'A', 2, 'tournament_payout', 0, 0, 'group', '2 days', 'MONEY_SENT_REVIEW'),
    ('same_key_three', 'A', 1, 'tournament_payout', 0, 0, 'group', '0', 'SURVIVOR'),
    ('same_key_three', 'A', 2, 'tournament_payout', 0, 0, 'group', '2 days', 'MONEY_SENT_REVIEW'),
    ('same_key_three', 'A', 3, 'tournament_payout', 0, 0, 'group', '4 days', 'MONEY_SENT_REVIEW'),
    ('key_reused_amount', 'A', 1, 'tournament_payout', 0, 0, 'group', '0', 'SURVIVOR'),
    ('key_reused_amount', 'A', 2, 'tournament_payout', 0, 9, 'group', '1 minute', 'KEY_REUSED_DIFFERENT_PAYLOAD'),
    ('key_reused_user', 'A', 1, 'tournament_payout', 0, 0, 'group', '0', 'SURVIVOR'),
    ('key_reused_user', 'A', 2, 'tournament_payout', 1, 0, 'group', '1 minute', 'KEY_REUSED_DIFFERENT_PAYLOAD'),
    ('other_type', 'none', 1, 'tournament_payout', 0, 0, 'group', '0', null),
    ('other_type', 'none', 2, 'refund', 0, 0, 'group', '2 days', null),
    ('null_key', 'B', 1, 'tournament_payout', 0, 0, 'none', '0', 'KEYLESS'),
    ('null_key', 'B', 2, 'tournament_payout', 1, 0, 'none', '1 minute', 'KEYLESS'),
    ('null_key', 'B', 3, 'tournament_payout', 2, 0, 'none', '2 minutes', 'KEYLESS'),
    ('blank_key', 'B', 1, 'tournament_payout', 0, 0, 'blank', '0', 'KEYLESS'),
    ('blank_key', 'B', 2, 'tournament_payout', 1, 0, 'blank', '1 minute', 'KEYLESS'),
    ('near', 'C', 1, 'tournament_payout', 0, 0, 'own', '0', 'MEMBER'),
    ('near', 'C', 2, 'tournament_payout', 0, 0, 'own', '5 minutes', 'MEMBER'),
    ('edge_outside', 'C', 1, 'tournament_payout', 0, 0, 'own', '0', 'MEMBER'),
    ('edge_outside', 'C', 2, 'tournament_payout', 0, 0, 'own', '10 minutes 0.000001 seconds', 'MEMBER'),
    ('weekly_repeat', 'none', 1, 'tournament_payout', 0, 0, 'own', '0', null),
    ('weekly_repeat', 'none', 2, 'tournament_payout', 0, 0, 'own', '7 days', null);
create temporary table planned as
select member.*, kind.n * 1000 + k as grp,
       current_setting('lab.rows')::bigint + row_number() over (order by k, kind.n, m) as id
from (select "case", row_number() over (order by "case") as n from (select distinct "case" from member) c) kind
join member using ("case"), generate_series(1, current_setting('lab.cases')::integer) k;
insert into economy_cointransaction (id, user_id, tournament_id, transaction_type, amount, metadata, idempotency_key, created_at)
select id, 1000000 + grp * 10 + payee, 1 + grp % 40, kind, 500 + grp % 97 + extra,
       case key when 'none' then '{}' else jsonb_build_object('dedup_key', case key when 'blank' then ''
           when 'group' then 'planted:' || grp else 'planted:' || grp || ':' || m end) end,
       'coin-' || id, pg_temp.since() + interval '1 day' + pg_temp.pick('coin.' || grp, 6000000) * interval '1 second' + at
from planned;
insert into planted ("case", rule, within, tbl, rows)
select "case", rule, case when rule <> 'C' then '{}' when "case" = 'edge_outside' then array['25 hours']
           else array['10 minutes', '25 hours'] end,
       'economy_cointransaction', jsonb_agg(jsonb_build_object('id', id, 'verdict', verdict) order by m)
from planned group by "case", rule, grp;
