"""How much memory a process has held, with nothing imported that would itself be measured."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_mb(pid: int | None = None) -> float:
    """The most resident memory, in MB, of this process or of another one; 0 where that cannot be known."""
    status = Path(f"/proc/{'self' if pid is None else pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    if pid is not None:
        return 0.0
    # Without /proc the figure may be that of the parent, when it was larger at the moment of the fork.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024.0 / (1024.0 if sys.platform == "darwin" else 1.0)
