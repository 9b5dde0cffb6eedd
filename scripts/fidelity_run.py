"""``penumbra fidelity``: the record's twins to figures, a terminal and a page."""

from __future__ import annotations

from pathlib import Path

from lab.console import WIDTH
from lab.fidelity import fidelity_of
from lab.fidelity_console import print_fidelity
from lab.fidelity_words import sentences
from lab.page import write_fidelity
from lab.summary import plain_figures
from lab.twins import twins_of
from runtime.wiring import Wiring
from scripts.learning import console, echo


def run_fidelity(wiring: Wiring, *, strategy: str | None, seed: int, page: Path | None, as_json: bool) -> None:
    """Read the record, print, and write the page when one is asked for."""
    record = wiring.record
    head = record.head()
    found = fidelity_of(twins_of(record.facts(), strategy), seed=seed)
    record.close()
    what = f"fidelity of phantoms, {strategy or 'all strategies'}"
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_fidelity(found, page, what=what, seed=seed, head=head)
    if as_json:
        echo({"said": sentences(found), "flagged": found.flagged, "seed": seed, **plain_figures(found)})
        return
    terminal = console()
    print_fidelity(found, terminal, min(WIDTH, terminal.width))
    if page is not None:
        terminal.print(f"report {page}", highlight=False)
