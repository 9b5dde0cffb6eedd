"""Parsed JSON read strictly, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from signals.errors import Invalid
from signals.reasons import Reason

LARGEST = 1e12
"""A larger result is a defect of its record, and would make a mean of all the others meaningless."""


@dataclass(frozen=True, slots=True)
class PlainRow:
    """A JSON object read strictly: a bool is no number, 3.0 is no count, and nothing missing is made up."""

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, record: object, name: str) -> Self:
        """Take a parsed JSON value that must be an object.

        Raises
        ------
        Invalid : if it is none
        """
        if not isinstance(record, Mapping):
            raise Invalid(Reason.FIELD_TYPE, name, "expected an object")
        return cls(record)

    def value(self, name: str) -> Any:
        """A field of any type.

        Raises
        ------
        Invalid : if it is missing
        """
        if name not in self.fields:
            raise Invalid(Reason.FIELD_MISSING, name)
        return self.fields[name]

    def text(self, name: str) -> str:
        """A field that must be text.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        value = self.value(name)
        if not isinstance(value, str):
            raise Invalid(Reason.FIELD_TYPE, name, "expected text")
        return value

    def count(self, name: str) -> int:
        """A field that must be a whole number, not negative.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid(Reason.FIELD_TYPE, name, "expected a whole number")
        if value < 0:
            raise Invalid(Reason.FIELD_RANGE, name, "expected a count")
        return value

    def optional_count(self, name: str) -> int | None:
        """A field that must be a whole number, not negative, or null.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        return None if self.value(name) is None else self.count(name)

    def flag(self, name: str) -> bool:
        """A field that must be true or false.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        value = self.value(name)
        if not isinstance(value, bool):
            raise Invalid(Reason.FIELD_TYPE, name, "expected true or false")
        return value

    def number(self, name: str) -> float:
        """A field that must be a finite number, in the field's own unit.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Invalid(Reason.FIELD_TYPE, name, "expected a number")
        # The comparison comes first: it is exact for any int, while float() of a huge one overflows.
        if not -LARGEST <= value <= LARGEST:
            raise Invalid(Reason.FIELD_NOT_FINITE, name)
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """A field that must be a finite number or null.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        return None if self.value(name) is None else self.number(name)

    def counts(self, name: str) -> list[int]:
        """A field that must be a list of whole numbers, not negative.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        return [PlainRow({name: value}).count(name) for value in self.items(name)]

    def numbers(self, name: str) -> list[float]:
        """A field that must be a list of finite numbers, in the field's own unit.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        return [PlainRow({name: value}).number(name) for value in self.items(name)]

    def items(self, name: str) -> list[Any]:
        """A field that must be a list.

        Raises
        ------
        Invalid : if it is missing or something else
        """
        value = self.value(name)
        if not isinstance(value, list):
            raise Invalid(Reason.FIELD_TYPE, name, "expected a list")
        return value
