"""``python -m scripts.timeouts_figures FOLDER``: what timeouts change on the reference candles (trend, 1 h, 2 ATR).

One replay under the heuristic; every number with and without the positions that their deadline ended.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from lab import wording
from lab.endings import marked_r
from lab.figures import COSTS_BPS
from lab.honest import honest_threshold, specified_threshold
from lab.statistics import Estimate, Interval, estimate_mean, percentile_interval
from lab.trade import BoolArray, TradeTable
from scripts.loop_figures import ALL_SYMBOLS
from scripts.replay_run import ReplayOptions, replayed_as

SEED = 1
RESAMPLES = 500
HOUR_MS = 3_600_000


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--symbol", "symbols", multiple=True, default=ALL_SYMBOLS, help="only these")
@click.option("--strategy", default="trend", show_default=True)
@click.option("--timeframe", default="1h", show_default=True)
@click.option("--atr-stop", default=2.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="every figure as JSON")
def main(
    folder: Path, symbols: tuple[str, ...], strategy: str, timeframe: str, atr_stop: float, *, as_json: bool
) -> None:
    """Measure on a folder of five-minute candles named SYMBOL_5m.parquet."""
    options = ReplayOptions(
        paths=tuple(folder / f"{symbol}_5m.parquet" for symbol in symbols),
        strategy=strategy,
        timeframe=timeframe,
        atr_stop=atr_stop,
        as_json=True,
    )
    outcome = replayed_as(options, Console(stderr=True, quiet=True))
    whole = outcome.summary.ending("always-take")
    table = outcome.summary.table
    means = {
        name: [_mean(table, mask, bps, marks=marks) for bps in COSTS_BPS]
        for name, mask, marks in (
            ("decisive trades only", table.decisive, False),
            ("with timeouts at 0 R", table.closed, False),
            ("with timeouts at their marks", table.closed, True),
        )
    }
    limits = [(bps, *thresholds_at(table, bps)) for bps in COSTS_BPS]
    if as_json:
        shares = {name: _plain(share) for name, share in whole.shares}
        found = {
            "n": whole.n,
            "n_open": whole.n_open,
            "n_eff": whole.n_eff,
            "n_alone": whole.n_alone,
            "win_rate": whole.win_rate,
            "shares": shares,
            "bounds_r": [whole.bounds.stop_first_r, whole.bounds.target_first_r],
            "ambiguous": whole.ambiguous,
            "mean_r": {name: [_plain(one) for one in row] for name, row in means.items()},
            "thresholds": [
                {"bps": bps, "spec": spec, "spec_95": _pair(low), "honest": honest, "honest_95": _pair(high)}
                for bps, spec, low, honest, high in limits
            ],
        }
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"### {strategy} {timeframe}, {atr_stop:g} ATR, {len(symbols)} symbols\n")
    click.echo(
        f"{whole.n:,} positions, {whole.n_open} of them open at the end; weighted by uniqueness n_eff "
        f"{whole.n_eff:,.0f}, sum of uniqueness {whole.n_alone:,.0f}; {whole.ambiguous} ambiguous candles.\n"
    )
    click.echo("| of all positions | share | 95 % by days | 95 % iid |\n|---|---|---|---|")
    for name, share in whole.shares:
        click.echo(
            f"| {name} within {whole.horizon_ms / HOUR_MS:.0f} h | {wording.percent(share.value)} | "
            f"{wording.rate_bounds(share)} | {wording.rate_bounds(share, iid=True)} |"
        )
    click.echo(f"| win rate of decisive ones (spec) | {wording.percent(whole.win_rate)} | | |\n")
    click.echo(f"| mean net R | {' | '.join(f'{bps:g} bp' for bps in COSTS_BPS)} |\n|---|---|---|---|")
    for name, row in means.items():
        cells = [f"{wording.signed(one.value)} ({wording.mean_bounds(one)})" for one in row]
        click.echo(f"| {name} (n {row[0].n:,}) | {' | '.join(cells)} |")
    low, high = whole.bounds.stop_first_r, whole.bounds.target_first_r
    click.echo(f"\nAt 10 bp with marks, stop first {wording.signed(low)}, target first {wording.signed(high)}.\n")
    click.echo("| threshold on heuristic scores | wins and losses alone | timeouts at their marks |\n|---|---|---|")
    for bps, spec, spec_bounds, honest, honest_bounds in limits:
        click.echo(f"| {bps:g} bp | {_limit(spec, spec_bounds)} | {_limit(honest, honest_bounds)} |")


def thresholds_at(table: TradeTable, bps: float) -> tuple[int | None, Interval, int | None, Interval]:
    """Both thresholds over all buckets, each with its 95 % interval from resampled days."""
    mask = table.closed
    scores = np.array([trade.score for trade in table.trades], dtype=np.float64)[mask]
    won, decisive, net = table.won[mask], table.decisive[mask], marked_r(table, bps)[mask]
    days, place = np.unique(table.day[mask], return_inverse=True)
    rng, spec, honest = np.random.default_rng([SEED, int(bps)]), [], []
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(days) + 1))
    for _ in range(RESAMPLES):
        rows = np.concatenate([order[starts[day] : starts[day + 1]] for day in rng.integers(0, len(days), len(days))])
        spec.append(specified_threshold(scores[rows], won[rows], decisive[rows], net[rows]))
        honest.append(honest_threshold(scores[rows], won[rows], decisive[rows], net[rows]))
    found = [
        percentile_interval(np.array([np.nan if one is None else one for one in draws], dtype=np.float64), len(days))
        for draws in (spec, honest)
    ]
    told = specified_threshold(scores, won, decisive, net), honest_threshold(scores, won, decisive, net)
    return told[0], found[0], told[1], found[1]


def _mean(table: TradeTable, mask: BoolArray, bps: float, *, marks: bool) -> Estimate:
    net = marked_r(table, bps) if marks else table.net_r(bps)
    return estimate_mean(table.day[mask], net[mask], rng=np.random.default_rng([SEED, int(bps)]))


def _limit(value: int | None, bounds: Interval) -> str:
    shown = f"{bounds.low:.0f} to {bounds.high:.0f}" if bounds.known else "no spread"
    return f"{wording.DASH if value is None else value} ({shown})"


def _pair(bounds: Interval) -> list[float] | None:
    return [bounds.low, bounds.high] if bounds.known else None


def _plain(one: Estimate) -> dict[str, object]:
    return {"value": one.value, "day_95": _pair(one.day), "iid_95": _pair(one.iid), "n": one.n, "n_days": one.n_days}


if __name__ == "__main__":
    main()
