-- Every statement on the record, by name. Parameters are psycopg's.

-- name: become_writer
set role penumbra_writer

-- name: session
select set_config('statement_timeout', '60s', false), set_config('lock_timeout', '30s', false)

-- name: append_facts
insert into penumbra.facts (namespace, id, seq, kind, at_ms, fields, body, sha256)
select %(namespace)s, fact.id, fact.seq, fact.kind, fact.at_ms, fact.fields::json, fact.body::json, fact.sha256
from unnest(
    %(ids)s::text[], %(seqs)s::bigint[], %(kinds)s::text[], %(ats)s::bigint[],
    %(fields)s::text[], %(bodies)s::text[], %(digests)s::text[]
) with ordinality as fact (id, seq, kind, at_ms, fields, body, sha256, nth)
order by fact.nth
on conflict (namespace, id) do nothing
returning id, position, (extract(epoch from recorded_at) * 1000000)::bigint

-- name: lock_chain
select pg_advisory_xact_lock(hashtextextended('penumbra chain ' || %(namespace)s, 0))

-- name: chain_head
select link, hash from penumbra.audit_chain where namespace = %(namespace)s order by link desc limit 1

-- name: append_links
insert into penumbra.audit_chain (namespace, link, id, seq, prev, hash)
select %(namespace)s, next.link, next.id, next.seq, next.prev, next.hash
from unnest(
    %(links)s::bigint[], %(ids)s::text[], %(seqs)s::bigint[], %(prevs)s::text[], %(hashes)s::text[]
) as next (link, id, seq, prev, hash)

-- name: chain_in_order
select
    chain.link, chain.id, chain.seq, chain.prev, chain.hash, fact.seq, fact.kind, fact.at_ms,
    fact.fields::text, fact.body::text, fact.sha256, (extract(epoch from fact.recorded_at) * 1000000)::bigint,
    fact.position
from penumbra.audit_chain as chain
left join penumbra.facts as fact on fact.namespace = chain.namespace and fact.id = chain.id
where chain.namespace = %(namespace)s and chain.link > %(after)s
order by chain.link

-- name: unchained
with loose as (
    select id from penumbra.facts where namespace = %(namespace)s
    except
    select id from penumbra.audit_chain where namespace = %(namespace)s
)
select id, seq
from penumbra.facts
where namespace = %(namespace)s and id in (select id from loose)
order by position
limit 1

-- name: trades_of_closes
select fact.seq, fact.id, fact.kind, fact.at_ms, fact.fields::text, fact.body::text, trade.*
from penumbra.facts as fact
left join penumbra.phantom_trades as trade
    on trade.namespace = fact.namespace and trade.id = substr(fact.id, 8)
where fact.namespace = %(namespace)s and fact.kind = 'closed'
order by fact.position

-- name: trades_of_nothing
select id from penumbra.phantom_trades where namespace = %(namespace)s
except
select substr(id, 8) from penumbra.facts where namespace = %(namespace)s and kind = 'closed'
order by 1
limit 1

-- name: no_nested_loops
set local enable_nestloop = off

-- name: link_hash
select hash from penumbra.audit_chain where namespace = %(namespace)s and link = %(link)s

-- name: digests
select id, sha256 from penumbra.facts where namespace = %(namespace)s and id = any(%(ids)s::text[])

-- name: record_conflict
insert into penumbra.fact_conflicts (
    namespace, id, kind, seq, at_ms, fields, body, first_sha256, second_sha256
)
values (
    %(namespace)s, %(id)s, %(kind)s, %(seq)s, %(at_ms)s, %(fields)s::json, %(body)s::json, %(first)s, %(second)s
)
on conflict (namespace, id, second_sha256) do nothing

-- name: append_trade
insert into penumbra.phantom_trades (
    namespace, id, symbol, side, entry, sl, tp, signal_time, exit_time, outcome, pnl_percent, exit_reason,
    strategy_name, was_executed, ml_score, realized_rr, features_json, created_at, updated_at, mfe, mae,
    tp1_hit, be_moved, runner_hit, one_r_hit, two_r_hit, ambiguous, gap, late_mark, unclaimed, how,
    mark_price, mark_pnl_percent, gross_r, gross_pnl_percent, entry_slip_r, bundle, threshold, bucket
)
values (
    %(namespace)s, %(id)s, %(symbol)s, %(side)s, %(entry)s, %(sl)s, %(tp)s, %(signal_time)s, %(exit_time)s,
    %(outcome)s, %(pnl_percent)s, %(exit_reason)s, %(strategy_name)s, %(was_executed)s, %(ml_score)s,
    %(realized_rr)s, %(features_json)s::jsonb, %(created_at)s, %(created_at)s, %(mfe)s, %(mae)s,
    %(tp1_hit)s, %(be_moved)s, %(runner_hit)s, %(one_r_hit)s, %(two_r_hit)s, %(ambiguous)s, %(gap)s,
    %(late_mark)s, %(unclaimed)s, %(how)s, %(mark_price)s, %(mark_pnl_percent)s, %(gross_r)s,
    %(gross_pnl_percent)s, %(entry_slip_r)s, %(bundle)s, %(threshold)s, %(bucket)s
)

