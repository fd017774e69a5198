"""Plays one setup from its beginning to its end, and says what came of it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from racimo.ha.simulate.loop import run
from racimo.ha.simulate.parts import SimulatedHa
from racimo.ha.simulate.rest import settled
from racimo.ha.simulate.story import Story
from racimo.ha.simulate.world import World

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Callable, Iterator

    from racimo.ha.simulate.oracle import Happening
    from racimo.ha.simulate.setup import Setup


@dataclass(frozen=True, slots=True)
class NodeLook:
    """A node at a checkpoint."""

    power: str
    network: str
    state: str


@dataclass(frozen=True, slots=True)
class GuestLook:
    """A guest at a checkpoint. ``node`` is whose it is, ``running_on`` who has a process of it."""

    node: str
    state: str
    requested: str
    running_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The datacenter at one moment. ``settled``: left alone it would stay as it is."""

    at: float
    settled: bool
    nodes: dict[str, NodeLook]
    guests: dict[str, GuestLook]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a history. ``seconds`` is how long it lasted."""

    checkpoints: tuple[Checkpoint, ...]
    final: Checkpoint
    events: tuple[Happening, ...]
    violations: tuple[str, ...]
    faults: Counter[str]
    failovers: tuple[float, ...] = ()
    max_copies: int = 0
    seconds: float = 0.0
    starts: int = 0
    tasks: int = field(default=0)


def look(world: World) -> Checkpoint:
    """The datacenter as it is now."""
    witness, nodes, guests = world.witness, {}, {}
    for name, host in world.hosts.items():
        status = witness.statuses.get(name)
        nodes[name] = NodeLook(
            "on" if host.powered else "off",
            "off" if name in world.network.off or not host.powered else "on",
            status.health.value if status else "unknown",
        )
    for sid, resource in sorted(witness.resources.items(), key=lambda item: int(item[0][3:])):
        service, guest = witness.services.get(sid), witness.owners.get(int(sid[3:]))
        setup = world.setup.guests.get(sid)
        state = "ignored" if resource.requested == "ignored" else service.state.value if service else "queued"
        node = guest.node if guest else (service.node if service else "") or (setup.node if setup else "")
        runs = tuple(world.oracle.runners(int(sid[3:])))
        guests[sid] = GuestLook(node, state, resource.requested.value, runs)
    return Checkpoint(world.now(), settled(world), nodes, guests)


async def play_in(world: World, enough: Callable[[tuple[str, ...]], bool] | None = None) -> Result:
    """Step by step, with a checkpoint before each; to its end, or until the violations are ``enough``."""
    story, checkpoints, stop = Story(world), [], _stop(world, enough)
    await world.begin()
    for step in world.setup.steps:
        await world.until(step.at, stop)
        if stop.done():
            break
        checkpoints.append(look(world))
        for verb in step.verbs:
            await story.do(verb)
    await world.until(world.setup.end, stop)
    if not stop.done():
        world.check_the_end()
    final = look(world)
    await world.end()
    oracle = world.oracle
    return Result(
        checkpoints=tuple(checkpoints),
        final=final,
        events=tuple(oracle.events),
        violations=tuple(oracle.violations),
        faults=oracle.faults,
        failovers=tuple(oracle.failovers),
        max_copies=oracle.max_copies,
        seconds=final.at if stop.done() else world.setup.end,
        starts=oracle.starts,
        tasks=len(world.tasks),
    )


def _stop(world: World, enough: Callable[[tuple[str, ...]], bool] | None) -> asyncio.Future[None]:
    """Done when the oracle has seen enough."""
    stop: asyncio.Future[None] = world.loop.create_future()

    def seen() -> None:
        if enough is not None and not stop.done() and enough(tuple(world.oracle.violations)):
            stop.set_result(None)

    world.oracle.violated = seen
    return stop


@contextmanager
def silence() -> Iterator[None]:
    """Only the oracle speaks."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def play(
    setup: Setup,
    make_ha: type[SimulatedHa] = SimulatedHa,
    prepare: Callable[[World], None] | None = None,
    enough: Callable[[tuple[str, ...]], bool] | None = None,
) -> Result:
    """The whole history, in simulated time; ``prepare`` may break something on purpose before it begins.

    With ``enough`` it ends as soon as that says so of the violations.
    """

    async def main() -> Result:
        world = World(setup, make_ha)
        if prepare is not None:
            prepare(world)
        return await play_in(world, enough)

    with silence():
        return run(main())
