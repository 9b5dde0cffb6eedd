"""What a process holds that only serves a bundle, beside one that has scikit-learn; each is a fresh one.

Run as a script it is that process, so at its head it imports next to nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.clock import stopwatch
from scripts.bench_memory import peak_mb

if TYPE_CHECKING:
    from scripts.bench import Row

KEY = bytes(range(32))
TRAINERS = ("sklearn", "scipy", "learning")


def measure(bundle: Path, size: int, *, launches: int) -> list[Row]:
    """Import time and memory of both."""
    from scripts.bench import Row, percentile  # noqa: PLC0415 - not in the process that is measured

    served = [_launched(str(bundle)) for _ in range(launches)]
    loaded = [_launched() for _ in range(launches)]
    # Who serves does without the trainer, and the other side really has it.
    apart = not any(run["trainers"] for run in served) and all("sklearn" in run["trainers"] for run in loaded)
    agree = apart and len({run["said"] for run in served}) == 1 and served[0]["said"] is not None
    return [
        Row(
            work=f"{work}, against importing scikit-learn",
            size=size,
            ours=percentile([run[name] for run in served], 50),
            baseline=percentile([run[name] for run in loaded], 50),
            unit=unit,
            agree=agree,
        )
        for work, name, unit in (
            ("import all that serves", "import_s", "s"),
            ("peak memory, a bundle opened and asked", "peak_mb", "MB"),
        )
    ]


def _launched(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.bench_serving", *arguments]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)  # noqa: S603 - our own module
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _become(bundle: Path | None) -> dict[str, object]:
    started = stopwatch()
    if bundle is None:
        _import_pickled()
    else:
        _import_serving()
    import_s = stopwatch() - started
    said = None if bundle is None else _asked(bundle.read_bytes())
    rooms = {name.partition(".")[0] for name in sys.modules}
    return {
        "import_s": import_s,
        "peak_mb": peak_mb(),
        "said": said,
        "trainers": [name for name in TRAINERS if name in rooms],
    }


def _import_serving() -> None:
    """What `penumbra worker` imports."""
    import click  # noqa: F401, PLC0415 - timed

    import runtime.wiring  # noqa: F401, PLC0415
    import worker.client  # noqa: PLC0415
    import worker.queue  # noqa: F401, PLC0415


def _import_pickled() -> None:
    """What scoring with pickled heads would import."""
    import sklearn.ensemble  # noqa: PLC0415 - timed
    import sklearn.neural_network  # noqa: F401, PLC0415


def _asked(data: bytes) -> float | None:
    from scorer.bundle import Scored, unpack  # noqa: PLC0415 - imported by what serves, and timed with it
    from scorer.schema import SCALP  # noqa: PLC0415

    bundle = unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash)
    features: dict[str, float | str] = {feature.name: 0.5 for feature in SCALP.numbers}
    features |= {"session": "us", "volatility_regime": "normal", "symbol_cluster": "BTCUSDT"}
    found = bundle.score(SCALP.vector(features))
    return found.score if isinstance(found, Scored) else None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_become(Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
