"""What the audit shows of each feature is what the page on features says, and what the columns do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from market.features import features
from market.generated import generate
from market.lookback import LOOK_BACK, Origin
from scorer.schema import SCHEMAS, STORED_ONLY, Direction, Kind

PAGE = Path(__file__).parents[3] / "docs" / "features.md"
TIMEFRAMES = {"trend": "1h", "range": "15m", "scalp": "5m"}
WORDS = {"of 15 min": Origin.QUARTERS, "of 60 min": Origin.HOURS, "set-up": Origin.SETUP}


def told() -> dict[str, str]:
    """The look-back column of the page."""
    rows = (line.split(" | ") for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| [a-z]", line))
    return {row[0].removeprefix("| "): row[5] for row in rows if len(row) == 7 and row[0] != "| feature"}


@pytest.mark.parametrize("profile", SCHEMAS)
def test_every_feature_has_a_source_and_the_look_back_of_the_page(profile: str) -> None:
    page = told()
    for feature in (*SCHEMAS[profile].features, *STORED_ONLY[profile]):
        found = LOOK_BACK[profile][feature.name]
        said = page[feature.name]
        numbers = [int(number) for number in re.findall(r"\d+", said.replace("of 15 min", "").replace("of 60 min", ""))]
        if found.candles is None:
            # Of the clock, the symbol, the engine or the set-up alone; the page counts the candle itself as one.
            assert numbers in ([], [1]), feature.name
        else:
            assert found.candles in numbers, feature.name
        origin = next((origin for word, origin in WORDS.items() if word in said), None)
        assert found.origin is origin or (origin is None and found.origin not in WORDS.values()), feature.name


@pytest.mark.parametrize("profile", SCHEMAS)
def test_a_value_is_missing_until_its_look_back_and_there_from_then_on(profile: str) -> None:
    candles = generate(6, timeframe=TIMEFRAMES[profile], candles=400)
    columns = features(candles, profile=profile, base=candles).columns
    checked = 0
    for feature in (*SCHEMAS[profile].features, *STORED_ONLY[profile]):
        look = LOOK_BACK[profile][feature.name]
        if feature.kind is Kind.CATEGORY or feature.direction is Direction.SIDED or look.candles is None:
            continue
        if look.origin is not Origin.CANDLES:
            continue
        first = int(np.flatnonzero(np.isfinite(columns[feature.name]))[0])
        assert first + 1 == look.candles, feature.name
        checked += 1
    assert checked >= 8
