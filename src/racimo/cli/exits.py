"""Exit codes of ``racimo`` and the words in which an error is told: what, why, what to do."""

from __future__ import annotations

from enum import IntEnum

from racimo.errors import (
    AlreadyExists,
    BadRequest,
    Cancelled,
    Conflict,
    NotFound,
    RacimoError,
    Refused,
    StoreError,
    Unauthorised,
    Unreachable,
)


class ExitCode(IntEnum):
    """What a script may rely on. The numbers never change their meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    CANCELLED = 130

    @property
    def meaning(self) -> str:
        """One line for the help and the reference."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "it was tried and failed",
    ExitCode.USAGE: "the command or one of its parameters is malformed; nothing was changed",
    ExitCode.NOT_FOUND: "what was named does not exist; nothing was changed",
    ExitCode.REFUSED: "refused: it exists already, its state or a rule forbids it, or you may not; nothing was changed",
    ExitCode.UNREACHABLE: "no node answered, or the datacenter has no quorum",
    ExitCode.CANCELLED: "cancelled, or left running in the background after Ctrl-C",
}

_CODES: tuple[tuple[type[RacimoError], ExitCode], ...] = (
    (BadRequest, ExitCode.USAGE),
    (NotFound, ExitCode.NOT_FOUND),
    (AlreadyExists, ExitCode.REFUSED),
    (Conflict, ExitCode.REFUSED),
    (Refused, ExitCode.REFUSED),
    (Unauthorised, ExitCode.REFUSED),
    (Unreachable, ExitCode.UNREACHABLE),
    (StoreError, ExitCode.UNREACHABLE),
    (Cancelled, ExitCode.CANCELLED),
)


def exit_code(error: RacimoError) -> ExitCode:
    """The exit code that tells scripts what kind of error it was."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def error_lines(error: RacimoError) -> tuple[str, ...]:
    """Up to three lines for a person: what happened, why, what to do next."""
    named = (("Error", error.what), ("Why", error.why), ("Do", error.todo))
    return tuple(f"{label + ':':<7}{' '.join(text.split())}" for label, text in named if text)


def error_document(error: RacimoError) -> dict[str, object]:
    """The same as one JSON document, for ``--json``."""
    return {
        "error": {
            "kind": type(error).__name__,
            "what": error.what,
            "why": error.why,
            "todo": error.todo,
            "exit_code": int(exit_code(error)),
        }
    }
