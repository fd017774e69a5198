"""A failure as data: what an error says, so that it survives a file or a wire and can be raised again."""

from __future__ import annotations

from dataclasses import dataclass, field

from racimo import errors
from racimo.errors import BadParameter, OperationFailed, RacimoError, Unreachable


@dataclass(frozen=True, slots=True)
class Failure:
    """The three parts of a ``RacimoError`` with the name of its class."""

    kind: str
    what: str
    why: str = ""
    todo: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    may_have_acted: bool = False

    @classmethod
    def of(cls, error: RacimoError) -> Failure:
        """What ``error`` says."""
        return cls(
            kind=type(error).__name__,
            what=error.what,
            why=error.why,
            todo=error.todo,
            parameters=error.parameters if isinstance(error, BadParameter) else {},
            may_have_acted=isinstance(error, Unreachable) and error.may_have_acted,
        )

    def error(self) -> RacimoError:
        """The error again; ``OperationFailed`` when this version does not know its class."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, RacimoError)):
            kind = OperationFailed
        if issubclass(kind, BadParameter):
            return BadParameter(self.parameters or {"?": self.why or self.what}, todo=self.todo)
        if issubclass(kind, Unreachable):
            return kind(self.what, why=self.why, todo=self.todo, may_have_acted=self.may_have_acted)
        return kind(self.what, why=self.why, todo=self.todo)

    @property
    def text(self) -> str:
        """On one line, for a task's exit status."""
        return " ".join(str(self.error()).split())
