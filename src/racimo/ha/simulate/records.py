"""The records that a simulated datacenter begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.ha.simulate.fences import fence_device
from racimo.ha.simulate.setup import MIB
from racimo.model.datacenter import Datacenter
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import ManagerTerm, NodeHealth, NodeStatus, Requested, Resource, Service, ServiceState
from racimo.model.node import Node, NodeFacts
from racimo.model.rule import Affinity, Rule, RuleKind

if TYPE_CHECKING:
    from racimo.ha.simulate.setup import GuestSetup, KnownGuest, RuleSetup
    from racimo.ha.simulate.world import World


async def write_records(world: World) -> None:
    """Datacenter, nodes, guests and resources; then what an earlier manager had decided."""
    setup, layout = world.setup, world.layout
    options = setup.options
    settings = Datacenter(
        id="simulated",
        name="simulated",
        clustered=True,
        ha_profile=options.profile,
        ha_shutdown_policy=options.shutdown_policy,
        crs=options.crs,
        crs_rebalance_on_start=options.rebalance_on_start,
        crs_auto_rebalance=options.auto_rebalance,
        crs_threshold=options.threshold,
        crs_margin=options.margin,
        crs_hold=options.hold,
        crs_method=options.method,
        crs_moves_per_hour=options.moves_per_hour,
        ha_migrate_wait=options.migrate_wait,
    )
    await layout.datacenter.create("settings", settings)
    voters = set(world.quorum.voters)
    for name, node in setup.nodes.items():
        facts = NodeFacts(cpus=node.cpus, memory=node.memory)
        await layout.nodes.create(name, Node(name=name, id=name, address=name, voter=name in voters, facts=facts))
        if setup.fences:
            await layout.fence_devices.create(f"{name}-bmc", fence_device(name))
    for rule in setup.rules:
        await layout.rules.create(rule.id, rule_record(rule))
    known = setup.known.guests if setup.known else {}
    for sid, guest in setup.guests.items():
        await add_guest(world, sid, guest, known.get(sid))
    if setup.known is None:
        return
    if setup.known.manager:
        term = ManagerTerm(node=setup.known.manager, incarnation="before", term=1)
        await layout.manager.create("term", term)
    for name, health in setup.known.nodes.items():
        await layout.node_statuses.create(name, _status(world, name, NodeHealth(health)))


def rule_record(rule: RuleSetup) -> Rule:
    """The rule as the store has it."""
    return Rule(
        name=rule.id,
        kind=RuleKind(rule.type),
        resources=rule.resources,
        nodes=dict(rule.nodes),
        strict=rule.strict,
        affinity=Affinity(rule.affinity or "positive"),
        disable=rule.disabled,
    )


async def add_guest(world: World, sid: str, guest: GuestSetup, known: KnownGuest | None = None) -> None:
    """A guest, as a resource; what is known of it already counts as being so."""
    layout, vmid = world.layout, int(sid[3:])
    node = known.node if known else guest.node
    config = {"cores": str(guest.cpus), "memory": str(guest.memory // MIB)}
    if not guest.fails.missing:
        await layout.guests.create(vmid, Guest(vmid=vmid, node=node, config=config))
    resource = Resource(
        sid=sid,
        requested=Requested(guest.state),
        max_restart=guest.max_restart,
        max_relocate=guest.max_relocate,
        failback=guest.failback,
    )
    await layout.resources.create(sid, resource)
    if known is None:
        return
    state = ServiceState(known.state)
    why = "an earlier manager decided so"
    await layout.services.create(sid, Service(sid=sid, state=state, node=node, epoch=1, guarded=True, why=why))
    if state is ServiceState.STARTED:
        runs = Runtime(vmid=vmid, node=node, epoch=1, state=RunState.RUNNING, reason=why)
        await layout.runtimes.create(vmid, runs)


def _status(world: World, name: str, health: NodeHealth) -> NodeStatus:
    known = world.setup.known
    fenced = health is NodeHealth.FENCE or (
        known is not None and any((g.node, g.state) == (name, "recovery") for g in known.guests.values())
    )
    proof = "lease: found by an earlier manager" if fenced else ""
    why = f"{name}'s lease ran out" if fenced else "an earlier manager held so"
    return NodeStatus(node=name, health=NodeHealth.FENCE if fenced else health, why=why, proof=proof)
