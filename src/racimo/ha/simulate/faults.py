"""The faults: each begins, lasts a while, and ends. A fault is counted when it has struck."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.errors import RacimoError
from racimo.ha.simulate.administration import ACTS
from racimo.ha.simulate.aimed import AIMED
from racimo.ha.simulate.control_plane import AWAY
from racimo.ha.simulate.kinds import FAULTS
from racimo.ha.simulate.network import USUAL_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.world import World

    Fault = Callable[[World, Host, float], Awaitable[None]]


async def play(world: World, kind: str, node: str, seconds: float) -> None:
    """The fault ``kind`` at ``node``, for ``seconds`` in the world's time."""
    world.disturb()
    world.promptness.touch()
    host = world.hosts[node]
    if kind not in UNSURE:
        world.oracle.count(kind)
    world.survival.begins(kind)
    try:
        await _PLAYS[kind](world, host, seconds)
    except RacimoError as error:
        world.oracle.note("step", node, f"refused: {kind}", str(error))
    world.survival.ends(kind)
    world.disturb()
    world.promptness.touch()
    world.oracle.note("fault", node, f"{kind} is over")


async def _crash(world: World, host: Host, seconds: float) -> None:
    """The kernel dies; the machine boots again by itself."""
    host.power_off("it crashed")
    await world.wait(seconds)
    host.power_on()


async def _cold_start(world: World, host: Host, seconds: float) -> None:
    """No machine has power; they come back one by one, in any order."""
    names = list(world.hosts)
    world.chance.shuffle(names)
    for name in names:
        world.hosts[name].power_off("the building has no power")
    await world.wait(seconds)
    for name in names:
        world.hosts[name].power_on()
        await world.wait(world.chance.uniform(0.0, 20.0))


async def _lost(world: World, host: Host, seconds: float) -> None:
    """The machine never comes back."""
    world.buried.add(host.name)
    host.power_off("it is broken for good")


async def _pause(world: World, host: Host, seconds: float) -> None:
    """Its watchdog works: a pause without one is the gap that docs/architecture/ha.md names."""
    host.watchdog_works = True
    host.pause()
    await world.wait(seconds)
    host.resume()


async def _starve(world: World, host: Host, seconds: float) -> None:
    host.starved = world.chance.choice([0.3, 1.5, 4.0])
    await world.wait(seconds)
    host.starved = 0.0


def _pairs(world: World, host: Host, others: list[str], ways: str) -> list[tuple[str, str]]:
    out = [(host.name, other) for other in others] if "o" in ways else []
    back = [(other, host.name) for other in others] if "i" in ways else []
    return out + back


async def _cut(world: World, pairs: list[tuple[str, str]], seconds: float) -> None:
    world.network.block(pairs)
    world.disturb()
    await world.wait(seconds)
    world.network.unblock(pairs)


def _others(world: World, host: Host) -> list[str]:
    return [name for name in world.hosts if name != host.name]


async def _isolate(world: World, host: Host, seconds: float) -> None:
    await _cut(world, _pairs(world, host, _others(world, host), "oi"), seconds)


async def _one_way(world: World, host: Host, seconds: float) -> None:
    await _cut(world, _pairs(world, host, _others(world, host), world.chance.choice("oi")), seconds)


