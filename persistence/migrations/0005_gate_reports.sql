-- One gate report for each profile and slot (a UTC day or an ISO week): what was said then is never said otherwise.
create table penumbra.gate_reports (
    namespace text not null,
    profile text not null,
    slot text not null check (slot ~ '^[0-9]{4}-([0-9]{2}-[0-9]{2}|W[0-9]{2})$'),
    -- json keeps the text as it was written.
    body json not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (namespace, profile, slot),
    constraint gate_reports_are_readable check (body::jsonb is not null)
);
create trigger append_only before update or delete or truncate on penumbra.gate_reports
    for each statement execute function penumbra.refuse_change();
alter table penumbra.gate_reports enable always trigger append_only;
grant select, insert on penumbra.gate_reports to penumbra_writer;
