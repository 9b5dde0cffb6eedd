"""A gate report in words and rows: what a terminal and a page both show. Doubt is always said first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from gates.days import MeanR
from gates.discovery import LEVEL
from gates.intervals import Interval, wilson
from gates.report import GateReport, Row, Standing, Verdict
from gates.variables import ORIGINAL
from lab import wording
from lab.gates import ENOUGH_EARLIER, VERDICT_BPS, Chosen, GateAnswer, quantile_words

MOST_MONTHS = 4
SHOWN = 8
"""Pairs, and triplets, on a terminal; the page has them all."""
NAMES = {Chosen.PHANTOM: "phantoms", Chosen.EXECUTED: "executed trades", Chosen.ALL: "signals"}

Cells = tuple[str, ...]
"""One row of words; a line break divides a figure from its interval."""

SOLO_HEADINGS: Cells = (
    "",
    "n",
    "won",
    "delta, pt",
    "p, all\nlooks",
    "shrunk",
    "net R",
    "beside\nscore",
    "standing",
)
COMBINATION_HEADINGS: Cells = (
    "", "n", "won", "mean\nalone", "syn-\nergy", "delta, pt", "p, all\nlooks", "inter-\naction", "net R", "standing",
)  # fmt: skip
HONEST_HEADINGS: Cells = ("", "n", "win rate", "net R", f"at {VERDICT_BPS:g} bp", "p, all looks", "p later", "standing")
BITMAP_HEADINGS: Cells = ("which of the four hold", "n", "wins", "win rate", "95 % Wilson")


def verdict(answer: GateAnswer) -> str:
    """The one sentence that comes first."""
    report, what = answer.report, f"decided {NAMES[answer.chosen]}"
    match report.verdict:
        case Verdict.NO_TRADES:
            return f"Nothing can be said: there are no {what} in {answer.window.words}."
        case Verdict.ONE_CLASS:
            word = "won" if report.wins else "lost"
            return f"Nothing can be said: all {_count(report.n, what)} {word}, so no gate tells them apart."
        case Verdict.TOO_FEW:
            return f"Nothing can be said: {_count(report.n, what)} are too few to search and to confirm."
        case Verdict.TOO_SHORT:
            return (
                f"Nothing can be said: {_count(report.n, what)} span too little time to tell a gate from the days it "
                "happened to meet."
            )
        case Verdict.OK:
            return _found(answer)


def _found(answer: GateAnswer) -> str:
    report, found = answer.report, answer.report.discovered
    looks = looks_of(report)
    if not found:
        return (
            f"Nothing is discovered: of {looks:,} looks at {report.n:,} decided {NAMES[answer.chosen]} not one stands "
            f"out from what outcomes shifted in time show as well ({_best(answer)})."
        )
    confirmed = sum(row.standing is Standing.CONFIRMED for row in found)
    honest = len(report.honest)
    made = (
        f"{honest:,} may become {'a hard gate' if honest == 1 else 'hard gates'}: the 95 % interval of net R above 0 "
        f"(at {VERDICT_BPS:g} bp round trip that of {honest - len(_dear(answer)):,})"
        if honest
        else "none may become a hard gate: no net R with a 95 % interval above 0"
    )
    return (
        f"{len(found):,} of {looks:,} looks at {report.n:,} decided {NAMES[answer.chosen]} are discovered, "
        f"{confirmed:,} confirmed on later signals; {made}."
    )


def _dear(answer: GateAnswer) -> list[Row]:
    """Honest gates that are so at the profile's costs only."""
    return [row for row in answer.report.honest if not answer.at_10_bp[row.members].interval.low > 0.0]


def _best(answer: GateAnswer) -> str:
    row = answer.best
    if row is None:
        return "no cell was large enough to be looked at"
    return f"the best, {name(row)}, has a corrected p of {wording.probability(row.p_corrected)}"


def looks_of(report: GateReport) -> int:
    """Looks that were large enough to be one, on the part that was searched."""
    if report.searched is None:
        return 0
    return sum(math.isfinite(z) for z in report.searched.looked.z.tolist())


def luck(answer: GateAnswer) -> str:
    """How many of the founding rule's recommendations luck alone would have made."""
    found = answer.luck
    rule = f"Hunches: the founding rule enables {found.found:,} of {len(answer.variables):,} variables"
    if found.shifts == 0:
        return f"{rule}; how many luck would bring cannot be told."
    return (
        f"{rule}. Outcomes shifted in time, where nothing can be true, bring "
        f"{wording.number(found.expected)} on average ({found.low:.0f} to {found.high:.0f} in 95 % of "
        f"{found.shifts:,} shifts)."
    )


