-- Bundles whole, under their content address: what a rebuilt Redis serves from. Bytes, not words: no query looks inside.
create table penumbra.bundles (
    namespace text not null,
    address text not null,
    data bytea not null check (octet_length(data) between 1 and 67108864),
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (namespace, address)
);
create trigger append_only before update or delete or truncate on penumbra.bundles
    for each statement execute function penumbra.refuse_change();
alter table penumbra.bundles enable always trigger append_only;
grant select, insert on penumbra.bundles to penumbra_writer;

create view penumbra.trainings as
select
    namespace,
    fields ->> 'strategy' as strategy,
    kind,
    (fields ->> 'attempt')::bigint as attempt,
    fields ->> 'address' as address,
    fields ->> 'reason' as reason,
    fields ->> 'detail' as detail,
    (fields ->> 'count')::bigint as trained_count,
    (fields ->> 'next')::bigint as next_at,
    to_timestamp(at_ms / 1000.0) as at,
    body
from penumbra.facts
where kind in ('training', 'published', 'untrained', 'pointed');
grant select on penumbra.trainings to penumbra_writer;
