"""A simulated datacenter: hosts over a network over a quorum, and the records that it begins with."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeAlias

from racimo.errors import RacimoError
from racimo.ha.balancing import ROUND_S
from racimo.ha.simulate.administration import put_right
from racimo.ha.simulate.administrator import Administrator
from racimo.ha.simulate.authority import Authority
from racimo.ha.simulate.behaviour import Behaviour
from racimo.ha.simulate.host import Host
from racimo.ha.simulate.judge import Judge
from racimo.ha.simulate.keeper import HostGuard
from racimo.ha.simulate.loads import Loads, Measured
from racimo.ha.simulate.loop import virtual_loop
from racimo.ha.simulate.network import Network
from racimo.ha.simulate.oracle import Oracle
from racimo.ha.simulate.overseer import Overseer
from racimo.ha.simulate.parts import SimulatedHa
from racimo.ha.simulate.promptness import Promptness
from racimo.ha.simulate.quorum import Quorum
from racimo.ha.simulate.records import rule_record, write_records
from racimo.ha.simulate.rest import resting, wanted
from racimo.ha.simulate.survival import Survival
from racimo.ha.simulate.witness import Witness
from racimo.ha.timing import profile_named
from racimo.store.layout import HA, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from racimo.ha.simulate.operations import Task
    from racimo.ha.simulate.oracle import Process
    from racimo.ha.simulate.setup import Setup
    from racimo.ha.states import Load
    from racimo.store.collection import Held

Trap: TypeAlias = "Callable[[str, Host, Host], None]"

QUIET_S = 5.0
"""So long nothing new happens before a stretch counts as quiet."""

ROUNDS_S = 2.5 * ROUND_S
"""The same where guests are balanced: rounds in which something is found to do are written down, and two were not."""

LONGEST_COUNT_S = 36.0
"""The same while a node shows no life and was not fenced: longer than the longest lease."""

LOOK_S = 1.0
"""How often it is asked whether the stretch is quiet."""

MAX_VOTERS = 5


def voters_of(nodes: list[str]) -> list[str]:
    """The nodes whose members keep the store: 1, 3 or 5. Two nodes are the two of three, with a witness."""
    return nodes[: MAX_VOTERS if len(nodes) >= MAX_VOTERS else 3 if len(nodes) >= 3 else len(nodes)]


class World:
    """One history. ``make_ha`` builds the HA daemon of a host: a deliberate break gives another one."""

    def __init__(self, setup: Setup, make_ha: type[SimulatedHa] = SimulatedHa) -> None:
        self.setup, self.make_ha = setup, make_ha
        self.chance = random.Random(setup.seed)  # noqa: S311 - a simulation has to be the same each time
        self.loop = virtual_loop()
        self.profile = profile_named(setup.options.profile)
        self.oracle = Oracle(self.now)
        self.network = Network([*setup.nodes], self.chance)
        self.calm = self.network.calm = not setup.healed
        """Whether chance has no part: in scenarios of one's own."""
        self.hosts = {name: Host(self, name) for name in setup.nodes}
        self.quorum = Quorum(voters_of(list(setup.nodes)), dict(self.hosts), self.network, self.chance)
        self.layout = Layout(self.quorum.store)
        self.witness = Witness(self)
        self.judge = Judge(self, [rule_record(rule) for rule in setup.rules])
        self.overseer = Overseer(self)
        self.promptness = Promptness(self)
        self.quorum.changed.append(self.promptness.touch)
        self.survival, self.authority = Survival(self), Authority(self)
        self.network.changed.append(self.survival.disturb)
        self.behaviour = Behaviour(setup)
        self.loads = Loads(setup)
        self.boot_s = 0.0
        self.checks_epochs = self.keeps_marks = self.halts_first = self.looks_at_lease = True
        self.doubts_silence = self.waits_for_commit = True
        """Rules of the nodes' daemons; each is false only where it is broken on purpose."""
        self.guard_kind = HostGuard
        self.locked: set[int] = set()
        self.administrator = Administrator(self)
        self.last_runner: dict[int, str] = {}
        self.buried: set[str] = set()
        """Nodes that never come back."""
        self.is_healed = False
        """Whether a random history's troubles are over."""
        self.writer = ""
        """Whose transaction is being committed."""
        self.tasks: list[Task] = []
        self.traps: list[Trap] = []
        """Faults that wait for a migration's phase."""
        self.failures: list[BaseException] = []
        self.decoded: dict[tuple[str, int, bytes], Held[Any]] = {}
        self.disturbed = 0.0
        """When something last happened, on the loop's clock."""
        self.beats: dict[str, float] = {}
        """When each node's heartbeat was last committed, on the loop's clock."""
        self._incarnations = 0
        self._spawned: set[asyncio.Task[Any]] = set()

    def now(self) -> float:
        """Seconds since the beginning."""
        return self.loop.world_time()

    def name_incarnation(self) -> str:
        """The next incarnation's name."""
        self._incarnations += 1
        return f"i{self._incarnations}"

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of the world; what it raises, but for what people are told anyway, is a failure of the history."""
        task = self.loop.create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RacimoError):
            self.failures.append(error)
            self.oracle.violate(f"the code failed: {type(error).__name__}: {error}")

    def disturb(self) -> None:
        """Something happens: no stretch is quiet for a while."""
        self.disturbed = self.loop.time()

    def phase(self, name: str, source: Host, target: Host) -> None:
        """A migration came to ``name``: faults may wait for it."""
        for trap in list(self.traps):
            trap(name, source, target)

    async def begin(self) -> None:
        """Write the first records and switch on what is on."""
        await write_records(self)
        self.witness.watch()
        self.oracle.events.clear()
        for name, node in self.setup.nodes.items():
            if node.on:
                self.hosts[name].power_on()
        if self.quorum.possible():
            self.quorum.elect_now()
        self.loop.call_later(QUIET_S, self._skip)

    async def end(self) -> None:
        """Everything stops."""
        ended = self.now()
        self.oracle.now = lambda: ended
        for host in self.hosts.values():
            host.power_off("the end")
        for task in list(self._spawned):
            task.cancel()
        await asyncio.gather(*self._spawned, return_exceptions=True)

    async def until(self, moment: float, stop: asyncio.Future[None] | None = None) -> None:
        """Wait until ``moment`` in the world's time, or until ``stop`` is done."""
        waiter: asyncio.Future[None] = self.loop.create_future()

        def end(*_: object) -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.loop.call_in_script(moment, end)
        if stop is not None:
            stop.add_done_callback(end)
        await waiter

    async def wait(self, seconds: float) -> None:
        """Wait in the world's time."""
        await self.until(self.now() + seconds)

    def measure(self, process: Process) -> None:
        """A guest began: how long after its former node failed?"""
        before = self.last_runner.get(process.vmid)
        self.last_runner[process.vmid] = process.node
        if before and before != process.node and (failed := self.hosts[before].failed_at) is not None:
            self.oracle.failovers.append(self.now() - failed)

    def measured(self) -> Mapping[str, Load]:
        """What guests and nodes use, as it would be measured now."""
        return Measured(self)

    def heal(self) -> None:
        """No fault is left, but for nodes that are lost for good."""
        self.is_healed = True
        self.network.heal()
        self.quorum.stalled = False
        for host in self.hosts.values():
            if host.name not in self.buried:
                self.network.switch(host.name, on=True)
                host.heal()
        self.quorum.refresh()
        self.spawn(put_right(self))

    def check_the_end(self) -> None:
        """After all was healed: every guest that is wanted runs where it belongs, and no task is open."""
        if not self.setup.healed:
            return
        for sid in wanted(self):
            vmid = int(sid[3:])
            runners, owner = self.oracle.runners(vmid), self.witness.owners[vmid].node
            if not runners and not self._could_run(sid):
                continue
            if runners != [owner]:
                service = self.witness.services.get(sid)
                state = f"{service.state}: {service.why}" if service else "not taken up"
                self.oracle.violate(f"9 {sid} of {owner} should run, and runs on {runners or 'no node'} ({state})")
        self.overseer.look_at_the_end()
        for task in self.tasks:
            if not task.end:
                began = f"{task.began:.1f} s"
                self.oracle.violate(f"8 {task.what} of vm:{task.vmid} on {task.node}, begun at {began}, never ended")

    def _could_run(self, sid: str) -> bool:
        """Whether there is a node for the guest that its rules and the nodes' memory allow.

        The guest of a node that is gone for good and never marked it since HA was armed again may run there still,
        for all that is known.
        """
        service, arming = self.witness.services.get(sid), self.witness.arming
        owner, generation = self.witness.owners[int(sid[3:])].node, arming.generation if arming else 0
        if owner in self.buried and service is not None and not (service.guarded and service.armed == generation):
            return False
        return bool(self.judge.could_be_on(sid, [name for name in self.hosts if name not in self.buried]))

    # quiet stretches

    def quiet(self) -> bool:
        """Whether each further second would be like the last, until the script goes on."""
        still = self.loop.time() - self.disturbed
        if still < (ROUNDS_S if self.setup.options.auto_rebalance else QUIET_S) or not self.network.fair():
            return False
        if not self.quorum.leader or self.quorum.stalled or any(not task.end for task in self.tasks[-50:]):
            return False
        if any(host.wish or host.starved or host.late for host in self.hosts.values()):
            return False
        if self.promptness.waits():
            return False
        if not resting(self.witness.services.values(), self.now(), queued=still > LONGEST_COUNT_S):
            return False
        late = self.loop.time() - 3 * self.profile.beat
        if any(self.beats.get(node, 0.0) <= late for node in self.witness.heartbeats):
            return False
        statuses = self.witness.statuses
        silent = [name for name in self.hosts if name not in self.witness.heartbeats]
        return still > LONGEST_COUNT_S or all(name in statuses and statuses[name].proof for name in silent)

    def _skip(self) -> None:
        coming = self.loop.next_in_script()
        if coming is not None and self.quiet():
            self.loop.skip_to(coming)
        self.loop.call_later(LOOK_S, self._skip)

    def news(self, key: str) -> None:
        """A record was committed."""
        if not key.startswith(HA + "heartbeats/"):
            self.disturb()
