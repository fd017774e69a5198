"""The log of one task: a bounded text file, one line per line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

MAX_BYTES = 4 << 20
"""Of one task's log; what comes after is left out, and the log says so."""
MAX_LINE = 4096
"""Characters of one line; the rest of it is cut."""

_log = structlog.get_logger()


class LogLine(NamedTuple):
    """A line of a task's log; ``n`` counts from 1."""

    n: int
    t: str


class TaskLog:
    """Appends to one task's log. A full or broken disk loses lines and tells so once; it never fails the task."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._left, self._file, self._broken = path, max_bytes, _opened(path), False
        self._full = False

    def write(self, text: str) -> None:
        """Append ``text``, each of its lines as a line."""
        for line in text.splitlines() or [""]:
            self._append(_printable(line))

    def end(self, text: str) -> None:
        """Append the last line, however full the log is, and close it."""
        self._full, self._left = False, MAX_LINE + 1
        self.write(text.splitlines()[0] if text else "")
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._lost(error)
            self._file = None

    def _append(self, line: str) -> None:
        if self._file is None or self._full:
            return
        if len(line) + 1 > self._left:
            line, self._full = "… the log is full, further lines are left out", True
        self._left -= len(line) + 1
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        if not self._broken:
            _log.warning("lines of a task's log are lost", path=str(self.path), error=str(error))
        self._broken = True


def read_log(path: Path, start: int = 0, limit: int = 50) -> tuple[list[LogLine], int]:
    """Up to ``limit`` lines (0: all) after the first ``start``, and how many lines there are in all."""
    lines: list[LogLine] = []
    total = 0
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for total, line in enumerate(file, 1):
                if total > start and (limit <= 0 or len(lines) < limit):
                    lines.append(LogLine(total, line.rstrip("\n")))
    except FileNotFoundError:
        return [], 0
    return lines, total


def _opened(path: Path) -> IO[str] | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        _log.warning("a task runs without a log", path=str(path), error=str(error))
        return None


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line[:MAX_LINE])
