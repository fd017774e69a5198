from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import structlog
from cli_node import RunningNode, running_node

from racimo.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningNode]:
    """A node that answers on a socket, with a real API server and real tasks; RACIMO_SOCKET names it."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with running_node(tmp_path) as running:
        monkeypatch.setenv("RACIMO_SOCKET", str(running.socket))
        yield running
    structlog.reset_defaults()


@dataclass(frozen=True)
class Said:
    """What a call of ``racimo`` printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> object:
        return json.loads(self.out)


class Racimo:
    """Calls ``racimo`` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Said:
        self._capsys.readouterr()
        code = main(list(words))
        out, err = self._capsys.readouterr()
        return Said(code, out, err)


@pytest.fixture
def racimo(capsys: pytest.CaptureFixture[str]) -> Racimo:
    return Racimo(capsys)


class Process:
    """``racimo`` as a process of its own, to press Ctrl-C at."""

    def __init__(self, *words: str) -> None:
        # whoever started these tests in the background has it ignore Ctrl-C
        argv = ["/usr/bin/env", "--default-signal=INT", sys.executable, "-m", "racimo.cli.main", *words]
        self._popen = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ctrl_c(self) -> None:
        os.kill(self._popen.pid, signal.SIGINT)

    def read_error_until(self, word: str) -> str:
        assert self._popen.stderr is not None
        seen = ""
        for line in self._popen.stderr:
            seen += line
            if word in line:
                return seen
        raise AssertionError(f"{word!r} was never said, but: {seen}")

    def end(self) -> Said:
        out, err = self._popen.communicate(timeout=30)
        return Said(self._popen.returncode, out, err)


@pytest.fixture
def racimo_process() -> Iterator[type[Process]]:
    started: list[Process] = []

    class Tracked(Process):
        def __init__(self, *words: str) -> None:
            super().__init__(*words)
            started.append(self)

    yield Tracked
    for process in started:
        if process._popen.poll() is None:
            process._popen.kill()
        process._popen.communicate(timeout=10)
