"""Walk the hash chain over the record and name the first row that is not what was once written.

A superuser can get around every grant and trigger, but not make the chain fit again without a new head: whoever keeps
an old head elsewhere (every report prints one) sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from persistence.record import Head, Record
from persistence.rows import GENESIS, Link, Stored, link_hash, trade_differs, trade_row

What = Literal["removed", "swapped", "edited", "inserted", "truncated"]
Row = tuple[Link, Stored | None]


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that is wrong. Of rows that are gone without a trace the next one is named."""

    what: What
    id: str
    seq: int
    link: int
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.id} (seq {self.seq}, link {self.link}), {self.detail}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a walk found: how far the chain holds, its head, and where it breaks."""

    links: int
    head: str
    broken: Broken | None

    @property
    def whole(self) -> bool:
        """Whether every row is what was written, and every expected head is still there."""
        return self.broken is None

    def as_json(self) -> dict[str, object]:
        """The report as JSON-able values."""
        broken = (
            None
            if self.broken is None
            else {
                "what": self.broken.what,
                "id": self.broken.id,
                "seq": self.broken.seq,
                "link": self.broken.link,
                "detail": self.broken.detail,
            }
        )
        return {"whole": self.whole, "links": self.links, "head": self.head, "broken": broken}


def verify(
    record: Record, *, expect_head: str | None = None, expected: Head | None = None, last: int | None = None
) -> AuditReport:
    """Walk the chain, or its ``last`` links, a few thousand rows in memory at a time.

    ``expect_head`` is a head that was published once: it must still be one of the links, or the record's end was cut
    off or its history written anew. ``expected`` says at which link as well.
    """
    walk = _Walk(record)
    if last is not None:
        walk.skip(max(record.head().links - last, 0))
    wanted = expect_head in (None, GENESIS)
    rows = record.chain(walk.links)
    broken = None
    for row, following in _with_next(rows):
        broken = walk.step(row, following)
        if broken is not None:
            break
        wanted = wanted or walk.last == expect_head
    # Runs the cursor's clean-up now and not when the garbage is collected.
    rows.close()
    if broken is None and last is None:
        broken = _outside(record, walk) or _trades(record)
    if broken is None and not wanted:
        detail = f"the head {str(expect_head)[:16]}… is no longer in the chain: its end was cut off or written anew"
        broken = Broken("truncated", walk.last_id, walk.last_seq, walk.links, detail)
    if broken is None and expected is not None:
        broken = missing_head(record, expected)
    return AuditReport(walk.links, walk.last, broken)


def missing_head(record: Record, expected: Head) -> Broken | None:
    """Whether a head that was confirmed once has gone; without a walk."""
    if expected.links == 0 or record.link_hash(expected.links) == expected.hash:
        return None
    head = record.head()
    detail = (
        f"the record once reached link {expected.links} ({expected.hash[:16]}…) and no longer holds it: Postgres is "
        f"older than what it had confirmed, or was written anew; it ends at link {head.links}"
    )
    return Broken("truncated", "", 0, expected.links, detail)


def _outside(record: Record, walk: _Walk) -> Broken | None:
    found = record.unchained()
    if found is None:
        return None
    return Broken("inserted", found[0], found[1], walk.links, "no link stands for this fact")


def _trades(record: Record) -> Broken | None:
    """The rows people query: each says what its close says, or is not what was recorded."""
    for fact, found in record.trades():
        name = f"phantom_trades {fact.id.removeprefix('closed:')}"
        if found is None:
            return Broken("removed", name, fact.seq, 0, "the row of this close is gone")
        wrong = trade_differs(trade_row(record.namespace, fact), found)
        if wrong:
            return Broken("edited", name, fact.seq, 0, f"{', '.join(wrong)}: not what the close says")
    extra = record.trade_of_nothing()
    return None if extra is None else Broken("inserted", f"phantom_trades {extra}", 0, 0, "no close stands behind it")


def _with_next(rows: Iterator[Row]) -> Iterator[tuple[Row, Row | None]]:
    current = next(rows, None)
    while current is not None:
        following = next(rows, None)
        yield current, following
        current = following


class _Walk:
    """Where a walk has come to."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._before = ""
        self.last = GENESIS
        self.last_id = ""
        self.last_seq = 0
        self.links = 0

    def skip(self, links: int) -> None:
        """Begin behind so many links instead of at the first."""
        self.last = self._record.link_hash(links) or GENESIS
        self.links = links

    def step(self, row: Row, following: Row | None) -> Broken | None:
        """Take one link; what is wrong with it, if anything."""
        link, fact = row
        what = self._wrong_place(link, following) or self._wrong_fact(link, fact)
        if what is not None:
            return what
        self._before, self.last = self.last, link.hash
        self.last_id, self.last_seq, self.links = link.id, link.seq, link.number
        return None

    def _wrong_place(self, link: Link, following: Row | None) -> Broken | None:
        if link.prev == self.last and link.number == self.links + 1:
            return None
        after = None if following is None else following[0]
        if link.prev == self._before and self.links > 0:
            return Broken("inserted", self.last_id, self.last_seq, self.links, "the chain goes on from the row before")
        if after is not None and link.prev == after.hash:
            return _broken("swapped", link, "it follows the row that comes after it")
        if after is not None and after.prev == self.last:
            return _broken("inserted", link, "the chain goes on without it")
        gone = link.number - self.links - 1
        before = f"{gone} links" if gone > 0 else "a link"
        return _broken("removed", link, f"{before} before it are gone")

    def _wrong_fact(self, link: Link, fact: Stored | None) -> Broken | None:
        if fact is None:
            return _broken("removed", link, "its fact is gone")
        if link_hash(link.prev, self._record.namespace, fact) == link.hash:
            return None
        if fact.seq != link.seq and self._record.links_of_seq(fact.seq) > 0:
            return _broken("swapped", link, f"it now carries {fact.seq}, the number of another fact")
        return _broken("edited", link, "its content is not what was recorded")


def _broken(what: What, link: Link, detail: str) -> Broken:
    return Broken(what, link.id, link.seq, link.number, detail)
