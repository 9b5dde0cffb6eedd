"""What may not teach a model: whatever was not known at the decision, and whatever gives the outcome away.

Three questions are put to every fit before anything is learned. Was each column known in time: it is in the schema,
it is not one of the exit, no value is stamped later than the decision? Does each row still hold what the decision
saw? And is there a column that alone tells wins from losses, as no honest one ever does?

Source: STATISTICS 8.1, 8.5 to 8.7 and 11 (item 1); López de Prado (2018), Advances in Financial Machine Learning,
chapter 7.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from learning.example import Example
from learning.promote import Decline, Declined
from scorer.rebuilt import Rebuilt, compared
from scorer.schema import EXIT_NAMES, Schema, Vector
from signals.errors import Permanent
from signals.leak import STAMP_SUFFIX, Leak, late
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SUSPECT_ROWS = 20
"""With fewer rows a column may tell them apart by luck: of 34 columns and 10 rows one does in every thirty runs."""
NEARLY = 0.99
"""AUC of a single column, or its rank correlation with the result, from which it is the outcome in other words."""
LUCK = 1e-4
"""A column whose every value goes with one outcome is suspect when luck does that less often than this."""
NEWEST = 100
"""Rows that are looked at by themselves as well: a leak may be as young as the engine's last release."""
LISTED = 3


class Leaked(Permanent):
    """Something that was not known at the decision would have been learned from: nothing is trained."""

    def __init__(self, leaks: Sequence[Leak]) -> None:
        super().__init__("; ".join(leak.sentence for leak in leaks))
        self.leaks = tuple(leaks)

    @property
    def declined(self) -> Declined:
        """The same as the end of an attempt: what is certain comes before what is suspected."""
        codes = {leak.reason for leak in self.leaks}
        if codes == {Reason.LEAK_SUSPECT}:
            return Declined(Decline.LEAK_SUSPECT, str(self))
        return Declined(Decline.REBUILT if codes == {Reason.LEAK_REBUILT} else Decline.LEAK, str(self))


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What a model would be shown, column by column, each of length n_rows.

    ``numbers`` hold NaN where missing and ``words`` ``None``; both by the feature's name.
    """

    numbers: Mapping[str, FloatArray]
    words: Mapping[str, Sequence[str | None]]

    @classmethod
    def of(cls, schema: Schema, vectors: Sequence[Vector]) -> Columns:
        """The columns of vectors that a schema has read.

        Parameters
        ----------
        schema : Schema
        vectors : sequence of length n_rows >= 1
        """
        values = np.stack([vector.values for vector in vectors])
        return cls(
            {feature.name: values[:, place] for place, feature in enumerate(schema.numbers)},
            {
                feature.name: [vector.categories[place] for vector in vectors]
                for place, feature in enumerate(schema.categories)
            },
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every column."""
        return (*self.numbers, *self.words)


def guard(examples: Sequence[Example], vectors: Sequence[Vector], schema: Schema) -> None:
    """Let a training set pass, or say what is wrong with it.

    Parameters
    ----------
    examples : decisive outcomes in the order of their exits, length n_rows
    vectors : what the schema read of their features, in the same order
    schema : what the model reads

    Raises
    ------
    Leaked : with one Leak for each feature that was not known at the decision or gives the outcome away
    """
    refuse(leaks_of(examples, vectors, schema))


def leaks_of(examples: Sequence[Example], vectors: Sequence[Vector], schema: Schema) -> tuple[Leak, ...]:
    """Everything that is wrong with a training set: what is certain first, then what is suspected.

    Parameters
    ----------
    examples, vectors, schema : as in ``guard``, in the order of exits: columns are looked at over all rows, and over
        the newest 100 by themselves

    Returns
    -------
    tuple of Leak
    """
    if len(examples) == 0:
        return ()
    columns = Columns.of(schema, vectors)
    suspects = {leak.feature: leak for leak in _telling(examples, columns)}
    if len(examples) > NEWEST:
        for leak in _telling(examples[-NEWEST:], Columns.of(schema, vectors[-NEWEST:])):
            suspects.setdefault(leak.feature, replace(leak, detail=f"among the newest, {leak.detail}"))
    return (
        *unknown_columns(columns.names, schema),
        *late_values(examples, schema),
        *changed_vectors(examples, vectors, schema),
        *suspects.values(),
    )


