from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli_node import RunningNode

PATIENCE = 20.0


class Terminal:
    """``racimo`` at a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "racimo.cli.main", *words],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def wait_for(self, word: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while word not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{word!r} was never shown, but: {self.seen}"
            if select.select([self._master], [], [], left)[0]:
                self.seen += os.read(self._master, 4096).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ctrl_c(self) -> None:
        """What the terminal does at Ctrl-C, were it the controlling one."""
        os.kill(self._popen.pid, signal.SIGINT)

    def end(self) -> int:
        try:
            while chunk := os.read(self._master, 4096):
                self.seen += chunk.decode(errors="replace")
        except OSError:  # the other end of the terminal is closed: the process ended
            pass
        os.close(self._master)
        return self._popen.wait(timeout=PATIENCE)


def test_a_task_over_a_second_shows_a_bar_with_what_is_being_done(node: RunningNode) -> None:
    terminal = Terminal("guest", "start", "200")
    terminal.wait_for("copying the disk")
    node.open_gate()
    assert terminal.end() == 0
    assert "Guest 200 runs on n1." in terminal.seen


def test_enter_after_ctrl_c_leaves_the_task(node: RunningNode) -> None:
    terminal = Terminal("guest", "start", "200")
    node.wait_until_starting()
    terminal.ctrl_c()
    terminal.wait_for("Ctrl-C again cancels it")
    terminal.type("\n")
    assert terminal.end() == 130
    assert "Left running" in terminal.seen
    node.open_gate()


def test_destroying_asks_at_a_terminal_and_no_is_no(node: RunningNode) -> None:
    terminal = Terminal("guest", "destroy", "100")
    terminal.wait_for("[y/N]")
    terminal.type("n\n")
    assert terminal.end() == 130
    assert 100 in node.world.guests
