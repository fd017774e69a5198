from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli_node import RunningNode

PROGRAM = "import sys; from racimo.cli.main import main; sys.exit(main())"


def completed(line: str, socket: Path) -> list[str]:
    """The words that zsh would offer for ``line``, whose last word is incomplete."""
    environment = {
        **os.environ, "RACIMO_SOCKET": str(socket), "_RACIMO_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": line,
    }  # fmt: skip
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, env=environment, timeout=30
    )
    assert said.stderr == ""
    return [word.split("\t")[0] for word in said.stdout.split("\n") if word]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("racimo guest start ", ["100", "200", "300"]),
        ("racimo guest start 2", ["200"]),
        ("racimo guest migrate 100 ", ["n1", "n2"]),
        ("racimo ha add vm:1", ["vm:100"]),
        ("racimo storage content l", ["local"]),
        ("racimo guest list --node ", ["n1", "n2"]),
        ("racimo clu", ["cluster"]),
        ("racimo api p", ["post", "put"]),
    ],
)
def test_names_are_completed_by_asking_the_node(node: RunningNode, line: str, words: list[str]) -> None:
    assert completed(line, node.socket) == words


def test_without_a_node_names_complete_to_nothing(tmp_path: Path) -> None:
    assert completed("racimo guest start ", tmp_path / "none.sock") == []