def _telling(examples: Sequence[Example], columns: Columns) -> tuple[Leak, ...]:
    won = np.array([example.won for example in examples], dtype=np.bool_)
    return telltale_columns(columns, won, np.array([example.net_r for example in examples], dtype=np.float64))


def refuse(leaks: Iterable[Leak]) -> None:
    """Raise what was found, if anything.

    Parameters
    ----------
    leaks : iterable of Leak

    Raises
    ------
    Leaked : if there is one
    """
    found = tuple(leaks)
    if found:
        raise Leaked(found)


def unknown_columns(names: Iterable[str], schema: Schema) -> tuple[Leak, ...]:
    """Columns that a model of this schema may not be shown.

    Parameters
    ----------
    names : the features that the columns of a design come from
    schema : what the model reads

    Returns
    -------
    tuple of Leak: columns of the exit, and columns that the schema does not name
    """
    found = []
    for name in dict.fromkeys(names):
        if name in EXIT_NAMES:
            found.append(Leak(feature=name, reason=Reason.LEAK_EXIT_ONLY, known="at the exit"))
        elif name not in schema.names:
            known = f"nobody says when: schema {schema.name!r} does not name it"
            found.append(Leak(feature=name, reason=Reason.LEAK_UNKNOWN_COLUMN, known=known))
    return tuple(found)


def late_values(examples: Iterable[Example], schema: Schema) -> tuple[Leak, ...]:
    """Features whose own stamp lies after the decision they are said to have been part of.

    A feature ``x`` is stamped by ``x_known_ms`` beside it, UTC epoch milliseconds. Signals with a late stamp are
    refused when they come; here are the ones that came into a record by another way.

    Parameters
    ----------
    examples : outcomes with their features as stored
    schema : what the model reads; stamps of other features are of no concern

    Returns
    -------
    tuple of Leak, one for each feature: its latest value, and how many rows have one
    """
    stamps = tuple((name, name + STAMP_SUFFIX) for name in schema.names)
    worst: dict[str, tuple[float, Leak]] = {}
    rows: defaultdict[str, int] = defaultdict(int)
    for example in examples:
        for name, stamp in stamps:
            known_ms = _stamped(example.features.get(stamp))
            leak = None if known_ms is None else late(name, known_ms, example.ts)
            if known_ms is None or leak is None:
                continue
            rows[name] += 1
            lateness = known_ms - example.ts
            if name not in worst or lateness > worst[name][0]:
                worst[name] = (lateness, leak)
    return tuple(
        Leak(
            feature=name,
            reason=leak.reason,
            known=leak.known,
            needed=leak.needed,
            detail=f"{leak.detail}; {rows[name]} {'row' if rows[name] == 1 else 'rows'}",
        )
        for name, (_, leak) in worst.items()
    )


