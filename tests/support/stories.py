"""Long random lives of a namespace: most commands meet a position in a state where they mean something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from decision.decide import Action
from persistence.breakers import RESETTABLE, generation
from persistence.store import ClockKind, CloseHow, Mode, PublishCommand, Store, StoredPosition, TableCommand
from signals.breaker import NO_BREAKERS, Thresholds
from signals.profile import Limits
from signals.reasons import Reason
from tests.support.stores import BELOW, DAY, HOUR, MINUTE, SECOND, T0, UNLIMITED, ending, signal

Run = Callable[[Store, int], object]
Item = TypeVar("Item")

TIGHT = Limits(
    open_positions=3, per_symbol=2, executes_per_minute=3, daily_loss_r=2.5, daily_loss_money=90.0, tracked_positions=6
)
NERVOUS = Thresholds(
    drawdown_r=1.5,
    drawdown_percent=5.0,
    starting_equity=1_000.0,
    losing_streak=2,
    orders_per_second=1,
    slippage_ratio=1.5,
    slippage_floor_r=0.01,
    regime_confidence=0.5,
    latency_ms=0.05,
    stale_periods=0,
)
LOSSES = replace(UNLIMITED, daily_loss_r=1.5, daily_loss_money=90.0)
BLIND = replace(NO_BREAKERS, stale_periods=3, watch_every_s=60)
STEP_MS = 300_000
WHY = {Action.EXECUTE: Reason.SCORE_PASSED, Action.PHANTOM: BELOW, Action.REJECTED: Reason.GEOMETRY_STOP}
WAITS = [0] * 44 + [1, SECOND, SECOND, SECOND, 9 * SECOND, 11 * SECOND, MINUTE, HOUR, 20 * HOUR, 40 * HOUR]


@dataclass(frozen=True, slots=True)
class Step:
    """Some time passes, then something is asked of a store."""

    verb: str
    waits_ms: int
    run: Run


class Author:
    """Writes one story; the same seed writes the same one."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        # Of its own, so that what is explored does not change what else is told.
        self._explores = np.random.default_rng((seed, 1))
        self._names: list[str] = []
        self._last = ""

    def story(self, length: int) -> list[Step]:
        """So many steps."""
        return [self._step() for _ in range(length)]

    def _pick(self, items: Sequence[Item]) -> Item:
        return items[int(self._rng.integers(len(items)))]

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    def _step(self) -> Step:
        verbs: dict[str, tuple[int, Callable[[], Run]]] = {
            "decide": (24, self._decide),
            "claim": (30, self._claim),
            "lapse": (6, self._lapse),
            "touch": (12, self._touch),
            "close": (16, self._close),
            "fill": (9, self._fill),
            "correct": (14, self._correct),
            "path": (7, self._path),
            "mode": (4, self._mode),
            "register": (1, self._register),
            "create": (1, self._create),
            "prune": (3, self._prune),
            "train": (5, self._train),
            "publish": (7, self._publish),
            "settle": (5, self._settle),
            "point": (6, self._point),
            "table": (5, self._table),
            "refuse": (2, self._refuse),
            "order": (16, self._order),
            "thresholds": (3, self._thresholds),
            "see": (6, self._see),
            "watch": (2, self._watch),
            "reset": (5, self._reset),
        }
        verb = self._pick([name for name, (weight, _) in verbs.items() for _ in range(weight)])
        waits = 31 * DAY if verb == "prune" and self._chance(0.4) else self._pick(WAITS)
        return Step(verb, waits, verbs[verb][1]())

    def _known(self) -> str:
        if not self._names or self._chance(0.03):
            return "nobody"
        # Mostly the one that was spoken of last: a life of one position says more than a moment of many.
        if self._last not in self._names[-5:] or self._chance(0.3):
            self._last = self._pick(self._names[-4:])
        return self._last

    def _decide(self) -> Run:
        fresh = not self._names or self._chance(0.75)
        if fresh:
            self._names.append(f"s{len(self._names)}")
        name, want = (
            self._names[-1] if fresh else self._known(),
            self._pick([Action.EXECUTE] * 6 + [Action.PHANTOM] * 2 + [Action.REJECTED]),
        )
        age = 31 * SECOND if self._chance(0.05) else -3 * SECOND if self._chance(0.03) else SECOND
        lasts = self._pick([HOUR, 30 * HOUR])
        changes = {
            "prefix": self._pick(["phantom", "phantom", "scalp_phantom"]),
            "symbol": self._pick(["BTCUSDT", "ETHUSDT"]),
            "strategy": self._pick(["trend", "scalp"]),
            "bar": self._pick([None] * 9 + ["x", "y", "z"]),
            "ensemble": self._chance(0.5),
            "explored": bool(self._explores.random() < 0.2),
            "limits": self._pick([UNLIMITED, UNLIMITED, TIGHT]),
            "want": want,
            "reasons": (WHY[want],),
            "alternative": self._pick([Action.EXECUTE, Action.PHANTOM]),
            "fingerprint": "other" if self._chance(0.05) else "one",
            "confidence_micro": self._pick([None, None, None, None, 400_000, 500_000]),
            "latencies_us": (self._pick([10, 40, 40, 40, 90]),) * self._pick([0, 0, 1, 60]),
        }
        return lambda store, now: store.decide(
            signal(name, now_ms=now, signal_ms=now - age, entry_ms=now, deadline_ms=now + lasts, **changes)
        )

    def _claim(self) -> Run:
        name, engine = self._known(), self._pick(["e1", "e1", "e1", "e2"])
        if not self._chance(0.1):
            return lambda store, now: store.claim(name, engine, now_ms=now)

        def halted_meanwhile(store: Store, now: int) -> object:
            store.set_mode(Mode.HALT, actor="me", reason="meanwhile", now_ms=now)
            reply = store.claim(name, engine, now_ms=now)
            store.set_mode(Mode.ON, actor="me", reason="again", now_ms=now)
            return reply

        return halted_meanwhile

    def _lapse(self) -> Run:
        name = self._known()
        return lambda store, now: store.lapse(name, now_ms=now)

    def _on_position(self, command: Callable[[Store, StoredPosition, int], object]) -> Run:
        name, behind = self._known(), 1 if self._chance(0.15) else 0
        gone = self._chance(0.06)

        def run(store: Store, now: int) -> object:
            position = store.position(name)
            if position is None:
                return None
            seen = replace(position, version=position.version - behind)
            return command(store, replace(seen, signal_id="never") if gone else seen, now)

        return run

    def _touch(self) -> Run:
        result = '{"twin":1}' if self._chance(0.4) else None
        return self._on_position(
            lambda store, position, now: store.touch(position, f'{{"t":{now}}}', now, now_ms=now, result=result)
        )

    def _close(self) -> Run:
        how, report = self._pick([CloseHow.SIMULATION, CloseHow.REPORT, *CloseHow]), self._pick(["r1", "r2", "r11"])
        outcome, r_micro = self._pick([("win", 2_000_000), ("loss", -1_000_000), ("loss", -700_000), ("timeout", 0)])
        changes = {
            "how": how,
            "report_id": report if how is CloseHow.REPORT else "",
            "outcome": outcome,
            "learned": outcome != "timeout",
            "win": outcome == "win",
            "r_micro": r_micro,
            "money_micro": 50 * r_micro,
        }
        return self._on_position(
            lambda store, position, now: store.close(replace(ending(position, now_ms=now), **changes))
        )

    def _path(self) -> Run:
        known = self._chance(0.7)
        return self._on_position(
            lambda store, position, now: store.record_path(
                position, f'{{"id":"{position.signal_id}","at":{now}}}', known=known, now_ms=now
            )
        )

    def _fill(self) -> Run:
        fill, slip = self._pick(["r1", "r2", "r11"]), self._pick([None, 10_000, 90_000])
        # Now and then an order comes in many pieces: a verdict on slippage needs twenty fills.
        pieces = [fill, *(f"{fill}-{piece}" for piece in range(self._pick([0, 12])))]

        def run(store: Store, position: StoredPosition, now: int) -> object:
            replies = [
                store.fill(
                    position.signal_id,
                    position.prefix,
                    piece,
                    f"[{now}]",
                    now_ms=now,
                    slip_micro=slip,
                    expected_micro=20_000,
                )
                for piece in pieces
            ]
            return replies[0]

        return self._on_position(run)

    def _order(self) -> Run:
        """A whole trade in a moment, so that results and orders add up: decide, claim, and mostly a loss."""
        self._names.append(f"s{len(self._names)}")
        name, model, pause = self._names[-1], self._chance(0.5), self._pick([0, 0, 0, 2 * SECOND])
        # What stands between decision and claim is told only where it came in between.
        between = self._pick([None, None, None, NERVOUS, BLIND, Mode.HALT])
        afterwards, pieces = self._pick([NO_BREAKERS, NO_BREAKERS, None]), self._pick([0, 0, 20])
        r_micro = self._pick([-1_000_000, -1_000_000, 2_000_000, None])

        def run(store: Store, now: int) -> object:
            open_ = {"signal_ms": now, "entry_ms": now, "deadline_ms": now + HOUR, "limits": LOSSES}
            decided = store.decide(signal(name, now_ms=now, ensemble=model, **open_))
            if isinstance(between, Mode):
                store.set_mode(between, actor="me", reason="fire", now_ms=now)
            elif between is not None:
                store.configure_breakers(between, now_ms=now)
            go = store.claim(name, "e1", now_ms=now + pause)
            if go is Reason.CLAIM_GO and r_micro is not None:
                position = store.position(name)
                if position is not None:
                    for piece in range(pieces):
                        told_slip = {"slip_micro": 90_000, "expected_micro": 20_000}
                        store.fill(name, position.prefix, str(piece), "[]", now_ms=now + pause, **told_slip)
                    report = replace(
                        ending(position, now_ms=now + pause),
                        outcome="win" if r_micro > 0 else "loss",
                        how=CloseHow.REPORT,
                        report_id="o",
                        r_micro=r_micro,
                        money_micro=50 * r_micro,
                    )
                    store.close(report)
            if isinstance(between, Mode):
                store.set_mode(Mode.ON, actor="me", reason="out", now_ms=now)
            if afterwards is not None:
                store.configure_breakers(afterwards, now_ms=now)
            return decided.decision.reasons, go

        return run

    def _thresholds(self) -> Run:
        chosen = self._pick([NO_BREAKERS, NERVOUS, NERVOUS, NERVOUS, BLIND])
        return lambda store, now: store.configure_breakers(chosen, now_ms=now)

    def _see(self) -> Run:
        symbol, ahead = self._pick(["BTCUSDT", "ETHUSDT"]), self._pick([0, 0, 0, HOUR, -HOUR])
        return lambda store, now: store.see_candle(symbol, STEP_MS, now + ahead, now_ms=now)

    def _watch(self) -> Run:
        return lambda store, now: store.watch_breakers(now_ms=now)

    def _reset(self) -> Run:
        name, behind = self._pick([*RESETTABLE, "latency"]), self._pick([0, 0, 1])

        def run(store: Store, now: int) -> object:
            seen = generation(store.breaker_inputs(now_ms=now).entry, name)
            return store.reset_breaker(name, actor="me and you", expected=seen - behind, now_ms=now)

        return run

    def _correct(self) -> Run:
        report, learned = self._pick(["r1", "r2", "r11"]), self._chance(0.7)
        late = not learned and report != "r1"

        def correct(store: Store, position: StoredPosition, now: int) -> object:
            return store.correct(position, report, f"[{now}]", learned=learned, now_ms=now, timed_out=late)

        return self._on_position(correct)

    def _mode(self) -> Run:
        mode, expected = self._pick([Mode.ON] * 6 + [*Mode]), self._pick([None, None, 1, 2])
        return lambda store, now: store.set_mode(mode, actor="me", reason="why", now_ms=now, expected=expected)

    def _register(self) -> Run:
        settings = self._pick(["{}", '{"a":1}'])
        # Boundaries within reach, so that a story asks for training.
        return lambda store, now: store.register("trend", settings, "70", first_training=2, now_ms=now)

    def _train(self) -> Run:
        strategy = self._pick(["trend", "scalp"])
        return lambda store, now: store.begin_training(strategy, now_ms=now)

    def _publish(self) -> Run:
        strategy, behind, address = self._pick(["trend", "scalp"]), self._pick([0, 0, 0, 1, -1]), self._pick("abc")

        def run(store: Store, now: int) -> object:
            known = store.training(strategy)
            return store.publish(
                PublishCommand(
                    strategy=strategy,
                    attempt=known.attempt - behind,
                    address=address,
                    trained_count=known.completed,
                    next_at=known.completed + 2,
                    network=False,
                    tables=f'{{"of":"{address}"}}' if address != "c" else "",
                    manifest=f'{{"of":"{address}"}}',
                    now_ms=now,
                )
            )

        return run

    def _table(self) -> Run:
        strategy, more, address = self._pick(["trend", "scalp"]), self._pick([0, 0, 1]), self._pick("xyz")

        def run(store: Store, now: int) -> object:
            # As live: taught by all outcomes so far, so that a count comes again; at times a newer one.
            count = store.training(strategy).table_count + more
            return store.set_table(
                TableCommand(strategy=strategy, count=count, address=address, table=f'{{"h":"{address}"}}', now_ms=now)
            )

        return run

    def _refuse(self) -> Run:
        strategy, address, code = self._pick(["trend", "scalp"]), self._pick("ab"), self._pick(["BUNDLE_CORRUPT", "X"])
        return lambda store, now: store.refuse(strategy, address, code=code, detail="why", now_ms=now)

    def _settle(self) -> Run:
        strategy, behind = self._pick(["trend", "scalp"]), self._pick([0, 0, 1])

        def run(store: Store, now: int) -> object:
            known = store.training(strategy)
            next_at = known.completed + 2
            return store.settle(
                strategy,
                known.attempt - behind,
                reason="LEARN_AUC",
                detail="x",
                next_at=next_at,
                now_ms=now,
                body=f'{{"n":{next_at}}}',
            )

        return run

    def _point(self) -> Run:
        strategy, address, stale = self._pick(["trend", "scalp"]), self._pick("abc"), self._chance(0.2)

        def run(store: Store, now: int) -> object:
            expected = "z" if stale else store.training(strategy).bundle or ""
            return store.point(strategy, address, expected=expected, actor="me", now_ms=now)

        return run

    def _create(self) -> Run:
        return lambda store, now: store.create(ClockKind.LIVE, now_ms=now)

    def _prune(self) -> Run:
        return lambda store, now: store.prune(now)


