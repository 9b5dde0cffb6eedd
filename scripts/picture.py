"""``python -m scripts.picture FILE``: the console report of a generated market as an SVG, for the README."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from lab.console import print_summary
from lab.summary import summarise
from market.generated import generate
from runtime.settings import Settings
from scripts.replay_run import Scene, run_info
from scripts.sources import Series, profile_for, strategy_settings, strategy_signals

SEED = 7
CANDLES = 60_000
SHOWN = 40


def _recorder() -> Console:
    return Console(record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def main(path: Path) -> None:
    """Replay a generated market and draw what the console shows."""
    series = Series((generate(SEED, symbol="GENUSDT", timeframe="5m", candles=CANDLES),), (), ())
    settings = strategy_settings("scalp", None)
    profile = profile_for(Settings.load().profile("scalp"), series)
    replayed = Scene(profile, series, strategy_signals("scalp", series, settings), settings).play()
    run = run_info("scalp", settings, series, profile, replayed, limits=False)
    run = replace(run, source="generated", source_detail="", source_seed=SEED)
    whole = _recorder()
    print_summary(summarise(replayed.trades, seed=1, run=run), whole)
    lines = whole.export_text(styles=True).splitlines()
    top = _recorder()
    top.print(Text.from_ansi("\n".join(lines[:SHOWN])))
    drawn = top.export_svg(title="penumbra replay")
    # The picture must not fetch a font from anywhere.
    path.write_text(re.sub(r"@font-face\s*{[^}]*}", "", drawn), "utf-8")


if __name__ == "__main__":
    main()
