"""A message that did not arrive."""

from __future__ import annotations

from racimo.errors import OperationFailed


class Undelivered(OperationFailed):
    """One try failed. ``refused``: the other side answered and does not want it, so trying on is of little use.

    ``passed_over``: it was sent there by default alone, and there is no way: it is not tried again.
    """

    def __init__(self, why: str, *, refused: bool = False, passed_over: bool = False) -> None:
        self.refused, self.passed_over = refused, passed_over
        super().__init__("The message was not delivered", why=why, todo="See: racimo notification target list")