def remarks(answer: GateAnswer) -> tuple[str, ...]:
    """What a careful reader should know next, most important first."""
    return tuple(_remarks(answer))


def _remarks(answer: GateAnswer) -> Iterator[str]:
    report = answer.report
    yield from leaks(answer)
    if report.n > 0:
        yield luck(answer)
    if report.verdict is Verdict.OK:
        shifts = report.searched.shifts if report.searched else 0
        yield (
            f"Searched on the earlier {wording.percent(answer.settings.earlier, 0)} and tested again on what came "
            f"later; p is corrected for every look, by {shifts:,} shifts of the outcomes."
        )
    dear = _dear(answer)
    if dear:
        yield f"At {VERDICT_BPS:g} bp round trip the interval of {_list(map(name, dear))} is no longer above 0."
    if answer.chosen is Chosen.PHANTOM and report.n > 0:
        yield "These signals were refused or could not be taken: what paid here was missed, not earned."
    yield f"Net R after {wording.basis_points(answer.costs_bps)} round trip, as the profile says."
    yield _on_quantiles(answer)
    if answer.silent:
        yield f"No signal brought what {_list(answer.silent)} read{'s' if len(answer.silent) == 1 else ''}."
    yield from _on_left(answer)


def leaks(answer: GateAnswer) -> tuple[str, ...]:
    """Warnings of what knows the outcome."""
    solos = [name(row) for row in answer.report.solos if row.leak_suspect]
    together = [name(row) for row in answer.report.leaks if len(row.members) > 1 and set(row.members).isdisjoint(solos)]
    if not solos and not together:
        return ()
    verb = "separate" if len(solos) + len(together) > 1 else "separates"
    said = (
        f"LEAK_SUSPECT: {_list([*solos, *together])} {verb} wins from losses without an error: known only afterwards, "
        "or made from the outcome. Never a recommendation, nor anything combined with it."
    )
    return (said,)


def _on_quantiles(answer: GateAnswer) -> str:
    told = quantile_words(answer)
    learned = [entry for entry in told if entry[3]]
    if not told:
        return "No variable reads a quantile."
    values = ", ".join(f"{wording.percent(share, 0)} at {value:.3g}" for _, share, value, _ in told)
    names = ", ".join(dict.fromkeys(entry[0] for entry in told))
    if not learned:
        return (
            f"Quantiles of {names} stand at their fallbacks ({values}): {_count(answer.earlier, 'signals')} before the "
            f"window, {ENOUGH_EARLIER} are needed to learn them."
        )
    return f"Quantiles of {names} ({values}) were learned on {_count(answer.earlier, 'signals')} before the window."


def _on_left(answer: GateAnswer) -> Iterator[str]:
    left = answer.left
    told = [
        (left.undecided, "ended at no barrier"),
        (left.unsettled, "are so young that signals like them are still open"),
        (left.not_asked_for, "are of the other kind"),
    ]
    said = [f"{n:,} {why}" for n, why in told if n > 0]
    if said:
        yield f"Left out of the window's signals: {', '.join(said)}."


def name(row: Row) -> str:
    """A look by its members."""
    return " + ".join(row.members)


def solo_rows(answer: GateAnswer) -> list[Cells]:
    """Every variable alone, best first."""
    return [
        (
            name(row),
            f"{row.n:,}",
            _rate(row),
            _delta(row),
            wording.probability(row.p_corrected),
            points(row.shrunk_delta),
            result(row.result),
            _effect(row),
            _standing(row),
        )
        for row in answer.ranked
    ]


def combination_rows(rows: Iterable[Row]) -> list[Cells]:
    """Pairs or triplets."""
    return [
        (
            name(row) + ("\nnested" if row.nested else ""),
            f"{row.n:,}",
            _rate(row),
            wording.percent(math.nan if row.expected is None else row.expected),
            points(math.nan if row.synergy is None else row.synergy),
            _delta(row),
            wording.probability(row.p_corrected),
            _interaction(row),
            result(row.result),
            _standing(row),
        )
        for row in rows
    ]


def honest_rows(answer: GateAnswer) -> list[Cells]:
    """What may become hard gates."""
    return [
        (
            name(row),
            f"{row.n:,}",
            _rate(row),
            result(row.result),
            result(answer.at_10_bp[row.members]),
            wording.probability(row.p_corrected),
            wording.probability(row.p_later),
            _standing(row),
        )
        for row in sorted(answer.report.honest, key=lambda row: -row.result.interval.low)
    ]


