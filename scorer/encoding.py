"""From the features of a signal to one row of a design matrix, the same way in training and in service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from scorer.schema import Schema, Vector
from signals.signal import FeatureValue

FloatArray = npt.NDArray[np.float64]

MAX_LEVELS = 64
"""Levels a category may bring into a design; the rarest beyond that are read as missing."""
MISSING_RANK = -1.0
"""The place of a missing value of an ordered category: a level of its own, below all others."""


def model_features(
    features: Mapping[str, FeatureValue], *, bucket: str | None, symbol: str
) -> Mapping[str, FeatureValue]:
    """Complete the stored features by what the decision knew besides: session, volatility regime, symbol cluster.

    Parameters
    ----------
    features : mapping of names to values, as stored with the decision; a value that is there wins
    bucket : ``session|volatility`` of the decision, or none
    symbol : the default cluster of a symbol is the symbol itself

    Returns
    -------
    A new mapping; the categories that neither source knows stay away.
    """
    session, _, volatility = (bucket or "").partition("|")
    known: dict[str, FeatureValue] = {"session": session, "volatility_regime": volatility, "symbol_cluster": symbol}
    sent = {name: value for name, value in features.items() if value is not None}
    return {name: value for name, value in known.items() if value != ""} | sent


@dataclass(frozen=True, slots=True)
class Category:
    """One categorical feature in a design: a rank when ordered, else one column a level and one for missing."""

    name: str
    levels: tuple[str, ...]
    ordered: bool

    @property
    def width(self) -> int:
        """Columns it takes."""
        return 1 if self.ordered else len(self.levels) + 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns."""
        return (self.name,) if self.ordered else (*(f"{self.name}={level}" for level in self.levels), f"{self.name}=")

    def write(self, word: str | None, out: FloatArray) -> None:
        """Fill its columns, shape (width,). A level that training never saw is read as missing."""
        known = word is not None and word in self.levels
        if self.ordered:
            out[0] = self.levels.index(word) if known and word is not None else MISSING_RANK
            return
        out[:] = 0.0
        out[self.levels.index(word) if known and word is not None else -1] = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """How one model reads a ``Vector``. Learned from its training rows only.

    ``names`` are all features of the schema in order. ``kept`` are the places in ``Vector.values`` of the numbers
    that training saw at least once, shape (n_kept,), and ``medians`` what a missing one is replaced by, in the
    feature's own unit. Numbers come first in a row, categories after them.
    """

    names: tuple[str, ...]
    n_numbers: int
    number_names: tuple[str, ...]
    kept: npt.NDArray[np.int32]
    medians: FloatArray
    categories: tuple[Category, ...]
    allowed_missing: int
    width: int = field(init=False)

    def __post_init__(self) -> None:
        if not (len(self.kept) == len(self.medians) == len(self.number_names) <= self.n_numbers):
            raise ValueError("one name and one median for each kept number")
        if self.n_numbers + len(self.categories) != len(self.names) or len(set(self.names)) != len(self.names):
            raise ValueError("the schema's names must be its numbers and its categories, each once")
        inside = np.all((self.kept >= 0) & (self.kept < self.n_numbers)) and np.all(np.diff(self.kept) > 0)
        if not (inside and np.all(np.isfinite(self.medians))):
            raise ValueError("kept columns must ascend inside the vector and have finite medians")
        if {*self.number_names, *(category.name for category in self.categories)} - {*self.names}:
            raise ValueError("a column that the schema does not name")
        if not 1 <= self.allowed_missing <= len(self.names):
            raise ValueError("allowed_missing")
        object.__setattr__(self, "width", len(self.kept) + sum(category.width for category in self.categories))

    @classmethod
    def fit(cls, schema: Schema, vectors: Sequence[Vector]) -> Self:
        """Learn medians and levels from training rows.

        Parameters
        ----------
        schema : Schema that read the vectors
        vectors : sequence of length n_rows >= 1

        Raises
        ------
        ValueError : without rows

        Source: SPEC 5 (missing values, categories).
        """
        if len(vectors) == 0:
            raise ValueError("an encoding is learned from at least one row")
        values = np.stack([vector.values for vector in vectors])
        kept = np.flatnonzero(np.isfinite(values).any(axis=0))
        # nanmedian of a column with one number or more never warns; empty columns are gone by now.
        medians = np.nanmedian(values[:, kept], axis=0) if len(kept) > 0 else np.empty(0)
        categories = []
        for place, feature in enumerate(schema.categories):
            words = (vector.categories[place] for vector in vectors)
            levels = feature.levels if feature.ordered else _levels(words)
            categories.append(Category(feature.name, levels, feature.ordered))
        return cls(
            names=schema.names,
            n_numbers=len(schema.numbers),
            number_names=tuple(schema.numbers[place].name for place in kept.tolist()),
            kept=kept.astype(np.int32),
            medians=np.asarray(medians, dtype=np.float64),
            categories=tuple(categories),
            allowed_missing=schema.allowed_missing,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the design's columns, in order."""
        return (*self.number_names, *(name for category in self.categories for name in category.columns))

    @property
    def sources(self) -> tuple[str, ...]:
        """For each column of the design the feature of the schema it comes from."""
        words = (name for category in self.categories for name in (category.name,) * category.width)
        return (*self.number_names, *words)

    def readable(self, vector: Vector) -> bool:
        """Whether a model may be asked about this vector: no more is missing than a tenth of the schema, at least one.

        Parameters
        ----------
        vector : Vector read by the schema this encoding was learned with
        """
        return len(vector.missing) <= self.allowed_missing

    def row(self, vector: Vector) -> FloatArray:
        """Encode one vector.

        Parameters
        ----------
        vector : Vector read by the schema this encoding was learned with

        Returns
        -------
        ndarray of shape (width,), finite

        Raises
        ------
        ValueError : if the vector has another shape than the schema's
        """
        if vector.values.shape != (self.n_numbers,) or len(vector.categories) != len(self.categories):
            raise ValueError(f"a vector of {vector.values.shape} numbers and {len(vector.categories)} categories")
        out = np.empty(self.width)
        at = len(self.kept)
        seen = vector.values[self.kept]
        out[:at] = np.where(np.isfinite(seen), seen, self.medians)
        for category, word in zip(self.categories, vector.categories, strict=True):
            category.write(word, out[at : at + category.width])
            at += category.width
        return out

    def matrix(self, vectors: Sequence[Vector]) -> FloatArray:
        """Encode many vectors: shape (n_rows, width). Row by row the same as ``row``.

        Parameters
        ----------
        vectors : sequence of Vector, may be empty
        """
        rows = [self.row(vector) for vector in vectors]
        return np.stack(rows) if rows else np.empty((0, self.width))


def _levels(words: Iterable[str | None]) -> tuple[str, ...]:
    counts = Counter(word for word in words if word is not None)
    # Most frequent first and ties by name, so that the order of rows never decides what is kept.
    kept = sorted(counts, key=lambda word: (-counts[word], word))[:MAX_LEVELS]
    return tuple(sorted(kept))
