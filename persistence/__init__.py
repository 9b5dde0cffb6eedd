"""Redis holds the live state, Postgres the record: the only room that speaks to either."""