def bitmap_rows(answer: GateAnswer) -> list[Cells]:
    """The states of the original variables, from none to all."""
    listed = [item for item in (variable.name for variable in answer.variables) if item in ORIGINAL]
    rows: list[Cells] = []
    known = any(item.n for item in answer.report.counted.bitmaps)
    for item in answer.report.counted.bitmaps if known else ():
        held = [word for word, holds in zip(listed, item.state, strict=True) if holds]
        rows.append(
            (
                " + ".join(held) or "none",
                f"{item.n:,}",
                f"{item.wins:,}",
                wording.percent(item.win_rate),
                rate_bounds(wilson(item.wins, item.n)),
            )
        )
    return rows


def trend_headings(answer: GateAnswer) -> Cells:
    """Month by month, the newest last."""
    months = answer.report.months[0].months[-MOST_MONTHS:] if answer.report.months else ()
    return ("delta by month, pt", *months, "trend")


def trend_rows(answer: GateAnswer, *, known_only: bool = True) -> list[Cells]:
    """How each variable's monthly delta moved; those without two known months say nothing."""
    return [
        (item.name, *(points(delta) for delta in item.deltas[-MOST_MONTHS:]), item.trend)
        for item in answer.report.months
        if item.trend != "unknown" or not known_only
    ]


def hunch_rows(answer: GateAnswer) -> list[tuple[str, str]]:
    """The founding report's list: never more than hunches."""
    found = answer.report.counted.hunches
    return [
        ("enable", ", ".join(found.enable) or "nothing"),
        ("disable", ", ".join(found.disable) or "nothing"),
        ("best combination", " + ".join(found.best) or "none"),
    ]


def combined_words(answer: GateAnswer) -> str:
    """Which variables were combined."""
    top = answer.settings.top
    return "all variables" if top is None else f"the best {top} by delta"


def points(share: float) -> str:
    """A difference of rates in points."""
    return wording.signed(100.0 * share, 1)


def rate_bounds(interval: Interval) -> str:
    """The interval of a rate."""
    if not math.isfinite(interval.low):
        return wording.DASH
    return f"{100.0 * interval.low:.0f}–{100.0 * interval.high:.0f} %"


def bounds(interval: Interval, digits: int = 2, scale: float = 1.0) -> str:
    """An interval with signs, as short as a hundred columns ask for."""
    if not math.isfinite(interval.low):
        return "unknown"
    return f"{wording.signed(scale * interval.low, digits)}…{wording.signed(scale * interval.high, digits)}"


def result(found: MeanR) -> str:
    """A mean in R with its interval by days."""
    return f"{wording.signed(found.mean)}\n{bounds(found.interval)}" if math.isfinite(found.mean) else wording.DASH


def _rate(row: Row) -> str:
    return f"{wording.percent(row.win_rate)}\n{rate_bounds(row.win_rate_interval)}" if row.n else wording.DASH


def _delta(row: Row) -> str:
    if not math.isfinite(row.delta):
        return wording.DASH
    return f"{points(row.delta)}\n{bounds(row.delta_interval, 1, 100.0)}"


def _effect(row: Row) -> str:
    found = row.adjusted
    if not math.isfinite(found.log_odds):
        return wording.DASH
    return f"{wording.signed(found.log_odds, 2)}\n{bounds(found.interval, 1)}"


def _interaction(row: Row) -> str:
    if row.interaction is None:
        return wording.DASH
    mark = "true" if row.true_synergy else f"p {wording.probability(row.p_interaction)}"
    return f"{points(row.interaction.additive)}\n{mark}"


def _standing(row: Row) -> str:
    if row.leak_suspect:
        return "LEAK\nSUSPECT"
    return wording.DASH if row.standing is Standing.NOTHING else row.standing.value


def _list(names: Iterable[str], most: int = 6) -> str:
    told = list(names)
    return ", ".join(told[:most]) + (f" and {len(told) - most} more" if len(told) > most else "")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what[:-1] if n == 1 and what.endswith('s') else what}"


def marked(answer: GateAnswer) -> str:
    """How the page's verdict is coloured: ``edge`` only where something may become a gate."""
    return "edge" if answer.report.honest else "none"


FOOTNOTES: tuple[str, ...] = (
    f"p, all looks: corrected for every look of the search (max-T); below {LEVEL:g} is discovered.",
    "shrunk: delta with the noise of all deltas taken out. beside score: log-odds added at equal score and bucket.",
    "net R: mean and 95 % interval from resampled days. nested: one member contains the other; no synergy is told.",
)
