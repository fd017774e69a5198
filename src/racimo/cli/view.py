"""What a command hands back: a value for ``--json`` and the way it looks to a person."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from racimo.cli.answer import Json, Row

GOOD, BAD, DOUBTFUL, QUIET = "green", "bold red", "yellow", "dim"
_STYLES = {
    "running": GOOD, "online": GOOD, "started": GOOD, "OK": GOOD, "active": GOOD, "yes": GOOD, "available": GOOD,
    "stopped": QUIET, "disabled": QUIET, "ignored": QUIET,
    "paused": DOUBTFUL, "starting": DOUBTFUL, "stopping": DOUBTFUL, "unknown": DOUBTFUL, "migrate": DOUBTFUL,
    "recovery": DOUBTFUL, "relocate": DOUBTFUL, "maintenance": DOUBTFUL,
    "offline": BAD, "error": BAD, "fence": BAD, "gone": BAD,
}  # fmt: skip


def style_of(word: str) -> str:
    """The colour of a state; none for a word that is not one."""
    return _STYLES.get(word, "")


class View(ABC):
    """The result of a command."""

    @abstractmethod
    def document(self) -> Json:
        """The one JSON document of ``--json``; its shape is kept from release to release."""

    @abstractmethod
    def show(self, console: Console) -> None:
        """Print it for a person."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, the text of a cell, and ``number`` for those that line up on the right."""

    title: str
    cell: Callable[[Row], str]
    number: bool = False


@dataclass(frozen=True, slots=True)
class Table(View):
    """Rows under columns. ``empty`` says what to do first when there are none."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    empty: str
    title: str = ""

    def document(self) -> Json:
        return [entry.fields for entry in self.rows]

    def show(self, console: Console) -> None:
        if not self.rows:
            console.print(self.empty, markup=False, highlight=False, soft_wrap=True)
            return
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        title = self.title or None
        table = RichTable(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, show_edge=False)
        for column in self.columns:
            table.add_column(column.title, justify="right" if column.number else "left", overflow="fold")
        for entry in self.rows:
            cells = [column.cell(entry) for column in self.columns]
            table.add_row(*(Text(cell, style=style_of(cell)) for cell in cells))
        console.print(table)


@dataclass(frozen=True, slots=True)
class Facts(View):
    """One thing as ``name: value`` lines, over the object that was answered."""

    lines: Sequence[tuple[str, str]]
    value: Json

    def document(self) -> Json:
        return self.value

    def show(self, console: Console) -> None:
        from rich.text import Text

        width = max((len(name) for name, _ in self.lines), default=0)
        for name, text in self.lines:
            console.print(Text(f"{name:<{width}}  ", style="bold") + Text(text, style=style_of(text)), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Done(View):
    """A sentence that says what was done, and the next step."""

    text: str
    value: Json = None
    then: str = ""

    def document(self) -> Json:
        return self.value

    def show(self, console: Console) -> None:
        if self.text:
            console.print(self.text, markup=False, highlight=False, soft_wrap=True)
        if self.then:
            console.print(f"Next: {self.then}", style=QUIET, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Lines(View):
    """Plain text, line by line, just as it came."""

    lines: Sequence[str]
    value: Json

    def document(self) -> Json:
        return self.value

    def show(self, console: Console) -> None:
        for line in self.lines:
            console.out(line, highlight=False)


@dataclass(frozen=True, slots=True)
class Raw(View):
    """An answer as it came, printed as JSON for people too."""

    value: Json

    def document(self) -> Json:
        return self.value

    def show(self, console: Console) -> None:
        console.out(json.dumps(self.value, indent=2, ensure_ascii=False), highlight=False)


@dataclass(frozen=True, slots=True)
class Page(View):
    """Several views below each other."""

    parts: Sequence[View]
    value: Json = field(default=None)

    def document(self) -> Json:
        return self.value

    def show(self, console: Console) -> None:
        for number, part in enumerate(self.parts):
            if number:
                console.print()
            part.show(console)
