"""A change of a guest's configuration as somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """Keys to set, to ``delete``, and to ``revert`` to what the running guest has.

    ``digest``, where given, must be that of the configuration read before.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    revert: tuple[str, ...] = ()
    digest: str = ""

    def with_reverted(self, running: Mapping[str, str] | None, wished: Mapping[str, str]) -> ConfigChange:
        """The same, with ``revert`` as values and deletions. Of a guest that does not run nothing waits."""
        if running is None:
            return replace(self, revert=())
        values = {key: running[key] for key in self.revert if key in running}
        gone = tuple(key for key in self.revert if key not in running and key in wished)
        return replace(self, values={**self.values, **values}, delete=(*self.delete, *gone), revert=())
