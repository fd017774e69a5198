"""What people do to nodes and to HA in random histories: each begins, lasts a while, and is taken back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from racimo.errors import NotFound, RacimoError
from racimo.model.ha import ArmPhase, Requested

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.world import World

    Act = Callable[[World, Host, float], Awaitable[None]]

AGAIN_S = 1.0


async def _maintenance(world: World, host: Host, seconds: float) -> None:
    await world.administrator.maintenance(host.name, on=True)
    await world.wait(seconds)
    await _insist(world, _open(world, host.name))


async def _shutdown(world: World, host: Host, seconds: float) -> None:
    """Switched off in order, and on again."""
    await host.shut_down("poweroff")
    await world.wait(seconds)
    if not host.wish or not host.powered:
        switch_on(world, host)


async def _reboot(world: World, host: Host, seconds: float) -> None:
    await host.shut_down("reboot")


def _disarm(mode: str) -> Act:
    async def disarm(world: World, host: Host, seconds: float) -> None:
        await world.administrator.disarm(mode)
        await world.wait(seconds)
        await _insist(world, world.administrator.arm)

    return disarm


async def _stop_and_start(world: World, host: Host, seconds: float) -> None:
    """A guest that should run is not wanted for a while."""
    sids = [sid for sid, resource in world.witness.resources.items() if resource.requested is Requested.STARTED]
    if not sids:
        return
    sid = world.chance.choice(sorted(sids))
    world.oracle.note("step", sid, "wanted stopped")
    await world.administrator.request(sid, Requested.STOPPED)
    await world.wait(seconds)
    await _insist(world, lambda: world.administrator.request(sid, Requested.STARTED))


async def _move_by_hand(world: World, host: Host, seconds: float) -> None:
    """A guest that runs moves to the host, past HA and past its rules."""
    running = [(vmid, other) for other in world.hosts.values() if other.powered for vmid in other.running]
    movable = sorted((vmid, other.name) for vmid, other in running if other is not host)
    if not movable or not host.powered:
        return
    vmid, name = world.chance.choice(movable)
    world.overseer.by_hand.add(f"vm:{vmid}")
    world.oracle.note("step", f"vm:{vmid}", f"moved from {name} to {host.name} by hand")
    await asyncio.wait({world.hosts[name].spawn(_migrate(world, name, vmid, host.name))})


async def _migrate(world: World, source: str, vmid: int, target: str) -> None:
    """A task of the source's boot: it ends with the power."""
    host = world.hosts[source]
    with suppress(RacimoError):
        await host.operations.migrate(vmid, host.running[vmid].epoch, target, live=True)


def switch_on(world: World, host: Host) -> None:
    """Power and cable, unless it is broken for good."""
    if host.name not in world.buried:
        world.network.switch(host.name, on=True)
        host.power_on()


def _open(world: World, node: str) -> Callable[[], Awaitable[None]]:
    async def leave_maintenance() -> None:
        with suppress(NotFound):
            await world.administrator.maintenance(node, on=False)

    return leave_maintenance


async def _insist(world: World, act: Callable[[], Awaitable[None]]) -> None:
    """Until it is taken: an administrator who is refused for want of a quorum tries again."""
    while True:
        try:
            await act()
        except RacimoError:
            await world.wait(AGAIN_S)
        else:
            return


async def put_right(world: World) -> None:
    """Every node is open again, and HA armed."""
    for node in world.hosts:
        await _insist(world, _open(world, node))
    arming = world.witness.arming
    if arming is not None and arming.phase is not ArmPhase.ARMED:
        await _insist(world, world.administrator.arm)


ACTS: dict[str, Act] = {
    "maintenance": _maintenance,
    "shutdown": _shutdown,
    "reboot": _reboot,
    "disarm-freeze": _disarm("freeze"),
    "disarm-ignore": _disarm("ignore"),
    "stopped-and-started": _stop_and_start,
    "moved-by-hand": _move_by_hand,
}
