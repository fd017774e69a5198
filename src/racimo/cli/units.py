"""Numbers as people read them: sizes, spans of time, percentages."""

from __future__ import annotations

from datetime import datetime

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MULTIPLES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def size(count: float | None) -> str:
    """``count`` bytes as text, such as ``1.5 GiB``; a dash where it is not known."""
    if count is None:
        return "-"
    for unit in _SIZES:
        if abs(count) < 1024 or unit == _SIZES[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def span(seconds: float | None) -> str:
    """A span of time by its two largest units, such as ``2 d 3 h``; a dash where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, parts = int(seconds), []
    for length, unit in _SPANS:
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def percent(fraction: float | None) -> str:
    """A fraction of one as per cent; a dash where it is not known."""
    return "-" if fraction is None else f"{fraction * 100:.0f} %"


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as local time; a dash where it is not known."""
    return "-" if not seconds else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def parse_bandwidth(text: str) -> int:
    """``100M`` (bytes per second) as KiB per second, which is what the API takes. Raises ``ValueError``."""
    number, unit = text.strip(), ""
    if number[-1:].upper() in _MULTIPLES and number:
        number, unit = number[:-1], number[-1].upper()
    count = float(number) * _MULTIPLES[unit]
    if count < 0:
        raise ValueError(text)
    return round(count / 1024)
