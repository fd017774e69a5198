"""A message that did not arrive."""

from __future__ import annotations

from racimo.errors import OperationFailed


class Undelivered(OperationFailed):
    """One try failed. ``refused``: the other side answered and does not want it, so trying on is of little use."""

    def __init__(self, why: str, *, refused: bool = False) -> None:
        self.refused = refused
        super().__init__("The message was not delivered", why=why, todo="See: racimo notification target list")
