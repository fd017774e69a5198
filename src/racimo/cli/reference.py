"""Writes docs/reference/cli.md from the commands themselves: ``python -m racimo.cli.reference``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import typer.main

from racimo.cli.exits import ExitCode
from racimo.cli.main import build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.core import TyperCommand, TyperGroup

TARGET = Path("docs/reference/cli.md")
_TAUGHT = re.compile(r"\[dim\](Example|Next):\[/dim\]  (.*)")
_SHARED = {"--help", "--json", "--no-wait"}

_HEAD = """# `racimo`

<!-- Made by `python -m racimo.cli.reference`; edit the commands, not this page. -->

`racimo` asks the node of this machine over its socket `/run/racimo/node.sock`, as root. Any node can be asked about
the whole datacenter. `--socket PATH` before the command, or `RACIMO_SOCKET`, names another node's socket.

* `--json` on every command prints one JSON document; commands that follow something print one document per line.
  An error is `{"error": {"kind", "what", "why", "todo", "exit_code"}}`.
* A command that begins a task waits for its end, with a bar when that takes over a second. `--no-wait` prints the
  task's UPID and ends. Ctrl-C leaves the task running and prints its UPID; a second Ctrl-C within 3 s cancels it.
* Errors go to standard error: what happened, why, what to do.
* Completion, of guests and nodes too: `racimo --install-completion`.

## Exit codes

| code | |
|---|---|
"""


def leaves(
    command: TyperCommand | TyperGroup, path: tuple[str, ...] = ("racimo",)
) -> Iterator[tuple[tuple[str, ...], TyperCommand | TyperGroup]]:
    """Every command below ``command`` that is no group, with its words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, entry in below.items():
        yield from leaves(entry, (*path, name))


def reference() -> str:
    """The page."""
    root = typer.main.get_command(build())
    lines = [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    return _HEAD + "\n".join(lines) + "\n" + "".join(_sections(root))


def _sections(root: object) -> Iterator[str]:
    entries: dict[str, TyperCommand | TyperGroup] = getattr(root, "commands", {})
    for name, entry in entries.items():
        below = getattr(entry, "commands", None)
        if below is None:
            yield f"\n## `racimo {name}`\n\n{_body(('racimo', name), entry)}"
        elif not below:
            yield f"\n## `racimo {name}`\n\n{entry.help}\n\n`racimo {name} --help` lists its commands.\n"
        else:
            yield f"\n## `racimo {name}`\n\n{entry.help}\n"
            for path, command in leaves(entry, ("racimo", name)):
                yield f"\n### `{' '.join(path)}`\n\n{_body(path, command)}"


def _body(path: tuple[str, ...], command: TyperCommand | TyperGroup) -> str:
    text, examples, then = _taught(command.help or "")
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    own = [option for option in options if not _SHARED & set(option.opts)]
    usage = " ".join([*path, *(_shown(argument) for argument in arguments), *(["[OPTIONS]"] if own else [])])
    pieces = [text, f"```\n{usage}\n```"]
    rows = [f"| `{_shown(entry)}` | {_help(entry)} |" for entry in [*arguments, *own]]
    if rows:
        pieces.append("\n".join(["| | |", "|---|---|", *rows]))
    pieces.append("```\n" + "\n".join(examples) + "\n```")
    if then:
        pieces.append(f"Next: {then}.")
    return "\n\n".join(pieces) + "\n"


def _taught(text: str) -> tuple[str, list[str], str]:
    told, examples, then = [], [], ""
    for paragraph in text.split("\n\n"):
        match = _TAUGHT.fullmatch(paragraph)
        if match is None:
            told.append(" ".join(paragraph.split()))
        elif match[1] == "Example":
            examples.append(match[2].replace("\\[", "["))
        else:
            then = match[2].replace("\\[", "[")
    return "\n\n".join(told), examples, then


def _shown(parameter: object) -> str:
    options: list[str] = getattr(parameter, "opts", [])
    metavar = getattr(parameter, "metavar", None) or ""
    if getattr(parameter, "param_type_name", "") == "argument":
        name = metavar or options[0].upper()
        return name if getattr(parameter, "required", False) or name.startswith("[") else f"[{name}]"
    return f"{', '.join(options)} {metavar}".rstrip()


def _help(parameter: object) -> str:
    return " ".join(str(getattr(parameter, "help", "") or "").split()).replace("|", "\\|")


def main() -> int:
    """Write the page, below the current directory."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
