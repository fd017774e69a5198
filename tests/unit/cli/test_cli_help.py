from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main

from racimo.cli.commands.serial import new_text
from racimo.cli.main import build
from racimo.cli.reference import TARGET, leaves, reference
from racimo.cli.units import parse_bandwidth, size, span

if TYPE_CHECKING:
    from conftest import Racimo

COMMANDS = {" ".join(path): command for path, command in leaves(typer.main.get_command(build()))}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.split()[1] != "lab"])
def test_every_command_teaches_and_speaks_json(name: str) -> None:
    command = COMMANDS[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert command.help is not None
    assert "Example:" in command.help
    assert name in command.help


def test_the_reference_is_that_of_the_commands() -> None:
    page = Path(__file__).parents[3] / TARGET
    assert page.read_text() == reference(), "write it anew: python -m racimo.cli.reference"


def test_what_the_tutorial_needs_is_there() -> None:
    wanted = {
        "racimo init", "racimo status", "racimo cluster create", "racimo cluster join-info", "racimo cluster join",
        "racimo cluster witness", "racimo cluster remove", "racimo guest create", "racimo guest migrate",
        "racimo guest serial", "racimo guest console", "racimo storage add", "racimo ha add", "racimo task log",
        "racimo api",
    }  # fmt: skip
    assert wanted <= COMMANDS.keys()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom racimo.cli.main import main\nmain(['--help'])\n"
        "print([name for name in ('aiohttp', 'racimo.api', 'racimo.lab', 'cryptography') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    assert said.stdout.splitlines()[-1] == "[]"


def test_a_misspelt_command_is_a_usage_error_with_the_likely_one(racimo: Racimo) -> None:
    said = racimo("guest", "strat", "100")
    assert (said.code, "'start'" in said.err) == (2, True)


def test_a_missing_argument_shows_the_form(racimo: Racimo) -> None:
    said = racimo("guest", "start", "--json")
    assert said.code == 2
    assert said.err.splitlines()[0] == "Error: Missing argument 'VMID'"
    assert isinstance(said.document, dict)


def test_the_version_is_printed(racimo: Racimo) -> None:
    said = racimo("--version")
    assert (said.code, said.out.count(".")) == (0, 2)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (8 << 30, "8.0 GiB"), (None, "-")]
)
def test_sizes_have_binary_units(count: float | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(1.26, "1.3 s"), (61, "1 min 1 s"), (90000, "1 d 1 h"), (None, "-")])
def test_spans_have_their_two_largest_units(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("text", "kib"), [("100M", 102400), ("1G", 1 << 20), ("2048", 2), ("0", 0)])
def test_a_bandwidth_is_sent_in_kib_per_second(text: str, kib: int) -> None:
    assert parse_bandwidth(text) == kib


@pytest.mark.parametrize("text", ["", "fast", "-1M", "M"])
def test_a_malformed_bandwidth_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_bandwidth(text)


def test_a_later_tail_of_a_console_shows_only_what_is_new() -> None:
    assert new_text("a\nb\n", "b\nc\nd\n") == "b\nc\nd\n"  # no overlap of all that was seen: shown whole
    assert new_text("a\nb\n", "a\nb\nc\n") == "c\n"
    assert new_text("a\nb\n", "a\nb\n") == ""
