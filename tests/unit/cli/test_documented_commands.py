"""Every ``racimo …`` that the documentation or a message tells people to type is a command that there is."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
import typer.main

from racimo.cli.main import build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.core import TyperCommand, TyperGroup

HERE = Path(__file__).parents[3]
PAGES = [HERE / "README.md", *sorted((HERE / "docs").rglob("*.md"))]
PLUGINS = ("lab", "simulate")
BLOCK = re.compile(r"^ *```[a-z]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINE = re.compile(r"^ *(?:[a-z][a-z0-9]*# )?(racimo [^#\n]*)", re.MULTILINE)
INDENTED = re.compile(r"^ {4,}(racimo [^#\n]*)", re.MULTILINE)
IN_TEXT = re.compile(r"(?<![\w/.`-])racimo ([a-z][a-z-]*(?: [a-z][a-z-]*)*)")
LEFT_OUT = re.compile(r"…|\.\.\.|\[")
"""What makes a command one that cannot be typed as it stands."""
PLACEHOLDER = re.compile(r"[A-Z]{2,}")
"""A word to be replaced, such as VMID."""


@functools.cache
def root(plugin: str) -> TyperGroup:
    return typer.main.get_command(build(plugin))


def named(words: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command that ``words`` name, and what is left of them; fails with the word that is no command."""
    command = root(words[0] if words[0] in PLUGINS else "")
    while words and (below := getattr(command, "commands", None)) is not None and not words[0].startswith("-"):
        assert words[0] in below, f"'{words[0]}' is none of {', '.join(below)}"
        command, words = below[words[0]], words[1:]
    return command, words


def parses(text: str, *, whole: bool) -> None:
    """Fails unless ``text`` can be typed. If it need not be ``whole``, parameters may be missing."""
    command, rest = named(shlex.split(text)[1:])
    if {"--help", "--version", "--install-completion"} & set(rest):
        return
    try:
        command.make_context("racimo", [PLACEHOLDER.sub("1", word) for word in rest if not LEFT_OUT.match(word)])
    except typer.TyperException as error:
        said = error.format_message()
        missing = not said or "Missing" in said or "requires an argument" in said
        assert missing and not whole, f"{text}: {said}"


def blocks(page: str) -> Iterator[str]:
    page = page.replace("\\\n", " ")
    for block in BLOCK.findall(page):
        yield from LINE.findall(block)
    yield from INDENTED.findall(BLOCK.sub("", page))


def spans(page: str) -> Iterator[str]:
    for span in SPAN.findall(BLOCK.sub("", page)):
        if span.startswith("racimo "):
            yield " ".join(span.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HERE)))
def test_every_command_of_the_documentation_can_be_typed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in blocks(text):
        parses(line, whole=not LEFT_OUT.search(line))
    for span in spans(text):
        parses(span, whole=False)


def texts(path: Path) -> Iterator[str]:
    """The strings of a module, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_every_command_that_a_message_names_is_there() -> None:
    modules = (HERE / "src/racimo").rglob("*.py")
    found = {match[1] for path in modules for text in texts(path) for match in IN_TEXT.finditer(text)}
    assert len(found) > 50
    for words in sorted(found):
        named(words.split())


@pytest.mark.parametrize(
    "text", ["racimo guest creat 100", "racimo guest create 100 --memmory 1", "racimo guest create"]
)
def test_what_cannot_be_typed_is_found(text: str) -> None:
    with pytest.raises(AssertionError):
        parses(text, whole=True)
