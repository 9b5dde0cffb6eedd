"""All that scoring needs as one signed value: heads, encoding, calibrator, thresholds, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from scorer.calibration import Beta, Calibrator, Isotonic, VennAbers
from scorer.compiled import Network, Standard, Trees
from scorer.container import AnyArray, BundleFault, BundleRefused, address, seal, unseal
from scorer.encoding import Category, Encoding
from scorer.ensemble import Ensemble, Stack
from scorer.heads import HeadSet, Told
from scorer.neighbours import Neighbours, Pool
from scorer.recorded import PartRecords
from scorer.schema import Schema, Vector

__all__ = [
    "Bundle",
    "BundleFault",
    "BundleParts",
    "BundleRefused",
    "Golden",
    "NotAsked",
    "PartRecords",
    "SchemaName",
    "Scored",
    "Unscorable",
    "address",
    "pack",
    "unpack",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
Source = Literal["ensemble", "ensemble_raw"]

GOLDEN_TOLERANCE = 1e-9
"""How far this machine's answer to a golden row may lie from the trainer's."""
SCORE_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Scored:
    """The model's answer: a score in [0, 100], rounded to 4 decimals; a win probability only when calibrated.

    ``bounds`` are the two win probabilities the calibrating rows leave open there; shown, never compared.
    """

    score: float
    win_probability: float | None
    source: Source
    missing: tuple[str, ...]
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class NotAsked:
    """More features are missing than a model may be asked with; the names of all missing ones."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unscorable:
    """The model was asked and gave no usable number."""

    detail: str


@dataclass(frozen=True, slots=True)
class SchemaName:
    """Which schema a model reads: its name, version, hash, and all feature names in order."""

    name: str
    version: int
    hash: str
    features: tuple[str, ...]

    @classmethod
    def of(cls, schema: Schema) -> SchemaName:
        """The identity of a schema.

        Parameters
        ----------
        schema : Schema
        """
        return cls(schema.name, schema.version, schema.hash, schema.names)


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Rows of the design and what the trainer's own estimators said to them, before calibration.

    ``rows``: shape (n, width); ``expected``: shape (n,), win probabilities in [0, 1]. A process that computes
    something else with the same arrays (other library, other processor) must not serve them.
    """

    rows: FloatArray
    expected: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleParts:
    """What a bundle is made of. Mappings hold JSON values; times in UTC epoch milliseconds.

    ``thresholds`` belongs to the caller and is carried as it is; ``records`` are what it was learned from, for another
    blend to learn its own. ``neighbours`` are past signals to compare with and ``heads`` forecast what is shown beside
    the score, each none where there is nothing to show. ``calibrator`` is none while there are too few out-of-fold
    rows: its scores are then called ``ensemble_raw``.
    """

    strategy: str
    schema: SchemaName
    encoding: Encoding
    ensemble: Ensemble
    calibrator: Calibrator | None
    golden: Golden
    records: PartRecords
    data_hash: str
    first_ms: int
    last_ms: int
    created_at_ms: int
    metrics: Mapping[str, Any]
    importance: Mapping[str, float]
    thresholds: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    neighbours: Pool | None = None
    heads: HeadSet | None = None
    venn_abers: VennAbers | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle, ready to score. ``address`` is the sha256 of its bytes."""

    parts: BundleParts
    address: str
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", "ensemble_raw" if self.parts.calibrator is None else "ensemble")

    def score(self, vector: Vector) -> Scored | NotAsked | Unscorable:
        """Score one signal.

        Parameters
        ----------
        vector : Vector, read by the schema whose hash this bundle was opened with

        Returns
        -------
        Scored, or a value that says why there is no score; never a number that is not finite

        Source: SPEC 5 and 6.
        """
        encoding = self.parts.encoding
        if not encoding.readable(vector):
            return NotAsked(vector.missing)
        try:
            raw = self.parts.ensemble.win_probability(encoding.row(vector))
        except ValueError as error:
            return Unscorable(str(error))
        return self._answer(raw, vector.missing)

    def score_all(self, vectors: list[Vector]) -> list[Scored | NotAsked | Unscorable]:
        """Score many signals in one pass; signal by signal the same answer as ``score``.

        Parameters
        ----------
        vectors : list of Vector

        Raises
        ------
        ValueError : if a vector has another shape than the schema's
        """
        encoding = self.parts.encoding
        asked = [vector for vector in vectors if encoding.readable(vector)]
        raw = iter(self.parts.ensemble.win_probabilities(encoding.matrix(asked)).tolist())
        return [
            self._answer(next(raw), vector.missing) if encoding.readable(vector) else NotAsked(vector.missing)
            for vector in vectors
        ]

    def neighbours(self, vector: Vector, at_ms: int) -> Neighbours | None:
        """The past signals most like one and what became of them; none without a pool, or where no model is asked.

        Parameters
        ----------
        vector : Vector, read by the schema whose hash this bundle was opened with
        at_ms : moment of the signal, UTC epoch ms

        Source: STATISTICS 5.
        """
        pool, encoding = self.parts.neighbours, self.parts.encoding
        if pool is None or not encoding.readable(vector):
            return None
        return pool.ask(encoding.row(vector), at_ms)

    def tell(self, vector: Vector) -> Told | None:
        """What the heads beside the score say; none without heads, or where no model is asked.

        Parameters
        ----------
        vector : Vector, read by the schema whose hash this bundle was opened with
        """
        return None if self.parts.heads is None else self.parts.heads.tell(vector)

    def _answer(self, raw: float, missing: tuple[str, ...]) -> Scored | Unscorable:
        calibrator = self.parts.calibrator
        said = raw if calibrator is None else float(calibrator.apply(np.asarray(raw)))
        # Before anything clamps or compares it: max(0, min(1, nan)) is 1.
        if not (0.0 <= raw <= 1.0 and math.isfinite(said) and 0.0 <= said <= 1.0):
            return Unscorable(f"the heads said {raw}, the calibrator {said}")
        venn_abers = self.parts.venn_abers
        bounds = None if venn_abers is None else venn_abers.bounds(raw)
        score = round(said * 100.0, SCORE_DIGITS)
        return Scored(score, None if calibrator is None else said, self.source, missing, bounds)


