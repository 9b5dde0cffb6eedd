"""The promise of the skill-gated ensemble, as far as a smoke test reaches."""

from __future__ import annotations

import numpy as np
import pytest

from lab.coverage.skill import SPREAD, low_signal_world
from learning.metrics import auc


def test_a_world_is_as_hard_as_it_says() -> None:
    world = low_signal_world(6_000, np.random.default_rng(2))
    won = np.array([example.won for example in world.examples])
    best = auc(world.truth, won)
    assert best is not None
    assert 0.62 < best < 0.68
    assert float(won.mean()) == pytest.approx(float(world.truth.mean()), abs=0.03)
    exits = [example.exit_ms - example.entry_ms for example in world.examples]
    assert min(exits) > 0
    assert np.unique(low_signal_world(50, np.random.default_rng(2), spread=0.0).truth).size == 1
    assert SPREAD == 0.55
