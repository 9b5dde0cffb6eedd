"""``python -m scripts.rooms``: how large each room of the house is."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOMS = (
    "signals", "phantom", "scorer", "qscore", "decision", "persistence", "market", "runtime", "worker", "lab",
    "scripts", "tests",
)  # fmt: skip
ENDINGS = {".py", ".lua", ".sql", ".j2", ".sh"}


def lines_by_room(root: Path) -> dict[str, tuple[int, int]]:
    """Files and lines of source per room, blank lines and comments included."""
    found = {}
    for room in ROOMS:
        texts = [path.read_text("utf-8") for path in (root / room).rglob("*") if path.suffix in ENDINGS]
        found[room] = (len(texts), sum(len(text.splitlines()) for text in texts))
    return found


def main() -> None:
    """Print the table."""
    table = Table("room", "files", "lines", title="Lines per room")
    for room, (files, lines) in lines_by_room(Path(__file__).parent.parent).items():
        table.add_row(room, str(files), f"{lines:,}")
    Console().print(table)


if __name__ == "__main__":
    main()
