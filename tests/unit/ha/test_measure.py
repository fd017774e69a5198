"""What nodes and guests use, from what their daemons answer."""

from __future__ import annotations

from one_node import HandClock

from racimo.errors import Unreachable
from racimo.ha.measure import Measures, Sample, loads, sample
from racimo.ha.states import Load

NODES = [
    {"node": "n1", "cpu": 0.5, "maxcpu": 8, "mem": 4000},
    {"node": "n2", "cpu": 0.0, "maxcpu": 4, "mem": 1000},
    {"node": "n3", "status": "offline"},
]


class Daemons:
    """Answers as the nodes' daemons do; n2's is away."""

    def __init__(self) -> None:
        self.spent, self.asked = 10.0, 0

    async def read(self, path: str) -> object:
        self.asked += 1
        if path == "/nodes":
            return NODES
        if path == "/nodes/n2/qemu":
            raise Unreachable("n2 does not answer")
        assert path == "/nodes/n1/qemu"
        return [{"vmid": 100, "cputime": self.spent, "mem": 700}, {"vmid": 101, "status": "stopped", "mem": 0}]


async def test_a_sample_holds_the_nodes_and_guests_that_answer() -> None:
    seen = await sample(Daemons(), HandClock())
    assert seen.nodes == {"n1": Load(4.0, 4000), "n2": Load(0.0, 1000)}
    assert (seen.cpu_s, seen.memory) == ({"vm:100": 10.0}, {"vm:100": 700})


def test_a_guests_cpus_are_what_it_used_between_two_looks() -> None:
    before = Sample(100.0, {}, {"vm:100": 10.0, "vm:101": 50.0}, {})
    now = Sample(110.0, {"n1": Load(1.0, 5)}, {"vm:100": 25.0, "vm:101": 2.0, "vm:102": 7.0}, dict.fromkeys(
        ("vm:100", "vm:101", "vm:102"), 9))  # fmt: skip
    assert loads(before, now) == {"n1": Load(1.0, 5), "vm:100": Load(1.5, 9)}  # vm:101 was started anew, vm:102 is new
    assert loads(None, now) == {"n1": Load(1.0, 5)}


async def test_nothing_is_asked_unless_it_is_wanted_and_old_figures_are_dropped() -> None:
    daemons, clock, wanted = Daemons(), HandClock(), [False]
    measures = Measures(daemons, clock, lambda: wanted[0])
    await _once(measures)
    assert daemons.asked == 0
    wanted[0] = True
    await _once(measures)
    assert measures.loads()["n1"] == Load(4.0, 4000)
    clock.now += 61
    assert measures.loads() == {}


async def _once(measures: Measures) -> None:
    class Ended(Exception):
        pass

    class OneTurn(HandClock):
        async def sleep(self, seconds: float) -> None:
            raise Ended

    clock = OneTurn()
    clock.now = measures.clock.monotonic()
    kept, measures.clock = measures.clock, clock
    try:
        await measures.run()
    except Ended:
        measures.clock = kept