def pack(parts: BundleParts, key: bytes) -> bytes:
    """Write a bundle as signed bytes; the same parts and key give the same bytes.

    Parameters
    ----------
    parts : BundleParts
    key : bytes, at least 32

    Raises
    ------
    ValueError : if the key is short, a mapping holds a number that is not finite, or the bundle is too large
    TypeError : if a mapping holds something that is no JSON value
    """
    encoding, ensemble = parts.encoding, parts.ensemble
    manifest: dict[str, object] = {
        "strategy": parts.strategy,
        "schema": {
            "name": parts.schema.name,
            "version": parts.schema.version,
            "hash": parts.schema.hash,
            "features": list(parts.schema.features),
        },
        "encoding": {
            "n_numbers": encoding.n_numbers,
            "number_names": list(encoding.number_names),
            "categories": [[c.name, list(c.levels), c.ordered] for c in encoding.categories],
            "allowed_missing": encoding.allowed_missing,
        },
        "ensemble": {
            "members": list(ensemble.members),
            "width": ensemble.width,
            "n_forest": ensemble.n_forest,
            # As text: canonical JSON folds whole floats into integers, and these must come back as they were.
            "init": ensemble.init.hex(),
            "rate": ensemble.rate.hex(),
            "layers": 0 if ensemble.network is None else len(ensemble.network.weights),
            "linear": ensemble.linear is not None,
            "stack": _stack_record(ensemble.stack),
        },
        "calibrator": _calibrator_record(parts.calibrator),
        "venn_abers": parts.venn_abers is not None,
        "records": {"buckets": list(parts.records.buckets)},
        "neighbours": None if parts.neighbours is None else parts.neighbours.record,
        "heads": None if parts.heads is None else parts.heads.record,
        "data_hash": parts.data_hash,
        "first_ms": parts.first_ms,
        "last_ms": parts.last_ms,
        "created_at_ms": parts.created_at_ms,
        "metrics": dict(parts.metrics),
        "importance": dict(parts.importance),
        "thresholds": dict(parts.thresholds),
        "versions": dict(parts.versions),
        "settings": dict(parts.settings),
    }
    return seal(manifest, _arrays_of(parts), key)


