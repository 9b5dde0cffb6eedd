"""Is what a model was shown still what the record says: the vector of a decision, rebuilt from its stored features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from scorer.encoding import model_features
from scorer.schema import Kind, Schema, Vector
from signals.signal import FeatureValue


class Rebuilt(StrEnum):
    """What became of the comparison."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    """No hash was recorded, or one of another schema: neither proves anything."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A feature that the decision saw as ``seen`` and that is ``rebuilt`` now; ``None`` is a missing value."""

    feature: str
    seen: FeatureValue
    rebuilt: FeatureValue

    def __str__(self) -> str:
        """Both values, to the last digit."""
        return f"{self.feature} {self.seen!r} → {self.rebuilt!r}"


def compared(schema: Schema, vector: Vector, recorded: str | None) -> Rebuilt:
    """Compare a vector with the hash a decision recorded.

    Parameters
    ----------
    schema : Schema that read the vector
    vector : Vector, rebuilt
    recorded : the decision's ``vector_hash``, none in records from before it was kept
    """
    if recorded is None or not schema.same_schema(recorded):
        return Rebuilt.UNKNOWN
    return Rebuilt.EQUAL if schema.vector_hash(vector) == recorded else Rebuilt.DIFFERENT


def stored_vector(schema: Schema, body: Mapping[str, object]) -> Vector:
    """The vector that the body of a decision, or of a closed position, holds the features of.

    Parameters
    ----------
    schema : Schema of the decision's profile
    body : mapping with ``features``, ``bucket`` and ``symbol``; what is not there, or of another type, is missing
    """
    features, bucket = body.get("features"), body.get("bucket")
    known = features if isinstance(features, Mapping) else {}
    where = bucket if isinstance(bucket, str) else None
    return schema.vector(model_features(known, bucket=where, symbol=str(body.get("symbol", ""))))


def differences(schema: Schema, seen: Vector, rebuilt: Vector) -> tuple[Difference, ...]:
    """Every feature in which two vectors of one schema differ by any bit, in the schema's order.

    Parameters
    ----------
    schema : Schema that read both
    seen, rebuilt : Vectors, as the decision saw it and as it is now

    Returns
    -------
    tuple of Difference, empty exactly when the hashes are equal
    """
    before, after = _values(schema, seen), _values(schema, rebuilt)
    return tuple(Difference(name, before[name], after[name]) for name in schema.names if before[name] != after[name])


def _values(schema: Schema, vector: Vector) -> dict[str, FeatureValue]:
    numbers = (None if math.isnan(value) else value for value in vector.values.tolist())
    words = iter(vector.categories)
    return {feature.name: next(numbers) if feature.kind is Kind.NUMBER else next(words) for feature in schema.features}
