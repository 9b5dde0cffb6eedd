"""Where a command's candles come from, and the reference strategy's signals on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from market.candles import CandleFile, Candles, find_candles, read_candles
from market.reference_strategies import DEFAULT_SETTINGS, StrategySettings, proposals
from signals.errors import Permanent
from signals.profile import Profile
from signals.signal import Signal
from signals.timeframe import timeframe_ms


@dataclass(frozen=True, slots=True)
class Series:
    """The candles of a run: one tracking series per symbol, and finer ones that resolve ambiguity."""

    tracking: tuple[Candles, ...]
    finer: tuple[Candles, ...]
    complaints: tuple[str, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols in order."""
        return tuple(candles.symbol for candles in self.tracking)

    @property
    def timeframe(self) -> str:
        """The tracking timeframe."""
        return self.tracking[0].timeframe

    @property
    def candle_count(self) -> int:
        """How many candles a run takes."""
        return sum(len(candles) for candles in (*self.tracking, *self.finer))


def read_series(paths: Iterable[Path], tracking_timeframe: str | None = None) -> Series:
    """Read files into a run. The tracking series is the finest of a symbol, or the given timeframe."""
    files = [read_candles(path) for path in find_candles(paths)]
    if not files:
        raise Permanent("no candle files (parquet, feather or CSV) among the given paths")
    chosen: dict[str, Candles] = {}
    finer: list[Candles] = []
    left_out: list[str] = []
    for candles in sorted((file.candles for file in files), key=lambda found: (found.symbol, found.step_ms)):
        wanted = tracking_timeframe is None or candles.timeframe == tracking_timeframe
        if candles.symbol not in chosen and wanted and len(candles) > 0:
            chosen[candles.symbol] = candles
        elif tracking_timeframe is not None and candles.step_ms < timeframe_ms(tracking_timeframe):
            finer.append(candles)
        elif candles.symbol in chosen and candles.step_ms == chosen[candles.symbol].step_ms:
            left_out.append(f"{candles.symbol} {candles.timeframe}: a second file, {len(candles)} candles not used")
    if not chosen:
        raise Permanent(f"no usable candles of {tracking_timeframe or 'any timeframe'} among the given paths")
    steps = {candles.timeframe for candles in chosen.values()}
    if len(steps) > 1:
        raise Permanent(f"one tracking timeframe for all symbols, found {', '.join(sorted(steps))}: name one")
    complaints = [text for file in files for text in _complaints(file)]
    return Series(tuple(chosen.values()), tuple(finer), tuple(complaints + left_out))


def _complaints(file: CandleFile) -> list[str]:
    report = file.report
    counted = {
        "impossible": report.impossible,
        "duplicate": report.duplicate,
        "corrected": report.corrected,
        "out of order": report.disordered,
        "misaligned": report.misaligned,
        "gaps": report.gaps,
    }
    found = ", ".join(f"{count} {word}" for word, count in counted.items() if count)
    return [f"{file.path.name}: {found}"] if found else []


def strategy_settings(
    strategy: str, timeframe: str | None, atr_stop: float | None = None, cooldown: int | None = None
) -> StrategySettings:
    """The strategy's own settings with what a user changed."""
    settings = DEFAULT_SETTINGS[strategy]
    return replace(
        settings,
        timeframe=timeframe or settings.timeframe,
        atr_stop=settings.atr_stop if atr_stop is None else atr_stop,
        cooldown_candles=settings.cooldown_candles if cooldown is None else cooldown,
    )


def strategy_signals(strategy: str, series: Series, settings: StrategySettings) -> list[Signal]:
    """Every signal of the strategy, in order of time."""
    found = [signal for candles in series.tracking for signal in proposals(strategy, candles, None, settings)]
    return sorted(found, key=lambda signal: (signal.ts, signal.symbol, signal.id))


def profile_for(profile: Profile, series: Series, threshold: float | None = None) -> Profile:
    """The profile of a run: tracked on the series' candles, with another static threshold when one is given."""
    return replace(
        profile,
        tracking_timeframe=series.timeframe,
        static_threshold=profile.static_threshold if threshold is None else threshold,
    )
