"""The simulated network between nodes: who reaches whom, how late, and how reliably."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

USUAL_S = (0.0003, 0.003)
"""How long a message takes when all is well."""

CALM_S = 0.001


@dataclass(slots=True)
class Weather:
    """How a node's messages fare. Shares are between 0 and 1."""

    delay: tuple[float, float] = USUAL_S
    lost: float = 0.0
    """The share that is lost and sent again, after 0.2 s and more: the transport repeats."""
    answers_lost: float = 0.0
    """The share of answers that never come though what was asked was done."""
    repeated: float = 0.0
    """The share of requests that arrive twice."""


FAIR = Weather()


class Network:
    """Directed: ``cut`` holds the pairs (from, to) that nothing passes between. ``changed`` are told of each change."""

    def __init__(self, names: Iterable[str], chance: random.Random) -> None:
        self.names, self.chance = list(names), chance
        self.calm = False
        """Every message takes the same time: for scenarios, in which chance has no part."""
        self.off: set[str] = set()
        self.cut: dict[tuple[str, str], int] = {}
        self.weather = {name: Weather() for name in self.names}
        self.changed: list[Callable[[], None]] = []

    def passes(self, source: str, target: str) -> bool:
        """Whether a message gets from ``source`` to ``target`` now."""
        if source == target:
            return True
        return not self.off.intersection((source, target)) and (source, target) not in self.cut

    def talk(self, one: str, other: str) -> bool:
        """Whether both hear each other."""
        return self.passes(one, other) and self.passes(other, one)

    def fair(self) -> bool:
        """Whether no message is late, lost or repeated by chance."""
        return all(weather == FAIR for weather in self.weather.values())

    def latency(self, node: str) -> float:
        """How many seconds a message to or from ``node`` takes, repetitions of the transport included."""
        if self.calm:
            return CALM_S
        weather, chance = self.weather[node], self.chance
        late = chance.uniform(*weather.delay)
        while weather.lost and chance.random() < weather.lost:
            late += chance.uniform(0.2, 0.6)
        return late

    def switch(self, node: str, *, on: bool) -> None:
        """Plug the node's cable in, or pull it."""
        if on:
            self.off.discard(node)
        else:
            self.off.add(node)
        self.tell()

    def block(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on nothing passes between each pair, in that direction. Each block is undone by one ``unblock``."""
        for pair in pairs:
            self.cut[pair] = self.cut.get(pair, 0) + 1
        self.tell()

    def unblock(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Undo one ``block`` of each pair."""
        for pair in pairs:
            left = self.cut.get(pair, 0) - 1
            if left > 0:
                self.cut[pair] = left
            else:
                self.cut.pop(pair, None)
        self.tell()

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Only the members of one group reach each other; who is named in none is alone."""
        of = {name: number for number, group in enumerate(groups) for name in group}
        pairs = [(one, other) for one in self.names for other in self.names if one != other]
        self.block(pair for pair in pairs if pair[0] not in of or of[pair[0]] != of.get(pair[1]))

    def heal(self) -> None:
        """Every cut is gone, and the weather is fine. Pulled cables stay pulled."""
        self.cut.clear()
        self.weather = {name: Weather() for name in self.names}
        self.tell()

    def tell(self) -> None:
        """Something about who reaches whom has changed."""
        for listener in self.changed:
            listener()
