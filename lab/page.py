"""A summary as one self-contained HTML page: no script, no request, readable in light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lab import fidelity_words, learned_words, wording
from lab.charts import Picture, draw_pictures
from lab.figures import VERDICT_COST_BPS, Breakdown
from lab.learned_charts import draw_learning
from lab.summary import Summary

if TYPE_CHECKING:
    from jinja2 import Template

    from lab.fidelity import Fidelity
    from persistence.record import Head

PAGES = Path(__file__).parent / "pages"
FULL_SHADE_R = 10.0
"""Monthly sum of R that gets the full shade of the heat map when no month is stronger."""


def write_page(summary: Summary, path: Path) -> None:
    """Write the page; the same summary gives the same bytes."""
    path.write_text(render_page(summary), encoding="utf-8", newline="\n")


def render_page(summary: Summary) -> str:
    """The page as text."""
    return page_template("report.html.j2").render(
        summary=summary,
        run=summary.run,
        w=wording,
        pictures=shown(draw_pictures(summary)),
        learning=summary.learning,
        learning_pictures=shown(draw_learning(summary)),
        words=learned_words,
        f=fidelity_words,
        months=_months(summary.breakdown("month")),
        verdict_bps=VERDICT_COST_BPS,
        digest=summary.digest(),
        glossary=(*wording.GLOSSARY, *(() if summary.learning is None else learned_words.GLOSSARY)),
    )


def write_fidelity(found: Fidelity, path: Path, *, what: str, seed: int, head: Head) -> None:
    """Write the page of a record's twins alone."""
    template = page_template("fidelity_page.html.j2")
    text = template.render(found=found, words=fidelity_words, what=what, seed=seed, head=head)
    path.write_text(text, encoding="utf-8", newline="\n")


def page_template(name: str) -> Template:
    """A template of this house, which escapes whatever it is given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - only reports need it

    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["glue"] = _glue
    return environment.get_template(name)


def shown(drawn: Iterable[Picture]) -> list[dict[str, str]]:
    """Pictures for a template."""
    from markupsafe import Markup  # noqa: PLC0415 - comes with jinja2

    # Everything is escaped; only our own pictures, whose words are escaped where they are drawn, are markup.
    return [
        {"name": item.name, "title": item.title, "caption": item.caption, "svg": Markup(item.svg),  # noqa: S704
         "wide": Markup(item.wide)}  # noqa: S704
        for item in drawn
    ]  # fmt: skip


def _glue(sentence: str) -> str:
    """Keep a figure and its unit on one line."""
    return re.sub(r"(?<=\d) (?=(?:R|bp|%|h)\b|%)", "\u00a0", sentence)


class Cell(NamedTuple):
    """One month of one group; ``shade`` runs from −1 to 1."""

    n: int
    total_r: float
    shade: float


class Month(NamedTuple):
    """A row of the heat map: always-take, executed, refused."""

    name: str
    cells: tuple[Cell, ...]


def _months(breakdown: Breakdown) -> list[Month]:
    """Sums of R at the cost of the verdict, shaded against the strongest month."""
    groups = [(row.name, (row.everything, row.executed, row.refused)) for row in breakdown.rows]
    totals = [abs(group.verdict.total_r) for _, row in groups for group in row]
    scale = max([*totals, FULL_SHADE_R])
    return [
        Month(
            name,
            tuple(Cell(each.n, each.verdict.total_r, round(each.verdict.total_r / scale, 3)) for each in row),
        )
        for name, row in groups
    ]
