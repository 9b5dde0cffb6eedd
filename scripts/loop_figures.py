"""``python -m scripts.loop_figures FOLDER``: the loop on the reference candles, as the tables of ``docs/figures.md``.

Each case is what ``penumbra replay`` with the printed options does; ``--json FILE`` keeps every digit.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from lab import learned_words as words
from lab import wording
from lab.compare import Setting
from lab.figures import Group
from lab.learned import Learning
from runtime.clock import stopwatch
from scripts.replay_run import ReplayOptions, ReplayOutcome, as_json, replayed_as

GROWTH = 0.5
MAJORS = ("BTCUSDT", "ETHUSDT")
ALL_SYMBOLS = (*MAJORS, "SOLUSDT", "XRPUSDT", "DOGEUSDT", "AVAXUSDT", "LINKUSDT", "LTCUSDT")
CASES: tuple[tuple[str, str, str, float | None, tuple[str, ...]], ...] = (
    ("trend 1 h, 2 ATR, 8 symbols", "trend", "1h", 2.0, ALL_SYMBOLS),
    ("trend 15 m, 1.5 ATR, 8 symbols", "trend", "15m", 1.5, ALL_SYMBOLS),
    ("range 15 m, 8 symbols", "range", "15m", None, ALL_SYMBOLS),
    ("scalp 5 m, BTC and ETH", "scalp", "5m", None, MAJORS),
)
"""Name, strategy, timeframe, stop in ATR (none: the strategy's own) and symbols."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "target", type=click.Path(path_type=Path), help="also write every figure here")
@click.option("--case", type=click.IntRange(1, len(CASES)), multiple=True, help="only these, counted from 1")
def main(folder: Path, target: Path | None, case: tuple[int, ...]) -> None:
    """Measure the loop on a folder of five-minute candles named SYMBOL_5m.parquet."""
    kept: dict[str, object] = {}
    chosen = [CASES[place - 1] for place in case] or CASES
    for name, strategy, timeframe, atr_stop, symbols in chosen:
        began = stopwatch()
        options = ReplayOptions(
            paths=tuple(folder / f"{symbol}_5m.parquet" for symbol in symbols),
            strategy=strategy,
            timeframe=timeframe,
            atr_stop=atr_stop,
            learn=True,
            growth=GROWTH,
            as_json=True,
        )
        outcome = replayed_as(options, Console(stderr=True, quiet=True))
        kept[name] = as_json(outcome)
        click.echo("\n".join(_lines(name, outcome)))
        played = 1 if outcome.summary.learning is None else len(outcome.summary.learning.settings)
        click.echo(f"\n{stopwatch() - began:.0f} s for {played} replays, training and figures.\n")
    if target is not None:
        target.write_text(json.dumps(kept, indent=2), encoding="utf-8")


def _lines(name: str, outcome: ReplayOutcome) -> list[str]:
    learning = outcome.summary.learning
    if learning is None:
        raise ValueError("a replay that learns has a learning part")
    remarks = [f"* {remark}" for remark in outcome.summary.remarks]
    return [
        f"### {name}",
        "",
        outcome.summary.verdict,
        "",
        *remarks,
        "",
        *_training(learning),
        "",
        *_settings(learning),
    ]


def _training(learning: Learning) -> list[str]:
    lines = [f"{len(learning.attempts)} attempts, {learning.published} published, next at {_next(learning)} outcomes."]
    for attempt in learning.attempts:
        moment, came_to = wording.moment(attempt.at_ms), words.came_to(attempt)
        lines += [f"* {moment}, {attempt.count:,} outcomes: {came_to} (AUC {words.optional(attempt.auc)})"]
    found = learning.out_of_sample
    if found is None:
        return [*lines, "", "Out of sample: no model decided anything."]
    skill = wording.signed(100.0 * found.brier_skill.value, 1)
    told = (
        f"Out of sample: Brier {found.brier:.4f} against {found.base_brier:.4f} of the base rate, skill {skill} % "
        f"({words.bounds_percent(found)}), AUC {words.optional(found.auc)}, {found.n:,} decided signals on "
        f"{found.n_days:,} days."
    )
    return [*lines, "", told]


def _next(learning: Learning) -> str:
    return f"{learning.attempts[-1].next_at:,}" if learning.attempts else wording.DASH


def _settings(learning: Learning) -> list[str]:
    head = (
        "setting", "executed · refused", "win rate", "mean R at 0 bp", "at 5 bp", "at 10 bp", "refused at 10 bp",
        "bundles · decided by them",
        "skill out of sample, AUC", "lift, p against random gates", "scores shuffled: mean (middle 95 %), p",
        "gain a signal over the heuristic",
    )  # fmt: skip
    rows = [_row(item) for item in learning.settings]
    always = learning.settings[0].split.everything
    rows.append(["always-take", f"{always.n:,} · 0", _rate(always), *_means(always), *[wording.DASH] * 6])
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _row(item: Setting) -> list[str]:
    executed, refused, placebo = item.split.executed, item.split.refused, item.placebo
    mean = refused.verdict.mean_r
    return [
        item.name,
        f"{executed.n:,} · {refused.n:,}",
        _rate(executed),
        *_means(executed),
        f"{wording.signed(mean.value)} ({wording.mean_bounds(mean)})",
        f"{item.bundles:,} · {item.by_model:,}",
        _skill(item),
        f"{wording.signed(item.lift.lift.value)}, {wording.probability(item.lift.random.p)}",
        f"{wording.signed(placebo.placebo_mean)} ({words.placebo_bounds(placebo)}), {wording.probability(placebo.p)}",
        wording.DASH if item.gain is None else f"{wording.signed(item.gain.value)} ({wording.mean_bounds(item.gain)})",
    ]


def _skill(item: Setting) -> str:
    if item.skill is None:
        return wording.DASH
    bounds = item.skill.day
    told = f"{wording.signed(100.0 * bounds.low, 1)} to {wording.signed(100.0 * bounds.high, 1)}"
    return f"{wording.signed(100.0 * item.skill.value, 1)} % ({told}), {words.optional(item.auc)}"


def _rate(group: Group) -> str:
    return f"{wording.percent(group.win_rate.value)} ({wording.rate_bounds(group.win_rate)})"


def _means(group: Group) -> list[str]:
    return [f"{wording.signed(at.mean_r.value)} ({wording.mean_bounds(at.mean_r)})" for at in group.at_cost]


if __name__ == "__main__":
    main()