def unpack(data: bytes, keys: bytes | tuple[bytes, ...], *, strategy: str, schema_hash: str) -> Bundle:
    """Verify and read a bundle for one strategy and one schema.

    Parameters
    ----------
    data : bytes, as ``pack`` wrote them
    keys : bytes or tuple of them, at least 32 each; one of them signed it
    strategy, schema_hash : who asks, and what the vectors it will send are read by

    Raises
    ------
    BundleRefused : with a stable code; the caller keeps the bundle it has
    ValueError : if a key is short
    """
    manifest, arrays = unseal(data, keys)
    try:
        signed_for, signed_schema = str(manifest["strategy"]), str(manifest["schema"]["hash"])
    except (KeyError, TypeError) as error:
        raise BundleRefused(BundleFault.CORRUPT, f"the manifest has no {error}") from error
    if signed_for != strategy:
        raise BundleRefused(BundleFault.STRATEGY, f"made for {signed_for!r}")
    if signed_schema != schema_hash:
        raise BundleRefused(BundleFault.SCHEMA, f"reads {signed_schema[:12]}, asked with {schema_hash[:12]}")
    try:
        parts = _parts(manifest, arrays)
    except (ValueError, OverflowError) as error:
        raise BundleRefused(BundleFault.BOUNDS, str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleRefused(BundleFault.CORRUPT, repr(error)) from error
    _revalidate(parts)
    return Bundle(parts, address(data))


def _revalidate(parts: BundleParts) -> None:
    expected = parts.golden.expected
    said = parts.ensemble.win_probabilities(parts.golden.rows)
    # Not "any difference above": NaN must fail as well.
    if not (len(expected) > 0 and np.all(np.abs(said - expected) <= GOLDEN_TOLERANCE)):
        raise BundleRefused(BundleFault.GOLDEN, "this machine computes other probabilities than the trainer")
    if parts.heads is not None and not parts.heads.verified():
        raise BundleRefused(BundleFault.GOLDEN, "this machine computes other forecasts of the heads than the trainer")


def _arrays_of(parts: BundleParts) -> dict[str, AnyArray]:
    trees, network = parts.ensemble.trees, parts.ensemble.network
    arrays: dict[str, AnyArray] = {
        "encoding.kept": parts.encoding.kept,
        "encoding.medians": parts.encoding.medians,
        "trees.feature": trees.feature,
        "trees.threshold": trees.threshold,
        "trees.left": trees.left,
        "trees.value": trees.value,
        "trees.roots": trees.roots,
        "golden.rows": parts.golden.rows,
        "golden.expected": parts.golden.expected,
        **parts.records.arrays,
        **({} if parts.neighbours is None else parts.neighbours.arrays),
        **({} if parts.heads is None else parts.heads.arrays),
    }
    if parts.venn_abers is not None:
        bounds = parts.venn_abers
        arrays |= {"venn_abers.edges": bounds.edges, "venn_abers.low": bounds.low, "venn_abers.high": bounds.high}
    if network is not None:
        arrays |= {"standard.mean": network.standard.mean, "standard.scale": network.standard.scale}
        for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            arrays |= {f"network.weight{layer}": weight, f"network.bias{layer}": bias}
    linear = parts.ensemble.linear
    if linear is not None:
        arrays |= {"linear.mean": linear.standard.mean, "linear.scale": linear.standard.scale}
        arrays |= {"linear.weight": linear.weights[0], "linear.bias": linear.biases[0]}
    if isinstance(parts.calibrator, Isotonic):
        arrays |= {"isotonic.raw": parts.calibrator.raw, "isotonic.calibrated": parts.calibrator.calibrated}
    return arrays


def _stack_record(stack: Stack | None) -> dict[str, object] | None:
    if stack is None:
        return None
    return {
        "weights": [weight.hex() for weight in stack.weights.tolist()],
        "base": stack.base.hex(),
        "trust": stack.trust.hex(),
    }


def _calibrator_record(calibrator: Calibrator | None) -> dict[str, object]:
    match calibrator:
        case None:
            return {"kind": "none"}
        case Isotonic():
            return {"kind": "isotonic"}
        case Beta(rise, fall, shift):
            return {"kind": "beta", "rise": rise.hex(), "fall": fall.hex(), "shift": shift.hex()}


def _parts(manifest: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> BundleParts:
    schema = SchemaName(
        str(manifest["schema"]["name"]),
        int(manifest["schema"]["version"]),
        str(manifest["schema"]["hash"]),
        tuple(str(name) for name in manifest["schema"]["features"]),
    )
    encoding = _encoding(manifest["encoding"], schema, arrays)
    ensemble = _ensemble(manifest["ensemble"], arrays)
    if ensemble.width != encoding.width:
        raise ValueError("the heads read rows of another width than the encoding writes")
    pool = manifest["neighbours"]
    neighbours = None if pool is None else Pool.read(pool, arrays)
    if neighbours is not None and neighbours.width != encoding.width:
        raise ValueError("the pool reads rows of another width than the encoding writes")
    told = manifest.get("heads")
    heads = None if told is None else HeadSet.read(told, arrays, encoding)
    golden = Golden(_floats(arrays, "golden.rows", 2), _floats(arrays, "golden.expected", 1))
    if golden.rows.shape != (len(golden.expected), ensemble.width):
        raise ValueError("golden rows and answers do not fit")
    return BundleParts(
        strategy=str(manifest["strategy"]),
        schema=schema,
        encoding=encoding,
        ensemble=ensemble,
        calibrator=_calibrator(manifest["calibrator"], arrays),
        golden=golden,
        records=PartRecords.read(manifest["records"], arrays),
        data_hash=str(manifest["data_hash"]),
        first_ms=int(manifest["first_ms"]),
        last_ms=int(manifest["last_ms"]),
        created_at_ms=int(manifest["created_at_ms"]),
        neighbours=neighbours,
        heads=heads,
        venn_abers=_venn_abers(arrays) if manifest["venn_abers"] is True else None,
        **{name: _object(manifest, name) for name in ("metrics", "importance", "thresholds", "versions", "settings")},
    )


def _encoding(record: Mapping[str, Any], schema: SchemaName, arrays: Mapping[str, AnyArray]) -> Encoding:
    return Encoding(
        names=schema.features,
        n_numbers=int(record["n_numbers"]),
        number_names=tuple(str(name) for name in record["number_names"]),
        kept=_whole(arrays, "encoding.kept"),
        medians=_floats(arrays, "encoding.medians", 1),
        categories=tuple(
            Category(str(name), tuple(str(level) for level in levels), bool(ordered))
            for name, levels, ordered in record["categories"]
        ),
        allowed_missing=int(record["allowed_missing"]),
    )


def _ensemble(record: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> Ensemble:
    trees = Trees(
        feature=_whole(arrays, "trees.feature"),
        threshold=_floats(arrays, "trees.threshold", 1),
        left=_whole(arrays, "trees.left"),
        value=_floats(arrays, "trees.value", 1),
        roots=_whole(arrays, "trees.roots"),
    )
    layers = range(int(record["layers"]))
    network = None
    if len(layers) > 0:
        network = Network(
            Standard(_floats(arrays, "standard.mean", 1), _floats(arrays, "standard.scale", 1)),
            tuple(_floats(arrays, f"network.weight{layer}", 2) for layer in layers),
            tuple(_floats(arrays, f"network.bias{layer}", 1) for layer in layers),
        )
    linear = None
    if record["linear"] is True:
        linear = Network(
            Standard(_floats(arrays, "linear.mean", 1), _floats(arrays, "linear.scale", 1)),
            (_floats(arrays, "linear.weight", 2),),
            (_floats(arrays, "linear.bias", 1),),
        )
    return Ensemble(
        width=int(record["width"]),
        trees=trees,
        n_forest=int(record["n_forest"]),
        init=float.fromhex(record["init"]),
        rate=float.fromhex(record["rate"]),
        network=network,
        linear=linear,
        stack=_stack(record["stack"]),
    )


def _stack(record: Mapping[str, Any] | None) -> Stack | None:
    if record is None:
        return None
    weights = np.array([float.fromhex(weight) for weight in record["weights"]], dtype=np.float64)
    return Stack(weights, float.fromhex(record["base"]), float.fromhex(record["trust"]))


def _calibrator(record: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> Calibrator | None:
    match record["kind"]:
        case "none":
            return None
        case "isotonic":
            return Isotonic(_floats(arrays, "isotonic.raw", 1), _floats(arrays, "isotonic.calibrated", 1))
        case "beta":
            return Beta(*(float.fromhex(record[name]) for name in ("rise", "fall", "shift")))
        case other:
            raise ValueError(f"a calibrator of kind {other!r}")


def _venn_abers(arrays: Mapping[str, AnyArray]) -> VennAbers:
    return VennAbers(*(_floats(arrays, f"venn_abers.{name}", 1) for name in ("edges", "low", "high")))


def _object(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = manifest[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no object")
    return cast("dict[str, Any]", value)


def _floats(arrays: Mapping[str, AnyArray], name: str, dimensions: int) -> FloatArray:
    array = arrays[name]
    if array.dtype != np.float64 or array.ndim != dimensions:
        raise ValueError(f"{name}: float64 in {dimensions} dimensions")
    return cast("FloatArray", array)


def _whole(arrays: Mapping[str, AnyArray], name: str) -> IntArray:
    array = arrays[name]
    if array.dtype != np.int32 or array.ndim != 1:
        raise ValueError(f"{name}: int32 in one dimension")
    return cast("IntArray", array)
