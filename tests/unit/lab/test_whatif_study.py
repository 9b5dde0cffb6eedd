"""Promise 4 in small."""

from __future__ import annotations

from lab.coverage.check import Size
from lab.coverage.simulator import study


def test_the_simulators_promise_holds() -> None:
    checks = study(Size.SMALL, 11)
    assert [check.name for check in checks if not check.holds] == []
    assert {check.item for check in checks} == {4}
    assert len(checks) == 11
