"""The error tree: what happened, why, and what to do next.

RacimoError
├── BadRequest            the request itself cannot be: nothing was changed
│   └── BadParameter      one or more parameters are malformed (names each)
├── NotFound              the thing named does not exist
├── AlreadyExists         the thing named exists already
├── Conflict              the state does not allow it now (running, locked, changed by somebody else)
├── Refused               a rule or a check forbids it (no space, unlike CPU, no proof)
│   └── NotClustered      it needs a datacenter of several nodes; this node stands alone
├── Unauthorised          who asks is not known, or may not
│   └── NotLoggedIn       who asks is not known
├── Unreachable           a node did not answer; ``happened`` says whether it may have acted
├── StoreError
│   ├── StoreUnavailable  no quorum or no member answered; nothing was written
│   ├── StoreUnknown      the answer to a write was lost, and it could not be found out whether it was committed
│   └── WatchLost         the watch cannot go on from this revision: list again
├── Cancelled             an administrator or a shutdown cancelled it; what was begun was undone
├── NotImplementedHere    this version does not have what the Proxmox VE API has under that path
└── OperationFailed       an outside tool or a guest failed; carries what it printed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class RacimoError(Exception):
    """Base of all errors that a person may read.

    ``what`` says what happened, ``why`` the cause, ``todo`` the next step for an administrator. ``str()`` joins them.
    """

    def __init__(self, what: str, *, why: str = "", todo: str = "") -> None:
        self.what, self.why, self.todo = what.rstrip("."), why.rstrip("."), todo.rstrip(".")
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}. {self.todo}." if self.todo else text


class BadRequest(RacimoError):
    """The request cannot be carried out as it is written. Nothing was changed."""


class BadParameter(BadRequest):
    """Some parameters are malformed. ``parameters`` maps each name to what is wrong with it."""

    def __init__(self, parameters: Mapping[str, str], *, todo: str = "") -> None:
        self.parameters = dict(parameters)
        why = "; ".join(f"{name}: {reason}" for name, reason in self.parameters.items())
        super().__init__("Parameter verification failed", why=why, todo=todo)


class NotFound(RacimoError):
    """What was named does not exist. Nothing was changed."""


class AlreadyExists(RacimoError):
    """What was to be made exists already. Nothing was changed."""


class Conflict(RacimoError):
    """The present state does not allow it; trying again later, or after a change, may succeed. Nothing was changed."""


class Refused(RacimoError):
    """A rule or a check forbids it. Nothing was changed."""


class NotClustered(Refused):
    """It needs a datacenter of several nodes, and this node stands alone. Nothing was changed."""


class Unauthorised(RacimoError):
    """The asker is unknown, or lacks the permission. Nothing was changed."""


class NotLoggedIn(Unauthorised):
    """The asker is unknown: no login, or one that is not valid. Nothing was changed."""


class Unreachable(RacimoError):
    """A node did not answer. ``may_have_acted`` is true when the request had been sent."""

    def __init__(self, what: str, *, why: str = "", todo: str = "", may_have_acted: bool = False) -> None:
        super().__init__(what, why=why, todo=todo)
        self.may_have_acted = may_have_acted


class StoreError(RacimoError):
    """Base of what the store can answer instead of a result."""


class StoreUnavailable(StoreError):
    """No member could serve the request in time (no quorum, none reachable). Nothing was written."""


class StoreUnknown(StoreError):
    """The answer to a write was lost and its outcome could not be found out in time: it may or may not be committed."""


class WatchLost(StoreError):
    """A watch cannot continue (compacted, or cancelled by the member): list, then watch from that revision."""


class NotImplementedHere(RacimoError):
    """No such path or method in this version's API. Nothing was changed."""


class Cancelled(RacimoError):
    """It was cancelled before its commit point; what had been begun was undone."""


class OperationFailed(RacimoError):
    """A program, a guest or a device failed. ``why`` carries what it said."""
