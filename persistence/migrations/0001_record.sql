-- The record: every fact once, in its own words. Nothing in here is ever changed or deleted.
create table penumbra.facts (
    namespace text not null,
    id text not null,
    seq bigint not null check (seq > 0),
    kind text not null,
    -- Within years 1970 to 9999, so that no row can break a view that shows the moment as a time.
    at_ms bigint not null check (at_ms between 0 and 253402300799999),
    -- json keeps the text as it was written; jsonb would rewrite numbers and order.
    fields json not null,
    body json not null,
    sha256 text not null,
    recorded_at timestamptz not null default clock_timestamp(),
    position bigint generated always as identity,
    primary key (namespace, id),
    -- json accepts a NUL character that no query could read afterwards.
    constraint facts_are_readable check (fields::jsonb is not null and body::jsonb is not null)
);
create index facts_in_order on penumbra.facts (namespace, seq, position);
create index facts_by_kind on penumbra.facts (namespace, kind, at_ms);

-- The same id with another content: the first one stands, the second is kept here for people.
create table penumbra.fact_conflicts (
    namespace text not null,
    id text not null,
    kind text not null,
    seq bigint not null,
    at_ms bigint not null,
    fields json not null,
    body json not null,
    first_sha256 text not null,
    second_sha256 text not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (namespace, id, second_sha256)
);

-- One row for each closed position, prices in quote currency, *_percent in percent of entry, *_r and mfe, mae in R.
create table penumbra.phantom_trades (
    namespace text not null,
    id text not null,
    symbol text not null,
    side text not null check (side in ('long', 'short')),
    entry double precision not null,
    sl double precision not null,
    tp double precision not null,
    signal_time timestamptz not null,
    exit_time timestamptz not null,
    outcome text not null check (outcome in ('win', 'loss', 'timeout', 'no_fill', 'no_data')),
    pnl_percent double precision not null,
    exit_reason text not null,
    strategy_name text not null,
    was_executed boolean not null,
    ml_score double precision,
    realized_rr double precision not null,
    features_json jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    mfe double precision not null,
    mae double precision not null,
    tp1_hit boolean not null,
    be_moved boolean not null,
    runner_hit boolean not null,
    one_r_hit boolean not null,
    two_r_hit boolean not null,
    ambiguous boolean not null,
    gap boolean not null,
    late_mark boolean not null,
    unclaimed boolean not null,
    how text not null,
    mark_price double precision,
    mark_pnl_percent double precision,
    gross_r double precision not null,
    gross_pnl_percent double precision not null,
    entry_slip_r double precision not null,
    bundle text,
    threshold double precision,
    bucket text,
    primary key (namespace, id),
    -- Rows are written once, at close; the founding table has the column, so it is here.
    constraint never_updated check (updated_at = created_at)
);
create index phantom_trades_by_exit on penumbra.phantom_trades (namespace, strategy_name, exit_time);

create function penumbra.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the record is append-only: % of % is refused', lower(tg_op), tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

-- Grants stop the application; these stop the owner too, and "always" also a session that plays a replica.
create trigger append_only before update or delete or truncate on penumbra.facts
    for each statement execute function penumbra.refuse_change();
create trigger append_only before update or delete or truncate on penumbra.fact_conflicts
    for each statement execute function penumbra.refuse_change();
create trigger append_only before update or delete or truncate on penumbra.phantom_trades
    for each statement execute function penumbra.refuse_change();
create trigger append_only before update or delete or truncate on penumbra.migrations
    for each statement execute function penumbra.refuse_change();
alter table penumbra.facts enable always trigger append_only;
alter table penumbra.fact_conflicts enable always trigger append_only;
alter table penumbra.phantom_trades enable always trigger append_only;
alter table penumbra.migrations enable always trigger append_only;

grant usage on schema penumbra to penumbra_writer;
grant select, insert on penumbra.facts, penumbra.fact_conflicts, penumbra.phantom_trades to penumbra_writer;
grant select on penumbra.migrations to penumbra_writer;