def _stamped(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def changed_vectors(examples: Sequence[Example], vectors: Sequence[Vector], schema: Schema) -> tuple[Leak, ...]:
    """Rows whose features are no longer what the decision saw, by the hash it recorded.

    Parameters
    ----------
    examples, vectors : of the same length and order
    schema : Schema that read the vectors

    Returns
    -------
    tuple of Leak, empty or one that counts and names the rows; rows without a hash of this schema prove nothing
    """
    pairs = zip(examples, vectors, strict=True)
    verdicts = [(example.id, compared(schema, vector, example.vector_hash)) for example, vector in pairs]
    changed = [name for name, verdict in verdicts if verdict is Rebuilt.DIFFERENT]
    if not changed:
        return ()
    known = sum(verdict is not Rebuilt.UNKNOWN for _, verdict in verdicts)
    shown = ", ".join(changed[:LISTED]) + (" …" if len(changed) > LISTED else "")
    detail = f"{len(changed)} of {known} rows hold other features than their decisions saw: {shown}"
    return (Leak(feature="vector", reason=Reason.LEAK_REBUILT, known="only afterwards", detail=detail),)


def telltale_columns(columns: Columns, won: BoolArray, net_r: FloatArray) -> tuple[Leak, ...]:
    """Columns that alone give the outcome away, each looked at by itself.

    Suspect is, with 20 rows or more of both outcomes: a number whose AUC is at least 0.99 either way round (perfect
    separation is 1), or whose rank correlation with the result is at least 0.99 in magnitude; a column whose
    being missing tells as much; a column of few values each of which goes with one outcome only, when luck would do
    that less than once in 10,000 times. A column made of the outcome with more noise than that passes: no test of
    one column can tell it from skill.

    Parameters
    ----------
    columns : Columns, n_rows long
    won : ndarray of bool, shape (n_rows,)
    net_r : ndarray of shape (n_rows,), in R

    Returns
    -------
    tuple of Leak, at most one for each column
    """
    found = []
    for name, values in columns.numbers.items():
        told = _number_tells(values, won, net_r) or _absence_tells(np.isnan(values), won)
        if told:
            found.append(_suspect(name, told))
    for name, words in columns.words.items():
        levels = np.unique([word or "" for word in words], return_inverse=True)[1]
        told = _values_tell(levels, won)
        if told:
            found.append(_suspect(name, told))
    return tuple(found)


def _suspect(name: str, told: str) -> Leak:
    return Leak(feature=name, reason=Reason.LEAK_SUSPECT, known="with the outcome, by all appearances", detail=told)


def auc_alone(values: FloatArray, won: BoolArray) -> float | None:
    """How well one column ranks wins above losses all by itself; 0.5 says nothing.

    Parameters
    ----------
    values : ndarray of shape (n_rows,), NaN where missing
    won : ndarray of bool, shape (n_rows,)

    Returns
    -------
    float in [0, 1], or none with fewer than 20 values or one outcome only
    """
    known = np.isfinite(values)
    rows, wins = int(known.sum()), int(won[known].sum())
    if rows < SUSPECT_ROWS or not 0 < wins < rows:
        return None
    ranks = rankdata(values[known])
    return (float(ranks[won[known]].sum()) - wins * (wins + 1) / 2) / (wins * (rows - wins))


def _number_tells(values: FloatArray, won: BoolArray, net_r: FloatArray) -> str:
    auc = auc_alone(values, won)
    if auc is None:
        return ""
    known = np.isfinite(values)
    rows, separation = int(known.sum()), max(auc, 1.0 - auc)
    if separation >= 1.0:
        return f"it alone separates all {rows} outcomes"
    if separation >= NEARLY:
        return f"AUC {separation:.4f} of it alone over {rows} rows"
    agreement = _correlation(rankdata(values[known]), rankdata(net_r[known]))
    if abs(agreement) >= NEARLY:
        return f"rank correlation {agreement:+.4f} with the result over {rows} rows"
    return _values_tell(np.unique(values[known], return_inverse=True)[1], won[known])


def _absence_tells(missing: BoolArray, won: BoolArray) -> str:
    """Whether the rows without a value are those with one of the outcomes."""
    mixed = 0 < int(missing.sum()) < len(missing)
    if len(won) < SUSPECT_ROWS or not mixed:
        return ""
    same = bool((missing == won).all() or (missing == ~won).all())
    return f"its absence alone separates all {len(won)} outcomes" if same else ""


def _values_tell(codes: npt.NDArray[np.int64], won: BoolArray) -> str:
    """Whether every value goes with one outcome only, and more often than luck would have it."""
    rows, wins = len(won), int(won.sum())
    if rows < SUSPECT_ROWS or not 0 < wins < rows:
        return ""
    counts = np.bincount(codes)
    won_counts = np.bincount(codes, weights=won)
    if not bool(((won_counts == 0) | (won_counts == counts)).all()):
        return ""
    # Of all ways to spread the wins over the rows, no more than 2^values leave every value pure.
    log_ways = math.lgamma(rows + 1) - math.lgamma(wins + 1) - math.lgamma(rows - wins + 1)
    values = int((counts > 0).sum())
    if values * math.log(2.0) - log_ways > math.log(LUCK):
        return ""
    return f"each of its {values} values goes with one outcome only, over {rows} rows"


def _correlation(first: FloatArray, second: FloatArray) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / scale if scale > 0.0 else 0.0
