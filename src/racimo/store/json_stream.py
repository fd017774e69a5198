"""Splits a byte stream into the JSON values that stand in it one after the other."""

from __future__ import annotations

import codecs
import json
from typing import Any

MAX_OBJECT = 128 * 1024 * 1024
"""Characters after which an object that does not end is given up."""


class JsonStream:
    """Fed with chunks cut anywhere, gives each JSON object once it is complete; newlines and chunks mean nothing."""

    def __init__(self) -> None:
        self._buffer = ""
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._decoder = json.JSONDecoder()

    def feed(self, chunk: bytes) -> list[Any]:
        """The values completed by ``chunk``. Raises ``ValueError`` when the bytes are no UTF-8 or no JSON objects."""
        self._buffer += self._text.decode(chunk)
        if len(self._buffer) > MAX_OBJECT:
            raise ValueError(f"an object of more than {MAX_OBJECT} characters")
        values: list[Any] = []
        if not self._buffer.endswith(("}", "\n")):
            return values  # the last object is open: a large one is not parsed over and over
        at = self._start(0)
        while at < len(self._buffer):
            try:
                value, at = self._decoder.raw_decode(self._buffer, at)
            except ValueError:
                break
            values.append(value)
            at = self._start(at)
        self._buffer = self._buffer[at:]
        return values

    def _start(self, at: int) -> int:
        """Where the next object begins at or after ``at``."""
        while at < len(self._buffer) and self._buffer[at] in " \t\r\n":
            at += 1
        if at < len(self._buffer) and self._buffer[at] != "{":
            raise ValueError(f"no JSON object: {self._buffer[at : at + 40]!r}")
        return at
