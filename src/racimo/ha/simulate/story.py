"""What the verbs of a scenario do to the world."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.errors import RacimoError
from racimo.ha.simulate import faults
from racimo.ha.simulate.setup import GuestSetup
from racimo.model.ha import Requested

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.ha.simulate.verbs import Verb
    from racimo.ha.simulate.world import World


class Story:
    """Does verbs in one world."""

    def __init__(self, world: World) -> None:
        self.world, self.administrator = world, world.administrator
        self._does: dict[str, Callable[[Verb], Awaitable[None]]] = {
            "power": self._power,
            "network": self._network,
            "shutdown": self._shutdown,
            "reboot": self._reboot,
            "maintenance": self._maintenance,
            "ha": self._ha,
            "store": self._store,
            "pause": self._pause,
            "partition": self._partition,
            "heal": self._heal,
            "disarm": self._disarm,
            "arm": self._arm,
            "fault": self._fault,
            "guest add": self._add,
            "guest state": self._state,
            "guest migrate": self._move_by_ha,
            "guest relocate": self._move_by_ha,
            "guest stop": self._stop,
            "guest lock": self._lock,
            "guest unlock": self._lock,
            "guest delete": self._delete,
            "guest move": self._move_by_hand,
            "guest load": self._load,
            "guest size": self._size,
        }

    async def do(self, verb: Verb) -> None:
        """Do it. What an administrator is refused is noted, and the story goes on."""
        world = self.world
        world.disturb()
        world.promptness.touch()
        world.oracle.note("fault" if verb.name == "fault" else "step", verb.node or verb.sid, verb.words)
        try:
            await self._does[verb.name](verb)
        except RacimoError as error:
            world.oracle.note("step", verb.node or verb.sid, f"refused: {verb.words}", str(error))

    async def _power(self, verb: Verb) -> None:
        host = self.world.hosts[verb.node]
        if verb.choice == "on":
            self.world.network.switch(verb.node, on=True)
            host.power_on()
        else:
            host.power_off("its power was cut")
            self.world.network.switch(verb.node, on=False)

    async def _network(self, verb: Verb) -> None:
        self.world.network.switch(verb.node, on=verb.choice == "on")

    async def _shutdown(self, verb: Verb) -> None:
        self.world.spawn(self.world.hosts[verb.node].shut_down("poweroff"))

    async def _reboot(self, verb: Verb) -> None:
        self.world.spawn(self.world.hosts[verb.node].shut_down("reboot"))

    async def _maintenance(self, verb: Verb) -> None:
        await self.administrator.maintenance(verb.node, on=verb.choice == "on")

    async def _ha(self, verb: Verb) -> None:
        host = self.world.hosts[verb.node]
        host.ha_up = verb.choice == "start"
        if host.powered and host.ha_up:
            host.start_ha()
        elif host.powered:
            await host.end_ha()

    async def _store(self, verb: Verb) -> None:
        self.world.hosts[verb.node].store_works = verb.choice == "ok"
        self.world.quorum.refresh()

    async def _pause(self, verb: Verb) -> None:
        host = self.world.hosts[verb.node]
        host.pause()
        if verb.first:
            self.world.loop.call_in_script(self.world.now() + verb.first, host.resume)

    async def _partition(self, verb: Verb) -> None:
        self.world.network.partition(verb.groups)

    async def _heal(self, verb: Verb) -> None:
        if self.world.setup.healed:
            self.world.heal()
        else:
            self.world.network.heal()

    async def _disarm(self, verb: Verb) -> None:
        await self.administrator.disarm(verb.choice)

    async def _arm(self, verb: Verb) -> None:
        await self.administrator.arm()

    async def _fault(self, verb: Verb) -> None:
        self.world.spawn(faults.play(self.world, verb.choice, verb.node, verb.first or 0.0))

    # guests

    async def _add(self, verb: Verb) -> None:
        setup = self.world.setup.guests.get(verb.sid) or GuestSetup(sid=verb.sid, node=verb.node)
        await self.administrator.add(replace(setup, node=verb.node, state=verb.choice))

    async def _state(self, verb: Verb) -> None:
        await self.administrator.request(verb.sid, Requested(verb.choice))

    async def _move_by_ha(self, verb: Verb) -> None:
        await self.administrator.ask_to_move(verb.sid, verb.node, verb.choice)

    async def _stop(self, verb: Verb) -> None:
        """With a time-out: then by force."""
        self.world.behaviour.limit_stop(int(verb.sid[3:]), verb.first or 0.0)
        await self.administrator.request(verb.sid, Requested.STOPPED)

    async def _lock(self, verb: Verb) -> None:
        vmid = int(verb.sid[3:])
        if verb.name == "guest lock":
            self.world.locked.add(vmid)
        else:
            self.world.locked.discard(vmid)

    async def _delete(self, verb: Verb) -> None:
        await self.administrator.remove(verb.sid)

    async def _move_by_hand(self, verb: Verb) -> None:
        with suppress(KeyError):
            await self.administrator.move(verb.sid, verb.node)

    async def _load(self, verb: Verb) -> None:
        self.world.loads.change(verb.sid, verb.first, verb.second)

    async def _size(self, verb: Verb) -> None:
        await self.administrator.resize(verb.sid, verb.first, verb.second)
