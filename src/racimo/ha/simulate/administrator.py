"""What an administrator asks for, written into the store as the API does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.errors import Conflict, NotFound
from racimo.ha.resources import HaResources
from racimo.ha.simulate.records import add_guest
from racimo.model.guest import Runtime
from racimo.model.ha import Arming, ArmPhase, Maintenance

if TYPE_CHECKING:
    from racimo.ha.simulate.setup import GuestSetup
    from racimo.ha.simulate.world import World
    from racimo.model.ha import Requested


class Administrator:
    """Reaches the store directly; without quorum he is refused, as the API would."""

    def __init__(self, world: World) -> None:
        self.world, self.layout = world, world.layout
        self.resources = HaResources(world.layout, self._mark)

    async def _mark(self, node: str, vmid: int) -> None:
        host = self.world.hosts[node]
        if not host.powered:
            raise Conflict(f"{node} does not answer")
        host.keeper.mark(vmid)

    def _demand_quorum(self) -> None:
        if not self.world.quorum.leader:
            raise Conflict("It cannot be changed now", why="the store has no quorum", todo="Wait for the other nodes")

    async def add(self, guest: GuestSetup) -> None:
        """A new guest, or one that was removed from HA and is put under it again."""
        self._demand_quorum()
        vmid = int(guest.sid[3:])
        if await self.layout.guests.find(vmid) is None:
            await add_guest(self.world, guest.sid, guest)
            return
        await self.move(guest.sid, guest.node)
        await add_guest(self.world, guest.sid, replace(guest, fails=replace(guest.fails, missing=True)))

    async def request(self, sid: str, requested: Requested) -> None:
        """What is wanted of the resource from now on."""
        self._demand_quorum()
        await self.layout.resources.update(sid, lambda old: replace(old, requested=requested))

    async def ask_to_move(self, sid: str, target: str, mode: str) -> None:
        """``ha migrate`` or ``ha relocate``."""
        self._demand_quorum()
        if mode == "migrate":
            await self.resources.migrate(sid, target)
        else:
            await self.resources.relocate(sid, target)

    async def remove(self, sid: str) -> None:
        """Out of HA; the guest goes on as it is."""
        self._demand_quorum()
        await self.resources.remove(sid)

    async def move(self, sid: str, target: str) -> None:
        """By hand, outside HA: live if it runs."""
        self._demand_quorum()
        vmid = int(sid[3:])
        guest = await self.layout.guests.hold(vmid)
        if guest.record.node == target:
            return
        owner = self.world.hosts[guest.record.node]
        if owner.powered and vmid in owner.running:
            await owner.operations.migrate(vmid, guest.record.epoch, target, live=True)
            return
        held = await self.layout.runtimes.find(vmid)
        epoch = guest.record.epoch + 1
        puts = [self.layout.guests.put(vmid, replace(guest.record, node=target, epoch=epoch), guest)]
        compares = [guest.compare]
        if held is not None:
            stopped = Runtime(vmid=vmid, node=target, epoch=epoch, state=held.record.state.STOPPED)
            puts.append(self.layout.runtimes.put(vmid, stopped, held))
            compares.append(held.compare)
        if await self.layout.store.txn(compares, puts) is None:
            raise Conflict(f"{sid} was changed meanwhile")

    async def resize(self, sid: str, cpus: float | None, mib: float | None) -> None:
        """Change what is configured for the guest; None leaves it as it is."""
        self._demand_quorum()
        config: dict[str, str] = {}
        if cpus is not None:
            config["cores"] = f"{cpus:g}"
        if mib is not None:
            config["memory"] = f"{mib:.0f}"
        await self.layout.guests.update(sid[3:], lambda old: replace(old, config={**old.config, **config}))

    async def maintenance(self, node: str, *, on: bool) -> None:
        """Guests shall leave the node, or may come back."""
        self._demand_quorum()
        held = await self.layout.maintenance.find(node)
        if on and held is None:
            await self.layout.maintenance.create(node, Maintenance(node=node, since=self.world.now()))
        elif not on and held is None:
            raise NotFound(f"{node} is not in maintenance")
        elif not on:
            await self.layout.maintenance.remove(node)

    async def disarm(self, mode: str) -> None:
        """HA shall not act any more, in the whole datacenter."""
        self._demand_quorum()
        held = await self.layout.arming.find("state")
        old = held.record if held else Arming()
        new = replace(old, phase=ArmPhase.DISARMING, mode=mode, why="an administrator asked for it")
        await self._write_arming(new)

    async def arm(self) -> None:
        """HA shall act again."""
        self._demand_quorum()
        held = await self.layout.arming.find("state")
        old = held.record if held else Arming()
        await self._write_arming(replace(old, phase=ArmPhase.ARMED, mode="", why="an administrator asked for it"))

    async def _write_arming(self, new: Arming) -> None:
        held = await self.layout.arming.find("state")
        compare = held.compare if held else self.layout.arming.absent("state")
        if await self.layout.store.txn([compare], [self.layout.arming.put("state", new, held)]) is None:
            raise Conflict("It was changed meanwhile")