async def _partial(world: World, host: Host, seconds: float) -> None:
    others = _others(world, host)
    some = world.chance.sample(others, max(1, len(others) // 2)) if others else []
    await _cut(world, _pairs(world, host, some, "oi"), seconds)


async def _split(world: World, host: Host, seconds: float) -> None:
    names = list(world.hosts)
    world.chance.shuffle(names)
    half = len(names) // 2
    pairs = [(a, b) for a in names[:half] for b in names[half:]]
    await _cut(world, pairs + [(b, a) for a, b in pairs], seconds)


async def _flap(world: World, host: Host, seconds: float) -> None:
    pairs = _pairs(world, host, _others(world, host), "oi")
    for _ in range(6):
        await _cut(world, pairs, seconds / 3 * world.chance.uniform(0.3, 1.5))
        await world.wait(world.chance.uniform(0.05, 1.5))


async def _weather(world: World, host: Host, seconds: float, **worse: object) -> None:
    weather = world.network.weather[host.name]
    for name, value in worse.items():
        setattr(weather, name, value)
    await world.wait(seconds * 2)
    weather = world.network.weather[host.name]
    for name in worse:
        setattr(weather, name, USUAL_S if name == "delay" else 0.0)


async def _loss(world: World, host: Host, seconds: float) -> None:
    await _weather(world, host, seconds, lost=world.chance.choice([0.1, 0.4, 0.8]))


async def _duplicate(world: World, host: Host, seconds: float) -> None:
    await _weather(world, host, seconds, repeated=0.5)


async def _reorder(world: World, host: Host, seconds: float) -> None:
    await _weather(world, host, seconds, delay=(0.0, 1.0))


async def _delay(world: World, host: Host, seconds: float) -> None:
    await _weather(world, host, seconds, delay=world.chance.choice([(0.2, 0.4), (1.0, 1.4), (2.0, 4.0)]))


async def _lose_answers(world: World, host: Host, seconds: float) -> None:
    await _weather(world, host, seconds, answers_lost=world.chance.choice([0.3, 1.0]))


async def _late_answer(world: World, host: Host, seconds: float) -> None:
    """Heartbeats are committed, and their answers lost; seconds later one is heard of, and then nothing any more."""
    scale, pairs = world.profile.lease / 10.0, _pairs(world, host, _others(world, host), "oi")
    weather = world.network.weather[host.name]
    weather.answers_lost = 1.0
    await world.wait(world.profile.beat * world.chance.uniform(0.9, 1.5))
    weather.answers_lost = 0.0
    await _cut(world, pairs, scale * world.chance.uniform(4.5, 5.5))
    holder = host.ha.holder if host.answers() else None
    before, until = holder.lease if holder else None, world.now() + scale
    while holder is not None and holder.lease == before and world.now() < until:
        await world.wait(0.002)
    await _cut(world, pairs, max(seconds, 2.5 * world.profile.lease))


async def _jump(world: World, host: Host, seconds: float) -> None:
    """The wall clock is set: nothing may depend on it."""
    host.wall_off = world.chance.choice([-86400.0, -30.0, 30.0, 86400.0])
    await world.wait(seconds)
    host.wall_off = 0.0


async def _drift(world: World, host: Host, seconds: float) -> None:
    """The machine's oscillator is as wrong as is allowed for: 2 percent, from its next boot on."""
    host.rate_range = world.chance.choice([(0.98, 0.981), (1.019, 1.02)])
    host.reset("a reset, with a clock that is wrong")
    await world.wait(seconds + 30.0)


async def _disk(world: World, host: Host, seconds: float) -> None:
    """The member's disk takes nothing: full, in error, or stalled. The member stands still."""
    host.disk = False
    world.quorum.refresh()
    await world.wait(seconds)
    host.disk = True
    world.quorum.refresh()


async def _torn(world: World, host: Host, seconds: float) -> None:
    """The power goes in the midst of a write: what the member had not yet agreed to is cut off at its next start."""
    host.power_off("its power went in the midst of a write")
    world.quorum.tear(host.name)
    await world.wait(seconds)
    host.power_on()


async def _silent(world: World, host: Host, seconds: float) -> None:
    """The watchdog does nothing when it should. Alone that harms nothing."""
    host.watchdog_works = host.paused or not host.storage
    await world.wait(seconds)
    host.watchdog_works = True


async def _early(world: World, host: Host, seconds: float) -> None:
    if host.powered:
        host.reset("its watchdog struck for no reason")


async def _storage_only(world: World, host: Host, seconds: float) -> None:
    """The cluster network is gone, the storage is not: what a split brain needs."""
    await _isolate(world, host, seconds)


async def _network_only(world: World, host: Host, seconds: float) -> None:
    """Guests that wait for their disk cannot die: only the watchdog helps, so it works."""
    host.watchdog_works = True
    host.set_storage(on=False)
    await world.wait(seconds)
    host.set_storage(on=True)


def _cut_migration(phase: str) -> Fault:
    async def cut(world: World, host: Host, seconds: float) -> None:
        """Something happens to a migration when it comes to ``phase``; one is asked for."""
        how = world.chance.choice(["source", "target", "network", "ha"])

        def trap(name: str, source: Host, target: Host) -> None:
            if name != phase or trap not in world.traps:
                return
            world.traps.remove(trap)
            world.oracle.count(f"migration-cut-{phase}")
            world.oracle.note("fault", source.name, f"a migration to {target.name} is cut when {phase}, by {how}")
            world.spawn(_strike(world, how, source, target, seconds))

        world.traps.append(trap)
        await _ask_to_move(world, host, seconds)
        await world.wait(30.0)
        if trap in world.traps:
            world.traps.remove(trap)

    return cut


async def _strike(world: World, how: str, source: Host, target: Host, seconds: float) -> None:
    if how == "network":
        await _isolate(world, source, seconds)
    elif how == "ha":
        await AWAY["ha-restart"](world, source, seconds)
    else:
        await _crash(world, source if how == "source" else target, seconds)


async def _ask_to_move(world: World, host: Host, seconds: float) -> None:
    """An administrator asks HA to move a guest to the host."""
    sids = [sid for sid in world.witness.resources if sid in world.witness.services]
    if not sids:
        return
    sid = world.chance.choice(sorted(sids))
    mode = world.chance.choice(["migrate", "migrate", "relocate"])
    world.oracle.note("step", sid, f"asked to {mode} to {host.name}")
    try:
        await world.administrator.ask_to_move(sid, host.name, mode)
    except RacimoError as error:
        world.oracle.note("step", sid, "refused", str(error))


async def _late(world: World, host: Host, seconds: float) -> None:
    host.late = 0.7
    await world.wait(seconds * 2)
    host.late = 0.0


async def _repeat(world: World, host: Host, seconds: float) -> None:
    """A command that was given long ago comes again, under its old epoch."""
    commands = [(guest.vmid, guest.epoch) for guest in world.witness.owners.values() if guest.node == host.name]
    await world.wait(seconds)
    if not host.powered:
        return
    for vmid, epoch in commands:
        world.overseer.by_hand.add(f"vm:{vmid}")
        try:
            await host.operations.start(vmid, epoch)
        except RacimoError as error:
            world.oracle.note("step", f"vm:{vmid}", f"a repeated start on {host.name} was refused", str(error))


async def _guest_crash(world: World, host: Host, seconds: float) -> None:
    if host.running and host.powered:
        vmid = world.chance.choice(sorted(host.running))
        host.finish(vmid, "the guest crashed")
        host.spawn(host.operations.write_down(vmid, "the guest crashed"))


def _broken_fence(how: str) -> Fault:
    async def broken(world: World, host: Host, seconds: float) -> None:
        """The host's fence device fails, and something happens to the host that would have it used."""
        host.fence_fault = how
        await world.chance.choice([_crash, _isolate, _pause, _flap])(world, host, seconds)
        await world.wait(world.chance.uniform(0.0, 20.0))
        host.fence_fault = ""

    return broken


UNSURE = ("answer-lost", "late-commands", *(kind for kind in FAULTS if kind.startswith("migration-cut")))
"""Those that strike only when something else happens, and are counted then."""

_PLAYS: dict[str, Fault] = {
    "crash": _crash,
    "power-loss": _crash,
    "pause": _pause,
    "cpu-starvation": _starve,
    "isolation": _isolate,
    "one-way-partition": _one_way,
    "partial-partition": _partial,
    "split": _split,
    "flap": _flap,
    "loss": _loss,
    "duplication": _duplicate,
    "reordering": _reorder,
    "delay": _delay,
    "late-answer-then-isolation": _late_answer,
    "clock-jump": _jump,
    "clock-drift": _drift,
    "disk-full": _disk,
    "disk-stall": _disk,
    "disk-error": _disk,
    "torn-write": _torn,
    "answer-lost": _lose_answers,
    "watchdog-silent": _silent,
    "watchdog-early": _early,
    "storage-without-network": _storage_only,
    "network-without-storage": _network_only,
    **{kind: _cut_migration(kind.removeprefix("migration-cut-")) for kind in FAULTS if kind.startswith("migration-")},
    "late-commands": _late,
    "repeated-commands": _repeat,
    "cold-start": _cold_start,
    "node-lost": _lost,
    "guest-crash": _guest_crash,
    "ask-to-move": _ask_to_move,
    **ACTS,
    **AIMED,
    **AWAY,
    **{kind: _broken_fence(kind.removeprefix("fence-")) for kind in FAULTS if kind.startswith("fence-")},
}
