"""A set of hard gates as a file: what a report found honest, written as YAML and read back with suspicion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gates.evaluate import Quantiles, evaluate_one
from gates.variables import VARIABLES, Comparison, Condition, Variable, declared
from signals.errors import Invalid
from signals.parse import canonical_json, sha256_hex
from signals.reasons import Reason
from signals.signal import FeatureValue

VERSION = 1
MAX_GATES = 64


class Requires(StrEnum):
    """How many of the gates a signal must pass."""

    ANY = "any"
    """At least one: each gate alone is a kind of signal that paid."""
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What a set of gates says of one signal: whether it may pass, by which gates, and what it could not tell."""

    passed: bool
    by: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSet:
    """Hard gates of a profile. ``gates`` are variables that must all hold; ``quantiles`` as learned with them.

    ``hash`` is the sha256 (hex) of what is decided by: two sets that let the same signals through in the same words
    are one set.

    Raises
    ------
    Invalid : if there is no gate, too many, or one names a variable that is not there
    """

    profile: str
    gates: tuple[tuple[str, ...], ...]
    requires: Requires = Requires.ANY
    variables: tuple[Variable, ...] = VARIABLES
    quantiles: Quantiles = field(default_factory=dict)
    note: str = ""
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        known = {variable.name for variable in self.variables}
        if not 1 <= len(self.gates) <= MAX_GATES or len(set(self.gates)) != len(self.gates):
            raise Invalid(Reason.FIELD_RANGE, "gates", f"one to {MAX_GATES} different gates")
        for gate in self.gates:
            if len(gate) == 0 or len(set(gate)) != len(gate) or not set(gate) <= known:
                raise Invalid(Reason.FIELD_RANGE, "gates", f"{' + '.join(gate) or 'nothing'}: unknown or twice")
        object.__setattr__(self, "hash", sha256_hex(canonical_json(self._decided_by())))

    @property
    def used(self) -> tuple[Variable, ...]:
        """The variables its gates name, in their order."""
        named = {name for gate in self.gates for name in gate}
        return tuple(variable for variable in self.variables if variable.name in named)

    def passage(self, features: Mapping[str, FeatureValue]) -> Passage:
        """Judge one signal; a gate that cannot be told is not passed.

        Parameters
        ----------
        features : as stored with the decision, in the trade's direction
        """
        told = evaluate_one(self.used, features, self.quantiles)
        by = tuple("+".join(gate) for gate in self.gates if all(told[name] is True for name in gate))
        missing = tuple(name for name, value in told.items() if value is None)
        enough = len(by) == len(self.gates) if self.requires is Requires.ALL else len(by) > 0
        return Passage(passed=enough, by=by, missing=missing)

    def _decided_by(self) -> dict[str, Any]:
        """What decides, as JSON values."""
        return {
            "version": VERSION,
            "profile": self.profile,
            "requires": self.requires.value,
            "gates": [list(gate) for gate in self.gates],
            "variables": [_variable_record(variable) for variable in self.used],
            "quantiles": {
                f"{name}|{share:g}": value
                for (name, share), value in sorted(self.quantiles.items())
                if any(name in variable.features for variable in self.used)
            },
        }

    def as_record(self) -> dict[str, Any]:
        """The set as plain values, fit for YAML; ``from_record`` reads it back."""
        return {**self._decided_by(), "note": self.note, "hash": self.hash}

    @classmethod
    def from_record(cls, record: object) -> GateSet:
        """Read what was written, or written by hand.

        Parameters
        ----------
        record : mapping, as parsed from YAML; variables of the house need not be spelled out, ``hash`` may be left out

        Raises
        ------
        Invalid : with the field that broke a rule; also when a written hash is not that of the content
        """
        if not isinstance(record, Mapping):
            raise Invalid(Reason.FIELD_TYPE, "gates", "expected a mapping")
        unknown = record.keys() - {"version", "profile", "requires", "gates", "variables", "quantiles", "note", "hash"}
        if unknown:
            raise Invalid(Reason.FIELD_UNKNOWN, min(map(str, unknown)))
        if record.get("version") != VERSION:
            raise Invalid(Reason.FIELD_RANGE, "version", f"{record.get('version')!r} is not read here")
        profile, requires, gates = (
            record.get("profile"),
            record.get("requires", Requires.ANY.value),
            record.get("gates"),
        )
        if not isinstance(profile, str) or requires not in tuple(word.value for word in Requires):
            raise Invalid(Reason.FIELD_RANGE, "requires", "a profile, and any or all")
        if not isinstance(gates, list) or not all(
            isinstance(gate, list) and all(isinstance(name, str) for name in gate) for gate in gates
        ):
            raise Invalid(Reason.FIELD_TYPE, "gates", "lists of names of variables")
        found = cls(
            profile=profile,
            requires=Requires(requires),
            gates=tuple(tuple(gate) for gate in gates),
            variables=_variables(record.get("variables", [])),
            quantiles=_quantiles(record.get("quantiles", {})),
            note=str(record.get("note", "")),
        )
        if record.get("hash", found.hash) != found.hash:
            raise Invalid(Reason.FIELD_RANGE, "hash", "the file was changed since; without a hash it is read as it is")
        return found


def _variable_record(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "group": variable.group,
        "when": [_condition_record(condition) for condition in variable.conditions],
    }


def _condition_record(condition: Condition) -> dict[str, Any]:
    if condition.test is Comparison.MORE_THAN:
        return {"feature": condition.feature, condition.test.value: condition.other}
    plain = {"feature": condition.feature, condition.test.value: condition.limit}
    return plain | {"fallback": condition.fallback} if condition.test is Comparison.QUANTILE else plain


def _variables(rows: object) -> tuple[Variable, ...]:
    """The variables of the house with those of the file laid over them: a file means what it said when written."""
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise Invalid(Reason.FIELD_TYPE, "variables", "a list of tables")
    own = declared(rows, ())
    named = {variable.name: variable for variable in own}
    house = tuple(named.pop(variable.name, variable) for variable in VARIABLES)
    return (*house, *(variable for variable in own if variable.name in named))


def _quantiles(record: object) -> dict[tuple[str, float], float]:
    if not isinstance(record, Mapping):
        raise Invalid(Reason.FIELD_TYPE, "quantiles", "a table")
    found = {}
    for key, value in record.items():
        name, _, share = str(key).partition("|")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e12:
            raise Invalid(Reason.FIELD_NOT_FINITE, "quantiles", str(key))
        try:
            found[name, float(share)] = float(value)
        except ValueError:
            raise Invalid(Reason.FIELD_FORMAT, "quantiles", f"{key!r}: expected feature|share") from None
    return found


def gate_set_of(
    profile: str,
    honest: Sequence[tuple[str, ...]],
    variables: Sequence[Variable],
    quantiles: Quantiles,
    *,
    note: str = "",
) -> GateSet:
    """The set of what a report found honest.

    Parameters
    ----------
    profile : whose gates they become
    honest : members of each gate
    variables, quantiles : those of the report
    note : where it came from

    Raises
    ------
    Invalid : if nothing was honest: there is no set of nothing
    """
    return GateSet(
        profile=profile, gates=tuple(honest), variables=tuple(variables), quantiles=dict(quantiles), note=note
    )
