"""One random history from one seed: faults come and go, then everything is healed and must be well again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import virtual_time
from world import World

from racimo.ha.daemon import HaNode

LENGTH_S = 90.0
WELL_WITHIN_S = 150.0
KINDS = ("crash", "pause", "cut", "cut", "slow", "lose", "late", "restart", "daemon", "move", "blink")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a history."""

    violations: list[str]
    failures: list[BaseException]
    starts: int
    log: list[str]


async def faults(world: World) -> None:
    """Crash, pause, cut, slow down, restart, ask to move; each for a while."""
    chance, loop = world.random, asyncio.get_running_loop()
    end = loop.time() + LENGTH_S
    while loop.time() < end:
        await asyncio.sleep(chance.expovariate(1 / 6.0))
        node = chance.choice(list(world.nodes.values()))
        kind = chance.choice(KINDS)
        lasts = chance.choice([0.5, 2.0, 5.0, 9.0, 11.0, 12.0, 20.0]) * chance.uniform(0.8, 1.2)
        world.oracle.note(f"fault: {kind} of {node.name} for {lasts:.1f} s")
        world.spawn(fault(world, node.name, kind, lasts))


async def fault(world: World, name: str, kind: str, lasts: float) -> None:
    """One fault and its end."""
    node, chance = world.nodes[name], world.random
    match kind:
        case "crash":
            node.power_off()
            await asyncio.sleep(lasts)
            node.power_on()
        case "pause":
            node.pause()
            await asyncio.sleep(lasts)
            node.resume()
        case "cut":
            node.link.up.clear()
            await asyncio.sleep(lasts)
            node.link.up.set()
        case "blink":
            for _ in range(6):
                node.link.up.clear()
                await asyncio.sleep(lasts / 3)
                node.link.up.set()
                await asyncio.sleep(chance.uniform(0.05, 1.5))
        case "slow":
            node.link.slow = 0.3
            await asyncio.sleep(lasts * 2)
            node.link.slow = 0.0
        case "lose":
            node.link.lose_answers = 0.3
            await asyncio.sleep(lasts * 2)
            node.link.lose_answers = 0.0
        case "late":
            node.late = 0.7
            await asyncio.sleep(lasts * 2)
            node.late = 0.0
        case "restart" if node.powered:
            node.restart_ha()
        case "daemon":
            node.daemon_up = False
            await asyncio.sleep(lasts)
            node.daemon_up = True
        case "move":
            await ask_to_move(world, name)


async def ask_to_move(world: World, target: str) -> None:
    """An administrator asks for a guest to be moved."""
    sid = f"vm:{world.random.choice(world.vmids)}"
    held = await world.layout.resources.hold(sid)
    mode = world.random.choice(["migrate", "relocate"])
    wanted = type(held.record)(**{**_fields(held.record), "target": target, "target_mode": mode})
    await world.memory.txn([held.compare], [world.layout.resources.put(sid, wanted, held)])


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}  # type: ignore[attr-defined]


async def heal(world: World) -> None:
    """No fault is left."""
    for node in world.nodes.values():
        node.link.up.set()
        node.link.slow = node.link.lose_answers = node.late = 0.0
        node.daemon_up = True
        node.resume()
        node.power_on()


Story = Callable[[World], Awaitable[None]]


async def random_faults(world: World) -> None:
    """The story that the seed tells."""
    await faults(world)
    await asyncio.sleep(60)


async def history(seed: int, make_ha: type[HaNode], prepare: Callable[[World], None], story: Story) -> Result:
    """Play ``story`` in the world of ``seed``; ``prepare`` may break something on purpose."""
    world = World(seed, make_ha=make_ha)
    prepare(world)
    await world.begin()
    await world.all_run(40)
    await story(world)
    await heal(world)
    if not world.oracle.violations and await world.all_run(WELL_WITHIN_S) is None:
        world.oracle.violate(f"not all guests run {WELL_WITHIN_S:g} s after everything was healed")
        for held in (await world.layout.services.all()).values():
            world.oracle.note(str(held.record))
    await world.end()
    return Result(world.oracle.violations, world.failures, world.oracle.starts, world.oracle.log)


def play(
    seed: int,
    make_ha: type[HaNode] = HaNode,
    prepare: Callable[[World], None] = lambda world: None,
    story: Story = random_faults,
) -> Result:
    """One history, in simulated time."""
    return virtual_time.run(history(seed, make_ha, prepare, story))