def readings(store: Store, now: int, names: Sequence[str]) -> list[object]:
    """All that can be read of a store."""
    return [
        [(store.decision(name), store.position(name)) for name in names],
        store.control(),
        [(store.training(name), dict(store.manifests(name))) for name in ("trend", "scalp")],
        [store.table(name, address) for name in ("trend", "scalp") for address in "abcxyz"],
        [(store.refusals(name), store.attempts(name), store.metrics(name)) for name in ("trend", "scalp")],
        [(list(rows), dict(laid)) for rows, laid in (store.trades("trend"), store.trades("scalp"))],
        [list(store.timeouts(name)) for name in ("trend", "scalp")],
        [list(store.open_positions(name)) for name in ("trend", "scalp")],
        store.clock_kind(),
        _inputs(store, now),
        [list(store.paths(name)) for name in ("trend", "scalp")],
        [list(store.awaiting_path(symbol)) for symbol in ("BTCUSDT", "ETHUSDT")],
        [list(store.following(symbol, after)) for symbol in ("BTCUSDT", "ETHUSDT") for after in (0, 40)],
        list(store.followed_symbols()),
        # In whose order among equal moments is nobody's promise.
        sorted(store.overdue_claims(now)),
        sorted(position.signal_id for position in store.unreported(now)),
        sorted(position.signal_id for position in store.overdue(now)),
    ]


def _inputs(store: Store, now: int) -> object:
    inputs = store.breaker_inputs(now_ms=now)
    return replace(
        inputs,
        entry=dict(inputs.entry),
        seen=dict(inputs.seen),
        latencies=tuple(inputs.latencies),
        history=tuple(inputs.history),
    )


def begin(store: Store) -> int:
    """Create the namespace and say when."""
    store.create(ClockKind.DATA, now_ms=T0)
    return T0
