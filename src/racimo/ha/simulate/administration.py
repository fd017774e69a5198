"""What people do to nodes and to HA in random histories: each begins, lasts a while, and is taken back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from racimo.errors import NotFound, RacimoError
from racimo.model.ha import ArmPhase

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
}
