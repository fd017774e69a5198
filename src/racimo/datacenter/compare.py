"""How a joining node differs from one that is there already: pure, one named difference each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from racimo.model.node import NodeFacts

MEMORY_TOLERANCE = 0.1
CLOCK_TOLERANCE_S = 0.5
FLAGS_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference. ``mine`` is of the node that is there, ``theirs`` of the one that joins; ``means`` its effect."""

    what: str
    node: str
    mine: str
    theirs: str
    means: str
    severity: str = "warn"

    def __str__(self) -> str:
        both = f"{self.theirs or 'none'} here, {self.mine or 'none'} there"
        return f"{self.what} differs from {self.node}'s: {both}; {self.means}"


def compare_facts(node: str, mine: NodeFacts, theirs: NodeFacts, clock_offset: float | None = None) -> list[Difference]:
    """The differences that matter. ``clock_offset`` in seconds: the joining node's clock minus ours, if known."""
    found: list[Difference] = []

    def differ(what: str, mine: str, theirs: str, means: str) -> None:
        if mine != theirs:
            found.append(Difference(what=what, node=node, mine=mine, theirs=theirs, means=means))

    differ("architecture", mine.architecture, theirs.architecture, "guests cannot move between the two")
    differ("CPU model", mine.cpu_model, theirs.cpu_model, "give guests that move live a common CPU model, not 'host'")
    found += _flags(node, mine, theirs)
    if abs(mine.memory - theirs.memory) > MEMORY_TOLERANCE * max(mine.memory, theirs.memory):
        differ("memory", _gib(mine.memory), _gib(theirs.memory), "the smaller node takes over fewer guests")
    differ("CPU count", str(mine.cpus), str(theirs.cpus), "the smaller node takes over fewer guests")
    differ("acceleration", mine.acceleration, theirs.acceleration, "guests run at unlike speeds")
    differ("operating system", mine.operating_system, theirs.operating_system, "upgrade the older one")
    differ("kernel", mine.kernel, theirs.kernel, "harmless for a while; upgrade the older one")
    differ("QEMU", mine.qemu, theirs.qemu, "guests move live only towards the newer version")
    for package in sorted(mine.packages.keys() | theirs.packages.keys()):
        if not package.startswith("qemu-system"):
            old, new = mine.packages.get(package, ""), theirs.packages.get(package, "")
            differ(f"package {package}", old, new, "upgrade the older one")
    if clock_offset is not None and abs(clock_offset) > CLOCK_TOLERANCE_S:
        means = "logs and certificates disagree; run a time service such as chrony"
        differ("clock", "0 s", f"{clock_offset:+.1f} s", means)
    return found


def _flags(node: str, mine: NodeFacts, theirs: NodeFacts) -> list[Difference]:
    lacking, extra = set(mine.cpu_flags) - set(theirs.cpu_flags), set(theirs.cpu_flags) - set(mine.cpu_flags)
    if not lacking and not extra:
        return []
    means = "a live migration between the two may be refused unless the guest's CPU model leaves them out"
    return [Difference(what="CPU flags", node=node, mine=_some(lacking), theirs=_some(extra), means=means)]


def _some(flags: set[str]) -> str:
    if not flags:
        return "no others"
    shown = sorted(flags)[:FLAGS_SHOWN]
    more = len(flags) - len(shown)
    return " ".join(shown) + (f" and {more} more" if more else "")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
