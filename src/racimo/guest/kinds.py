"""Kinds of configuration values: how each is read, written and described.

A kind reads text and raises ``ValueError`` with a sentence that says what is allowed; ``racimo.guest.config`` gathers
these into one ``BadParameter``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
"""Suffixes of sizes, in bytes."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value. ``syntax`` is what a person may write, as shown in help and errors."""

    syntax: str
    parse: Callable[[str], T]
    render: Callable[[T], str]


def parse_boolean(text: str) -> bool:
    """``1 on yes true`` or ``0 off no false``."""
    low = text.lower()
    if low in {"1", "on", "yes", "true"}:
        return True
    if low in {"0", "off", "no", "false"}:
        return False
    raise ValueError(f"'{text}' is not a boolean: 1 or 0")


BOOLEAN: Kind[bool] = Kind("<1|0>", parse_boolean, lambda value: "1" if value else "0")


def integer(low: int, high: int | None = None) -> Kind[int]:
    """A whole number from ``low`` to ``high``, both included."""
    span = f"{low} - {high}" if high is not None else f"{low} - N"

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise ValueError(f"'{text}' is not a whole number ({span})")
        value = int(text)
        if value < low or (high is not None and value > high):
            raise ValueError(f"{value} is out of range ({span})")
        return value

    return Kind(f"<integer ({span})>", parse, str)


def number(low: float, high: float) -> Kind[float]:
    """A decimal number from ``low`` to ``high``, both included."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not low <= float(text) <= high:
            raise ValueError(f"'{text}' is not a number from {low:g} to {high:g}")
        return float(text)

    return Kind(f"<number ({low:g} - {high:g})>", parse, lambda value: f"{value:g}")


def choice(*values: str) -> Kind[str]:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"'{text}' is not one of {', '.join(values)}")
        return text

    return Kind(f"<{' | '.join(values)}>", parse, str)


def pattern(name: str, expression: str, meaning: str, limit: int = 4096) -> Kind[str]:
    """Text that matches a regular expression in full; ``meaning`` says in words what is allowed."""
    compiled = re.compile(expression)

    def parse(text: str) -> str:
        if len(text) > limit:
            raise ValueError(f"is {len(text)} characters long; at most {limit} are allowed")
        if not compiled.fullmatch(text):
            raise ValueError(f"'{text}' is not {meaning}")
        return text

    return Kind(f"<{name}>", parse, str)


def text(limit: int, *, lines: bool = False) -> Kind[str]:
    """Free text of at most ``limit`` characters, of several lines if ``lines``."""

    def parse(value: str) -> str:
        if len(value) > limit:
            raise ValueError(f"is {len(value)} characters long; at most {limit} are allowed")
        if CONTROL.search(value.replace("\n", "").replace("\t", "") if lines else value):
            raise ValueError("contains control characters" if lines else "must be one line without control characters")
        return value

    return Kind("<text>" if lines else "<string>", parse, str)


def parse_size(text: str) -> int:
    """Bytes of ``8G``, ``512M``, ``1.5T`` or a plain number of bytes (1024-based units K, M, G, T)."""
    match = re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,6}))?([KMGT]?)", text)
    if not match:
        raise ValueError(f"'{text}' is not a size: a number with K, M, G or T, such as 8G")
    whole, fraction, unit = match.groups()
    return int(whole) * UNITS[unit] + int(float(f"0.{fraction or 0}") * UNITS[unit])


def render_size(size: int) -> str:
    """The shortest exact form: ``8G``, ``2252M``, or plain bytes."""
    for unit in ("T", "G", "M", "K"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)


SIZE: Kind[int] = Kind("<size, such as 8G>", parse_size, render_size)


def word_list(word: Kind[str], *, reads: str, writes: str) -> Kind[tuple[str, ...]]:
    """Several words, split at any character of ``reads``, joined by ``writes``."""

    def parse(value: str) -> tuple[str, ...]:
        return tuple(word.parse(part) for part in re.split(f"[{re.escape(reads)}]+", value) if part)

    return Kind(f"{word.syntax}[{writes}...]", parse, writes.join)


def split_properties(value: str, default: str | None) -> dict[str, str]:
    """The parts of ``a=1,b=2``; one part may go without its name if there is a ``default`` name."""
    parts: dict[str, str] = {}
    for part in value.split(","):
        name, sign, content = part.partition("=")
        if not sign:
            if default is None or not part:
                raise ValueError(f"'{part}' is not of the form name=value")
            name, content = default, part
        if name in parts:
            raise ValueError(f"'{name}' is given twice")
        parts[name] = content
    return parts


def attribute(name: str) -> str:
    """The Python attribute of a property, such as ``hv_vendor_id`` for ``hv-vendor-id``."""
    return name.replace("-", "_")


def properties(
    make: Callable[..., T],
    fields: Mapping[str, Kind[Any]],
    *,
    default: str | None = None,
    required: tuple[str, ...] = (),
    unsupported: tuple[str, ...] = (),
) -> Kind[T]:
    """A comma-separated list of ``name=value``; ``make`` gets those given, by attribute name.

    ``default`` names the property whose name may be left out. Properties in ``unsupported`` belong to the grammar but
    are refused with that word instead of "unknown".
    """

    def parse(value: str) -> T:
        values: dict[str, Any] = {}
        for name, content in split_properties(value, default).items():
            if name in unsupported:
                raise ValueError(f"'{name}' is not supported by Racimo; leave it out")
            if name not in fields:
                raise ValueError(f"'{name}' is unknown; allowed are {', '.join(fields)}")
            try:
                values[attribute(name)] = fields[name].parse(content)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        for name in required:
            if attribute(name) not in values:
                raise ValueError(f"'{name}' is missing")
        return make(**values)

    def render(value: T) -> str:
        parts = []
        for name, kind in fields.items():
            content = getattr(value, attribute(name))
            if content is not None:
                parts.append(kind.render(content) if name == default else f"{name}={kind.render(content)}")
        return ",".join(parts)

    shown = [
        f"[{name}=]{kind.syntax}"
        if name == default
        else (f",{name}={kind.syntax}" if name in required else f"[,{name}={kind.syntax}]")
        for name, kind in fields.items()
    ]
    return Kind("".join(shown).lstrip(","), parse, render)
