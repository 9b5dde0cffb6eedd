-- Facts as people ask for them.
create view penumbra.decisions as
select
    namespace,
    fields ->> 'sid' as signal_id,
    to_timestamp(at_ms / 1000.0) as decided_at,
    fields ->> 'strategy' as strategy_name,
    fields ->> 'symbol' as symbol,
    body ->> 'side' as side,
    fields ->> 'action' as action,
    string_to_array(nullif(fields ->> 'reasons', ''), ',') as reasons,
    nullif(fields ->> 'blocked', '') as blocked_by,
    (body ->> 'score')::double precision as score,
    body ->> 'score_source' as score_source,
    (body ->> 'win_probability')::double precision as win_probability,
    (body ->> 'threshold')::double precision as threshold,
    body ->> 'threshold_source' as threshold_source,
    body ->> 'bucket' as bucket,
    body ->> 'bundle' as bundle,
    body,
    seq
from penumbra.facts
where kind = 'decision';

create view penumbra.control_events as
select
    namespace,
    (fields ->> 'gen')::bigint as generation,
    fields ->> 'mode' as mode,
    fields ->> 'by' as actor,
    fields ->> 'reason' as reason,
    to_timestamp(at_ms / 1000.0) as changed_at,
    seq
from penumbra.facts
where kind = 'control';

create view penumbra.trade_corrections as
select
    namespace,
    fields ->> 'sid' as id,
    fields ->> 'report' as report,
    fields ->> 'strategy' as strategy_name,
    to_timestamp(at_ms / 1000.0) as corrected_at,
    body ->> 'outcome' as outcome,
    body ->> 'exit_reason' as exit_reason,
    (body ->> 'net_r')::double precision as realized_rr,
    (body ->> 'pnl_percent')::double precision as pnl_percent,
    fields ->> 'learned' = '1' as learned,
    body,
    seq
from penumbra.facts
where kind = 'corrected';

grant select on penumbra.decisions, penumbra.control_events, penumbra.trade_corrections to penumbra_writer;
