from __future__ import annotations

from lab.coverage.calibration import study
from lab.coverage.check import Size


def test_every_promise_of_calibration_holds_on_few_worlds() -> None:
    checks = study(Size.SMALL, 1)
    assert [check.name for check in checks if not check.holds] == []
    # The control: as specified, isotonic on 150 rows harms a forecaster who is right.
    assert next(check.measured for check in checks if "isotonic" in check.name) > 0.002
