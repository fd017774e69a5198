"""Faults that are aimed at one moment, drawn only where a deliberate break asks for them.

Each strikes in the very window that a rule closes: random faults would come there once in many thousand histories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.errors import RacimoError
from racimo.ha.simulate.network import USUAL_S
from racimo.model.ha import ArmPhase, Requested, ServiceState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.world import World

    Fault = Callable[[World, Host, float], Awaitable[None]]

PATIENCE_S = 30.0
"""So long it is waited for the moment that is aimed at."""


async def _cut_off(world: World, host: Host, seconds: float) -> None:
    """Nothing passes between the host and the others."""
    others = [name for name in world.hosts if name != host.name]
    pairs = [(host.name, other) for other in others] + [(other, host.name) for other in others]
    world.network.block(pairs)
    world.disturb()
    await world.wait(seconds)
    world.network.unblock(pairs)


async def _until(world: World, so: Callable[[], bool]) -> bool:
    """Wait until it is so, ``PATIENCE_S`` at most; whether it is."""
    until = world.now() + PATIENCE_S
    while not so() and world.now() < until:
        world.disturb()
        await world.wait(0.25)
    return so()


def _trap(world: World, phase: str, strikes: Callable[[Host, Host], bool]) -> None:
    """Once, when a command comes to ``phase`` and ``strikes`` says so for its source and its target."""

    def trap(name: str, source: Host, target: Host) -> None:
        if name == phase and trap in world.traps and strikes(source, target):
            world.traps.remove(trap)

    world.traps.append(trap)


async def _start_while_moved(world: World, host: Host, seconds: float) -> None:
    """A start that was given long ago comes again to the owner of a stopped guest, in the very seconds in which the
    manager, who is far away, decides to give the guest to another node by the owner's word."""
    own = sorted(guest.vmid for guest in world.witness.owners.values() if guest.node == host.name)
    manager = world.witness.term.node if world.witness.term else ""
    others = [name for name, other in world.hosts.items() if other.powered and name != host.name]
    if not own or not others or manager in ("", host.name):
        return
    vmid, target = world.chance.choice(own), world.chance.choice(others)
    sid, epoch = f"vm:{vmid}", world.witness.owners[vmid].epoch
    await world.administrator.request(sid, Requested.STOPPED)

    def is_stopped() -> bool:
        service = world.witness.services.get(sid)
        return service is not None and service.state is ServiceState.STOPPED

    weather = world.network.weather[manager]
    if await _until(world, is_stopped):
        weather.delay = (0.8, 1.3)
        await world.wait(1.5)
        try:
            await world.administrator.ask_to_move(sid, target, "migrate")
            await world.wait(world.chance.uniform(0.0, 3.0))
            if host.powered:
                await host.operations.start(vmid, epoch)
        except RacimoError as error:
            world.oracle.note("step", sid, "refused", str(error))
        await world.wait(5.0)
        weather.delay = USUAL_S
    await world.administrator.request(sid, Requested.STARTED)


async def _outage_with_one_late(world: World, host: Host, seconds: float) -> None:
    """The store is away for all, for longer than a lease and than any promise to extend one, while a node is off that
    therefore promises nothing; afterwards the host's heartbeat is the last to come."""
    others = [other for other in world.hosts.values() if other is not host]
    if len(others) < 2:
        return
    down = world.chance.choice(others)
    down.power_off("it crashed")
    _disks(world, works=False)
    await world.wait(world.profile.lease * world.chance.uniform(1.9, 2.6))
    weather = world.network.weather[host.name]
    weather.delay = (1.5, 2.2)
    _disks(world, works=True)
    await world.wait(8.0)
    weather.delay = USUAL_S
    down.power_on()


def _disks(world: World, *, works: bool) -> None:
    for host in world.hosts.values():
        host.disk = works
    world.quorum.refresh()


async def _daemon_halted(world: World, host: Host, seconds: float) -> None:
    """A node's daemon is stopped between its look at the lease and the start of the guest's process, and goes on when
    the node is long cut off and its guests run elsewhere; its guard works all the time."""
    lasts = world.profile.expiry * world.chance.uniform(1.3, 2.0)

    async def strike() -> None:
        host.daemon_runs.clear()
        world.spawn(_cut_off(world, host, lasts))
        await world.wait(lasts - world.chance.uniform(0.5, 2.0))
        host.daemon_runs.set()

    def strikes(source: Host, target: Host) -> bool:
        if source is not host:
            return False
        world.spawn(strike())
        return True

    if not host.running or not host.powered:
        return
    _trap(world, "starting", strikes)
    vmid = world.chance.choice(sorted(host.running))
    host.finish(vmid, "the guest crashed")
    host.spawn(host.operations.write_down(vmid, "the guest crashed"))
    await world.wait(PATIENCE_S + lasts)
    world.traps.clear()


async def _cut_off_from_all(world: World, host: Host, seconds: float) -> None:
    """Neither the others nor the guests' disks are in reach: what waits for its disk cannot be killed."""
    host.watchdog_works = True
    host.set_storage(on=False)
    await _cut_off(world, host, 2.5 * world.profile.lease)
    host.set_storage(on=True)


async def _cut_off_while_disarmed(world: World, host: Host, seconds: float) -> None:
    """HA is disarmed, so that the guards let go of the guests; then a node is cut off, and HA armed again."""
    await world.administrator.disarm("freeze")

    def is_disarmed() -> bool:
        return world.witness.arming is not None and world.witness.arming.phase is ArmPhase.DISARMED

    if await _until(world, is_disarmed):
        await world.wait(4.0)
        cut = world.spawn(_cut_off(world, host, 4 * world.profile.lease))
        await world.wait(world.chance.uniform(1.0, 2.0 * world.profile.lease))
        await world.administrator.arm()
        await cut
    else:
        await world.administrator.arm()


async def _move_unanswered(world: World, host: Host, seconds: float) -> None:
    """A guest is moved from the host, and the answer to the transaction that gives it away is lost."""

    async def strike() -> None:
        weather = world.network.weather[host.name]
        weather.answers_lost = 1.0
        await world.wait(4.0)
        weather.answers_lost = 0.0

    def strikes(source: Host, target: Host) -> bool:
        if source is not host:
            return False
        world.spawn(strike())
        return True

    own = sorted(host.running)
    others = [name for name, other in world.hosts.items() if other.powered and name != host.name]
    if not own or not others:
        return
    _trap(world, "halted", strikes)
    await world.administrator.ask_to_move(f"vm:{world.chance.choice(own)}", world.chance.choice(others), "migrate")
    await world.wait(PATIENCE_S)
    world.traps.clear()


def _fence_that(how: str) -> Fault:
    async def fault(world: World, host: Host, seconds: float) -> None:
        """The host's fence device does so, and the host falls silent."""
        host.fence_fault = how
        await _cut_off(world, host, world.profile.lease)
        await world.wait(10.0)
        host.fence_fault = ""

    return fault


AIMED: dict[str, Fault] = {
    "start-while-moved": _start_while_moved,
    "outage-with-one-late": _outage_with_one_late,
    "daemon-halted": _daemon_halted,
    "cut-off-from-all": _cut_off_from_all,
    "cut-off-while-disarmed": _cut_off_while_disarmed,
    "move-unanswered": _move_unanswered,
    "fence-says-nothing": _fence_that("says-nothing"),
    "fence-answers-late": _fence_that("answers-late"),
}