-- name: facts_in_order
select seq, id, kind, at_ms, fields::text, body::text, sha256
from penumbra.facts
where namespace = %(namespace)s
order by seq, position

-- name: one_snapshot
set transaction isolation level repeatable read read only

-- name: closes_until
select fields ->> 'strategy', fields ->> 'outcome', fields ->> 'learned' = '1', count(*)
from penumbra.facts
where namespace = %(namespace)s and kind = 'closed' and seq <= %(seq)s
group by 1, 2, 3

-- name: open_until
-- One pass and no join: for a namespace the statistics do not know yet a join can become a nested scan.
select min(fields ->> 'prefix') filter (where kind = 'opened'), substr(id, position(':' in id) + 1)
from penumbra.facts
where namespace = %(namespace)s and kind in ('opened', 'closed') and seq <= %(seq)s
group by 2
having not bool_or(kind = 'closed')

-- name: learning_until
select seq, id, kind, at_ms, fields::text, body::text
from penumbra.facts
where
    namespace = %(namespace)s and seq <= %(seq)s
    and kind in ('profile', 'retrain', 'training', 'published', 'untrained', 'pointed', 'table')
order by seq, position

-- name: strategies
select distinct fields ->> 'strategy' from penumbra.facts where namespace = %(namespace)s and kind = 'profile' order by 1

-- name: rebuilds
select count(*) from penumbra.facts
where namespace = %(namespace)s and kind = 'control' and fields ->> 'by' = 'rebuild'

-- name: known_ids
select id from penumbra.facts where namespace = %(namespace)s and id = any(%(ids)s::text[])

-- name: links_of_seq
select count(*) from penumbra.audit_chain where namespace = %(namespace)s and seq = %(seq)s

-- name: has_facts
select exists (select from penumbra.facts where namespace = %(namespace)s)

-- name: last_seq
select coalesce(max(seq), 0) from penumbra.facts where namespace = %(namespace)s

-- name: count_facts
select count(*) from penumbra.facts where namespace = %(namespace)s

-- name: count_conflicts
select count(*) from penumbra.fact_conflicts where namespace = %(namespace)s

-- name: try_lock
select pg_try_advisory_lock(hashtextextended(%(name)s, 0))

-- name: lock_migrations
select pg_advisory_lock(hashtextextended('penumbra migrations', 0))

-- name: unlock_migrations
select pg_advisory_unlock(hashtextextended('penumbra migrations', 0))

-- name: role_standing
select
    current_user,
    exists (select from pg_roles where rolname = %(role)s) as role_exists,
    case
        when exists (select from pg_roles where rolname = %(role)s) then pg_has_role(current_user, %(role)s, 'MEMBER')
        else false
    end as is_member

-- name: schema_exists
select to_regnamespace('penumbra') is not null, to_regclass('penumbra.migrations') is not null

-- name: create_schema
create schema penumbra

-- name: create_migrations
create table penumbra.migrations (
    name text primary key,
    sha256 text not null,
    applied_at timestamptz not null default clock_timestamp()
)

-- name: applied_migrations
select name, sha256 from penumbra.migrations order by name

-- name: note_migration
insert into penumbra.migrations (name, sha256) values (%(name)s, %(sha256)s)

-- name: put_bundle
insert into penumbra.bundles (namespace, address, data) values (%(namespace)s, %(address)s, %(data)s)
on conflict (namespace, address) do nothing

-- name: bundle
select data from penumbra.bundles where namespace = %(namespace)s and address = %(address)s

-- name: put_gate_report
insert into penumbra.gate_reports (namespace, profile, slot, body)
values (%(namespace)s, %(profile)s, %(slot)s, %(body)s::json)
on conflict (namespace, profile, slot) do nothing
returning slot

-- name: gate_report
select profile, slot, body::text, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
from penumbra.gate_reports
where namespace = %(namespace)s and profile = %(profile)s and slot = %(slot)s

-- name: gate_reports
select profile, slot, body::text, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
from penumbra.gate_reports
where namespace = %(namespace)s and profile = coalesce(%(profile)s::text, profile)
order by created_at desc, profile, slot desc

-- name: server_version
select current_setting('server_version')
