"""The tasks of a node on disk: a journal of starts and ends, and the logs beside it.

A task with a start and no end when the journal is opened was running when the daemon died: it is closed as
interrupted. The newest ended tasks are kept; older ones go with their logs.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from racimo.errors import BadParameter
from racimo.task.failure import Failure
from racimo.task.record import INTERRUPTED, Phase, TaskRecord
from racimo.task.upid import Upid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import IO

KEEP = 1000
"""Ended tasks that stay listed."""

_log = structlog.get_logger()


class TaskArchive:
    """Opens ``folder`` (created if missing) and reads its journal. One daemon at a time may have it open."""

    def __init__(self, folder: Path, clock: Callable[[], float], keep: int = KEEP) -> None:
        self.folder, self._clock, self._keep = folder, clock, keep
        self._ended: dict[str, TaskRecord] = {}
        self._running: dict[str, Upid] = {}
        self._journal: IO[str] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._load()
        except OSError as error:
            _log.error("the tasks of before cannot be read; they are not listed", folder=str(folder), error=str(error))
        for upid in list(self._running.values()):
            self._running.pop(str(upid))
            failure = Failure("Cancelled", INTERRUPTED.partition(":")[0], INTERRUPTED.partition(": ")[2])
            self._ended[str(upid)] = TaskRecord(upid, Phase.ENDED, 0.0, "", clock(), INTERRUPTED, failure)
        self._compact()

    @property
    def ended(self) -> Iterable[TaskRecord]:
        """The ended tasks that are kept, oldest end first."""
        return self._ended.values()

    def find(self, upid: Upid) -> TaskRecord | None:
        """An ended task, or None."""
        return self._ended.get(str(upid))

    def log_path(self, upid: Upid) -> Path:
        """Where the task's log stands: spread over 256 folders."""
        return self.folder / f"{(upid.serial ^ upid.start) & 0xFF:02X}" / str(upid)

    def started(self, upid: Upid) -> None:
        """Note that a task begins."""
        self._running[str(upid)] = upid
        self._append({"upid": str(upid)})

    def finished(self, task: TaskRecord) -> None:
        """Note that a task ended, and let the oldest go when there are too many."""
        self._running.pop(str(task.upid), None)
        self._ended[str(task.upid)] = task
        self._append(_line(task))
        if len(self._ended) > self._keep + max(self._keep // 4, 1):
            self._compact()

    def close(self) -> None:
        """Close the journal; nothing may be noted afterwards."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @property
    def _path(self) -> Path:
        return self.folder / "journal"

    def _load(self) -> None:
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                self._replay(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, BadParameter):
                _log.warning("a line of the task journal is not readable and left out", line=line[:200])

    def _replay(self, entry: dict[str, object]) -> None:
        upid = Upid.parse(str(entry["upid"]))
        if "end" not in entry:
            self._running[str(upid)] = upid
            return
        self._running.pop(str(upid), None)
        self._ended[str(upid)] = _record(upid, entry)

    def _compact(self) -> None:
        """Write the journal anew with what is kept, by rename, and remove the logs of what is not."""
        self.close()
        fresh = self._path.with_suffix(".new")
        try:
            for upid in list(self._ended)[: max(len(self._ended) - self._keep, 0)]:
                self.log_path(self._ended.pop(upid).upid).unlink(missing_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                for upid in self._running:
                    file.write(json.dumps({"upid": upid}) + "\n")
                for task in self._ended.values():
                    file.write(json.dumps(_line(task)) + "\n")
            os.replace(fresh, self._path)
        except OSError as error:
            _log.warning("the task journal could not be written anew", path=str(self._path), error=str(error))

    def _append(self, entry: dict[str, object]) -> None:
        try:
            if self._journal is None:
                self._journal = self._path.open("a", encoding="utf-8")
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()
        except OSError as error:
            _log.warning("the task journal could not be written", path=str(self._path), error=str(error))


def _line(task: TaskRecord) -> dict[str, object]:
    line: dict[str, object] = {"upid": str(task.upid), "end": task.end, "status": task.exitstatus}
    if task.failure is not None:
        line["failure"] = asdict(task.failure)
    return line


def _record(upid: Upid, entry: dict[str, object]) -> TaskRecord:
    failure = entry.get("failure")
    return TaskRecord(
        upid,
        phase=Phase.ENDED,
        end=float(str(entry["end"])),
        exitstatus=str(entry["status"]),
        failure=Failure(**failure) if isinstance(failure, dict) else None,
    )
