-- A hash chain over the facts in the order they were recorded: whoever changes, swaps, adds or removes one breaks it.
-- Sequence numbers are no order for it: they have gaps, and after a roll-back of Redis they come twice.
create table penumbra.audit_chain (
    namespace text not null,
    link bigint not null check (link > 0),
    id text not null,
    seq bigint not null,
    prev text not null,
    hash text not null,
    primary key (namespace, link),
    constraint audit_chain_does_not_fork unique (namespace, prev),
    constraint audit_chain_has_a_fact_once unique (namespace, id)
);

-- Facts recorded before there was a chain. Afterwards links are made by the application alone (persistence/rows.py says
-- how, and a test holds both to the same hashes), so that the check does not ask the database it is checking.
lock table penumbra.facts in share row exclusive mode;
do $$
declare
    fact record;
    place text;
    last_link bigint;
    last_hash text;
    word text;
    content text;
begin
    for fact in
        select *, (extract(epoch from recorded_at) * 1000000)::bigint as recorded_us
        from penumbra.facts order by namespace, position
    loop
        if place is distinct from fact.namespace then
            place := fact.namespace;
            last_link := 0;
            last_hash := repeat('0', 64);
        end if;
        content := last_hash;
        foreach word in array array[
            fact.namespace, fact.id, fact.seq::text, fact.kind, fact.at_ms::text, fact.fields::text, fact.body::text,
            fact.sha256, fact.recorded_us::text, fact.position::text
        ] loop
            content := content || octet_length(convert_to(word, 'UTF8')) || ':' || word || ',';
        end loop;
        last_link := last_link + 1;
        insert into penumbra.audit_chain (namespace, link, id, seq, prev, hash)
        values (
            place, last_link, fact.id, fact.seq, last_hash, encode(sha256(convert_to(content, 'UTF8')), 'hex')
        )
        returning hash into last_hash;
    end loop;
end
$$;

create trigger append_only before update or delete or truncate on penumbra.audit_chain
    for each statement execute function penumbra.refuse_change();
alter table penumbra.audit_chain enable always trigger append_only;
grant select, insert on penumbra.audit_chain to penumbra_writer;
