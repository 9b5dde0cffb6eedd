"""The study of the heads, small: the bands hold for one seed."""

from __future__ import annotations

from lab.coverage.check import Size
from lab.coverage.heads import study


def test_the_bands_hold_in_a_small_study() -> None:
    checks = list(study(Size.SMALL, 1))
    assert len(checks) == 4
    assert all(check.holds for check in checks), checks
