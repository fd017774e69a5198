"""An operation: one thing that somebody asked for, as typed data with fixed phases.

**validate → authorise → lock → precheck → execute → report.** The same object serves the API, the command line, HA and
the audit log. What runs it is ``racimo.task.runner``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

ServiceT = TypeVar("ServiceT")


class Report(Protocol):
    """Where a running operation tells what it does."""

    def log(self, text: str) -> None:
        """One line for the task's log."""

    def warn(self, text: str) -> None:
        """One line for the task's log that a person should read; the task then ends with ``WARNINGS: n``."""

    def progress(self, fraction: float, text: str = "") -> None:
        """How far it is, from 0 to 1, with what is being done (for people)."""


class Operation(ABC, Generic[ServiceT]):
    """One request over the services ``ServiceT`` of a room. Subclasses are frozen dataclasses of the request's fields.

    Raise ``racimo.errors.RacimoError`` in any phase to refuse or fail. Nothing may be changed before ``execute``.
    """

    kind: ClassVar[str]
    """The task type in its UPID, such as ``qmstart``."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """What it is about, as in the UPID: a vmid, a node, a storage."""

    @property
    def locks(self) -> tuple[str, ...]:
        """Names of the locks it needs, such as ``guests/100``. Taken in sorted order, given back at the end."""
        return ()

    def validate(self) -> None:
        """Check the request by itself. Raises ``BadParameter``."""
        return

    async def precheck(self, services: ServiceT) -> None:
        """Under the locks: check the present state against the request."""
        return

    @abstractmethod
    async def execute(self, services: ServiceT, report: Report, undo: AsyncExitStack) -> None:
        """Do it. Push what undoes each step on ``undo``; call ``undo.pop_all()`` at the commit point.

        When this raises or is cancelled, whatever is left on ``undo`` is run, newest first.
        """
