"""What the evidence method says about a threshold: a curve that borrows from other situations, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from qscore.breakeven import FEW
from qscore.estimate import Note, first_reached, seed_rule
from qscore.outcomes import BUCKETS, PLACE, TOP
from qscore.plain import LARGEST, PlainRow
from signals.bucket import Bucket
from signals.errors import Invalid
from signals.method import Method
from signals.profile import ThresholdMode
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]

ALONE = 0.0
"""The weight m at which no situation borrows from another: the seed rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledEstimate:
    """What one situation's records and those of all others say about its threshold.

    ``threshold`` and ``note`` follow from ``pooled``, counts, means and curve, ``cautious`` from its lower quantile.
    ``n`` records were counted, ``timeouts`` among them; ``mean_win_r`` and ``mean_loss_r`` are W and L in R.
    ``p_min`` in [0, 1] is the break-even in force, ``shrunk`` where the situation has too few records to tell its own.
    ``pooled``: whether the curve borrows; if not, the seed rule decides. ``cells`` are whole scores, ascending, between
    which the curve is linear and outside of which it is flat; ``probability`` and ``lower`` its values there, never
    falling, in [0, 1]: the mean and its 20 % quantile. ``effective_n`` is (Σw)²/Σw²; ``own_weight`` in [0, 1] the share
    of the situation's own records near the threshold; ``reached`` the probability, under the model, that the curve
    breaks even at the threshold. ``certified_from`` is the lowest tested score above which that is shown, none without
    a badge; ``interval`` the 90 % bootstrap interval of ``threshold`` and ``seed_interval`` that of the seed rule's on
    the same decisive records, none where none was drawn; ``held`` the
    threshold that stays in force because the new one is no clear gain, none where the new one is in force.

    Raises
    ------
    ValueError : if the fields contradict each other or leave their ranges
    """

    wins: int
    losses: int
    timeouts: int
    mean_win_r: float | None
    mean_loss_r: float | None
    p_min: float | None
    shrunk: bool
    pooled: bool
    cells: tuple[int, ...]
    probability: tuple[float, ...]
    lower: tuple[float, ...]
    effective_n: float
    own_weight: float
    reached: float | None = None
    certified_from: int | None = None
    interval: tuple[int, int] | None = None
    seed_interval: tuple[int, int] | None = None
    held: int | None = None
    threshold: int = field(init=False)
    cautious: int = field(init=False)
    note: Note = field(init=False)

    def __post_init__(self) -> None:
        if min(self.wins, self.losses, self.timeouts) < 0 or self.n == 0:
            raise ValueError("counts are not negative, and there is a record")
        if (self.mean_win_r is None) != (self.wins == 0) or (self.mean_loss_r is None) != (self.losses == 0):
            raise ValueError("a mean belongs to at least one record, and the other way round")
        if not all(abs(mean) <= LARGEST for mean in (self.mean_win_r, self.mean_loss_r) if mean is not None):
            raise ValueError("means must be finite")
        shares = [share for share in (self.p_min, self.reached) if share is not None]
        if not all(0.0 <= share <= 1.0 for share in (*shares, self.own_weight)):
            raise ValueError("p_min, own weight and the chance of reaching are shares")
        if self.pooled and self.p_min is None:
            raise ValueError("a curve that borrows has a break-even")
        if not self.pooled and ((self.p_min is None) != (self.wins == 0 or self.losses == 0) or self.shrunk):
            raise ValueError("what borrows nothing has its own break-even, from a win and a loss")
        if not 0.0 < self.effective_n <= self.n * (1.0 + 1e-9):
            raise ValueError("no more records are effective than there are")
        self._check_curve()
        both = [ends for ends in (self.interval, self.seed_interval) if ends is not None]
        places = [place for ends in both for place in ends]
        places += [place for place in (self.held, self.certified_from) if place is not None]
        if not all(0 <= place <= TOP for place in places) or any(low > high for low, high in both):
            raise ValueError("thresholds lie in 0..100, intervals from low to high")
        threshold, note = self._rule()
        cautious = threshold if self.p_min is None or note is not Note.REACHED else self._lower_rule(threshold)
        for name, value in (("threshold", threshold), ("note", note), ("cautious", cautious)):
            object.__setattr__(self, name, value)

    def _check_curve(self) -> None:
        cells = np.asarray(self.cells)
        if len(cells) == 0 or not (np.all(np.diff(cells) > 0) and 0 <= cells[0] <= cells[-1] <= TOP):
            raise ValueError("cells ascend in 0..100")
        for values in (self.probability, self.lower):
            curve = np.asarray(values, dtype=np.float64)
            if curve.shape != cells.shape or not (
                np.all(np.diff(curve) >= 0.0) and 0.0 <= curve[0] <= curve[-1] <= 1.0
            ):
                raise ValueError("curves never fall, stay in [0, 1] and have a value for each cell")

    @property
    def n(self) -> int:
        """How many of its own records it was learned from."""
        return self.wins + self.losses + self.timeouts

    @property
    def curve(self) -> FloatArray:
        """Win probability at each whole score, shape (101,), non-decreasing in [0, 1]."""
        return np.interp(np.arange(TOP + 1), self.cells, self.probability)

    @property
    def lower_curve(self) -> FloatArray:
        """Its 20 % lower quantile, shape (101,), non-decreasing in [0, 1]."""
        return np.interp(np.arange(TOP + 1), self.cells, self.lower)

    def _rule(self) -> tuple[int, Note]:
        if not self.pooled or self.p_min is None:
            return seed_rule(self.mean_win_r, self.mean_loss_r, self.p_min, self.curve)
        if self.mean_win_r is not None and self.wins >= FEW and self.mean_win_r <= 0.0:
            return TOP, Note.WINS_DO_NOT_PAY
        return first_reached(self.p_min, self.curve)

    def _lower_rule(self, threshold: int) -> int:
        return max(threshold, first_reached(self.p_min or 0.0, self.lower_curve)[0])

    def in_force(self, mode: ThresholdMode) -> int:
        """The threshold of a mode, unclamped, in 0..100.

        Parameters
        ----------
        mode : ThresholdMode
        """
        if self.held is not None:
            return self.held
        return self.cautious if mode is ThresholdMode.CAUTIOUS else self.threshold

    def closed_in(self, mode: ThresholdMode) -> bool:
        """Whether no score is worth taking in a mode.

        Parameters
        ----------
        mode : ThresholdMode
        """
        if self.note.nothing_passes:
            return True
        if mode is not ThresholdMode.CAUTIOUS or self.p_min is None or self.held is not None:
            return False
        return self.note is Note.REACHED and first_reached(self.p_min, self.lower_curve)[1] is not Note.REACHED

    def as_json(self) -> dict[str, Any]:
        """The estimate as plain JSON values, what follows from the rest included for the reader."""
        return {
            "n": self.n,
            "wins": self.wins,
            "losses": self.losses,
            "timeouts": self.timeouts,
            "mean_win_r": self.mean_win_r,
            "mean_loss_r": self.mean_loss_r,
            "p_min": self.p_min,
            "shrunk": self.shrunk,
            "pooled": self.pooled,
            "threshold": self.threshold,
            "cautious": self.cautious,
            "note": self.note.value,
            "effective_n": self.effective_n,
            "own_weight": self.own_weight,
            "reached": self.reached,
            "certified_from": self.certified_from,
            "interval": _listed(self.interval),
            "seed_interval": _listed(self.seed_interval),
            "held": self.held,
            "cells": list(self.cells),
            "probability": list(self.probability),
            "lower": list(self.lower),
        }

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read ``as_json`` back.

        Parameters
        ----------
        record : mapping, as parsed from JSON

        Raises
        ------
        Invalid : if a field is missing, of another type or out of range, or the threshold does not follow from the rest
        """
        row = PlainRow.of(record, "pooled")
        try:
            found = cls(
                wins=row.count("wins"),
                losses=row.count("losses"),
                timeouts=row.count("timeouts"),
                mean_win_r=row.optional_number("mean_win_r"),
                mean_loss_r=row.optional_number("mean_loss_r"),
                p_min=row.optional_number("p_min"),
                shrunk=row.flag("shrunk"),
                pooled=row.flag("pooled"),
                cells=tuple(row.counts("cells")),
                probability=tuple(row.numbers("probability")),
                lower=tuple(row.numbers("lower")),
                effective_n=row.number("effective_n"),
                own_weight=row.number("own_weight"),
                reached=row.optional_number("reached"),
                certified_from=row.optional_count("certified_from"),
                interval=_ends(row, "interval"),
                seed_interval=_ends(row, "seed_interval"),
                held=row.optional_count("held"),
            )
        except ValueError as error:
            raise Invalid(Reason.FIELD_RANGE, "pooled", str(error)) from error
        told = (row.count("n"), row.count("threshold"), row.count("cautious"), row.text("note"))
        if told != (found.n, found.threshold, found.cautious, found.note.value):
            follows = f"n {found.n}, threshold {found.threshold}, cautious {found.cautious}, {found.note.value}"
            raise Invalid(Reason.FIELD_RANGE, "threshold", f"the curve gives {follows}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledTable:
    """What the evidence method learned for one kind of score, on which labels and in which mode.

    ``m`` is how many pseudo-records of the common curve each situation was given; infinite: the curve alone. ``tried``
    are the weights it was chosen from, with their held-out gain per record (D, in units of W + L); empty where there
    was no choice. ``overall`` and ``buckets`` stand for the same records as in the seed rule's table.

    Raises
    ------
    ValueError : if m is negative, or a situation borrows with m = 0 or the other way round
    """

    labels: Method
    mode: ThresholdMode
    m: float
    overall: PooledEstimate
    buckets: Mapping[Bucket, PooledEstimate]
    tried: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not all(m >= ALONE for m in (self.m, *(m for m, _ in self.tried))):
            raise ValueError("a number of pseudo-records is not negative")
        if not all(math.isfinite(gain) for _, gain in self.tried):
            raise ValueError("gains must be finite")
        if any(found.pooled != (self.m > ALONE) for found in (self.overall, *self.buckets.values())):
            raise ValueError("situations borrow from each other exactly when m is above 0")
        if self.mode is ThresholdMode.SPEC and self.m != ALONE:
            raise ValueError("mode spec borrows nothing")
        ordered = {bucket: self.buckets[bucket] for bucket in BUCKETS if bucket in self.buckets}
        object.__setattr__(self, "buckets", MappingProxyType(ordered))

    def as_json(self) -> dict[str, Any]:
        """The table as plain JSON values; an infinite m is null."""
        return {
            "labels": self.labels.value,
            "mode": self.mode.value,
            "m": _finite(self.m),
            "tried": [[_finite(m), gain] for m, gain in self.tried],
            "overall": self.overall.as_json(),
            "buckets": {str(bucket): found.as_json() for bucket, found in self.buckets.items()},
        }

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read ``as_json`` back.

        Parameters
        ----------
        record : mapping, as parsed from JSON

        Raises
        ------
        Invalid : if a field is missing, of another type or out of range, a bucket is unknown, or parts contradict
        """
        row = PlainRow.of(record, "evidence")
        buckets = PlainRow.of(row.value("buckets"), "buckets").fields
        unknown = [name for name in buckets if name not in PLACE]
        if len(unknown) > 0:
            raise Invalid(Reason.FIELD_RANGE, "buckets", f"{unknown[0]!r} is no market situation")
        try:
            return cls(
                labels=Method(row.text("labels")),
                mode=ThresholdMode(row.text("mode")),
                m=_weight(row, "m"),
                overall=PooledEstimate.from_json(row.value("overall")),
                buckets={BUCKETS[PLACE[name]]: PooledEstimate.from_json(found) for name, found in buckets.items()},
                tried=tuple(_tried(item) for item in row.items("tried")),
            )
        except ValueError as error:
            raise Invalid(Reason.FIELD_RANGE, "evidence", str(error)) from error


def _listed(interval: tuple[int, int] | None) -> list[int] | None:
    return None if interval is None else list(interval)


def _ends(row: PlainRow, name: str) -> tuple[int, int] | None:
    if row.value(name) is None:
        return None
    ends = row.counts(name)
    if len(ends) != 2:
        raise Invalid(Reason.FIELD_RANGE, name, "expected a low and a high end")
    return ends[0], ends[1]


def _finite(m: float) -> float | None:
    return m if math.isfinite(m) else None


def _weight(row: PlainRow, name: str) -> float:
    m = row.optional_number(name)
    return math.inf if m is None else m


def _tried(item: object) -> tuple[float, float]:
    if not isinstance(item, list) or len(item) != 2:
        raise Invalid(Reason.FIELD_TYPE, "tried", "expected pairs of a weight and its gain")
    row = PlainRow({"m": item[0], "gain": item[1]})
    return _weight(row, "m"), row.number("gain")
