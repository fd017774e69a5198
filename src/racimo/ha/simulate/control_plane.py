"""Faults of what manages guests, which harm no machine and no guest: daemons, the guard, and the store as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.world import World

    Fault = Callable[[World, Host, float], Awaitable[None]]


async def _kill_guard(world: World, host: Host, seconds: float) -> None:
    """The guard is killed; its supervisor starts it again."""
    if host.powered:
        host.watchman.catch_up()
        host.watchman.ticks = False
        watchman = host.watchman
        await world.wait(min(seconds, 2.0))
        if host.watchman is watchman and host.powered:
            watchman.ticks = True
            watchman.changed(soon=True)


async def _restart(world: World, host: Host, seconds: float) -> None:
    """``kill -9`` of racimo-ha; its supervisor starts it again at once, or after some time."""
    host.stop_ha()
    await world.wait(world.chance.choice([0.0, 0.2, 2.0]))
    if host.powered:
        host.stop_ha()
        host.start_ha()


async def _no_daemon(world: World, host: Host, seconds: float) -> None:
    host.daemon = False
    await world.wait(seconds)
    host.daemon = True


async def _next_version(world: World, host: Host, seconds: float) -> None:
    """The node is upgraded: its daemons are restarted and write fields that the others do not know."""
    host.next_version = True
    host.stop_ha()
    if host.powered:
        host.start_ha()
    await world.wait(seconds * 3)
    host.next_version = False


async def _stall(world: World, host: Host, seconds: float) -> None:
    world.quorum.stalled = True
    await world.wait(min(seconds, 8.0))
    world.quorum.stalled = False
    world.quorum.refresh()


async def _step_down(world: World, host: Host, seconds: float) -> None:
    world.quorum.step_down()


async def _all_killed(world: World, host: Host, seconds: float) -> None:
    """racimo-node and racimo-ha end, by a signal or in order, on one node or on all; racimo-ha is back first."""
    hosts = [host] if world.chance.random() < 0.5 else [each for each in world.hosts.values() if each.powered]
    in_order = world.chance.random() < 0.3
    for each in hosts:
        each.daemon = False
        if in_order:
            await each.end_ha()
        else:
            each.stop_ha()
    await world.wait(world.chance.uniform(0.0, 0.3) * world.profile.lease)
    for each in hosts:
        if each.powered:
            each.stop_ha()
            each.start_ha()
    await world.wait(seconds)
    for each in hosts:
        each.daemon = True


async def _no_store(world: World, host: Host, seconds: float) -> None:
    """Every member of the store ends, or just so many that no majority is left; the nodes still see each other."""
    voters = world.quorum.voters
    gone = voters if world.chance.random() < 0.5 else voters[: world.quorum.majority]
    for name in gone:
        world.hosts[name].disk = False
    world.quorum.refresh()
    await world.wait(seconds * 1.5)
    for name in gone:
        world.hosts[name].disk = True
    world.quorum.refresh()


AWAY: dict[str, Fault] = {
    "guard-killed": _kill_guard,
    "ha-restart": _restart,
    "daemon-away": _no_daemon,
    "control-plane-killed": _all_killed,
    "store-away": _no_store,
    "leader-stall": _stall,
    "leader-change": _step_down,
    "next-version": _next_version,
}
