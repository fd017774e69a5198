"""The power is cut at each step that a move writes to the store: whoever is left starts the guest within the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.ha.simulate.history import play
from racimo.ha.simulate.setup import Durations, Failures, GuestSetup, NodeSetup, Setup, Step
from racimo.ha.simulate.verbs import Verb

if TYPE_CHECKING:
    from racimo.ha.simulate.world import World
    from racimo.store.base import Change

ASKED = 60.0
PROMISE_S = 12.0
STEPS = 14


def asked_to_move(mode: str, **fails: int) -> Setup:
    """vm:100 runs on n1, where the manager is, and is asked to move to n2 at ``ASKED``."""
    words = f"guest vm:100 {mode} n2"
    return Setup(
        name=words,
        nodes={name: NodeSetup(on=True) for name in ("n1", "n2", "n3")},
        guests={"vm:100": GuestSetup("vm:100", "n1", "started", fails=Failures(**fails))},
        durations=Durations(0.4, 0.4, 0.2),
        steps=(Step(ASKED, (Verb("guest migrate", words, sid="vm:100", node="n2", choice=mode),)),),
        end=ASKED + 60.0,
    )


class Cut:
    """Cuts the power of ``victim`` once ``step`` commits were seen since the request; ``at``: when."""

    def __init__(self, victim: str, step: int) -> None:
        self.victim, self.step = victim, step
        self.at: float | None = None

    def prepare(self, world: World) -> None:
        seen = 0

        def look(change: Change) -> None:
            nonlocal seen
            seen += world.now() >= ASKED
            if seen >= self.step and self.at is None:
                self.at = world.now()
                world.loop.call_later(0.0, lambda: world.hosts[self.victim].power_off("it is cut here"))

        world.quorum.store.committed.append(look)


@pytest.mark.parametrize("victim", ["n1", "n2"])
@pytest.mark.parametrize(
    "setup",
    [asked_to_move("migrate"), asked_to_move("relocate"), asked_to_move("migrate", migrate=1)],
    ids=["migrate", "relocate", "a migration that fails"],
)
def test_a_guest_runs_again_wherever_its_move_was_when_a_node_lost_its_power(setup: Setup, victim: str) -> None:
    for step in range(1, STEPS + 1):
        cut = Cut(victim, step)
        result = play(setup, prepare=cut.prepare)
        story = "\n".join(event.line() for event in result.events if event.at >= ASKED)
        assert cut.at is not None and result.max_copies <= 1, story
        assert len(result.final.guests["vm:100"].running_on) == 1, f"cut at step {step}\n{story}"
        last = max(event.at for event in result.events if event.what.startswith("runs on"))
        assert last - cut.at <= PROMISE_S + 1.0, f"cut at step {step}\n{story}"
