"""When a node whose power was cut is switched on again: the pure rule, and its transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from given import NOW, SID, fenced, make_service, wanted, well

from racimo.ha.commit import Commit
from racimo.ha.decide import decide
from racimo.ha.fencing.returns import MAX_TRIES, returning, switch_on
from racimo.ha.states import NodeChange, Snapshot, SwitchOn
from racimo.ha.view import Records
from racimo.model.fence import FenceDevice, FenceStage, Fencing, PowerReturn, ReturnStage
from racimo.model.ha import Arming, ArmPhase, Heartbeat, ManagerTerm, NodeHealth, NodeStatus, Requested, ServiceState
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

CUT = Fencing(node="n1", incarnation="a", revision=40, term=1, by="n2", stage=FenceStage.CONFIRMED)


def cut(state: ServiceState = ServiceState.RECOVERY, back: PowerReturn | None = None, **fields: Any) -> Snapshot:
    """n1's power was cut and confirmed off; what becomes of its guest is ``state``; n2 manages."""
    found = fenced(well(), "n1")
    status = replace(found.statuses["n1"], proof="power: n1-bmc cut it")
    defaults: dict[str, Any] = {
        "statuses": {**found.statuses, "n1": status}, "services": {SID: make_service(state=state)}, "node": "n2",
        "fencings": {"n1": replace(CUT, back=back)}, "returning": frozenset({"n1"}), "wall": 1000.0,
    }  # fmt: skip
    return replace(found, **(defaults | fields))


def returned(stage: ReturnStage, attempt: int = 1, **fields: Any) -> PowerReturn:
    return PowerReturn(**({"by": "n2", "term": 1, "stage": stage, "attempt": attempt, "since": 990.0} | fields))


@pytest.mark.parametrize("state", [ServiceState.RECOVERY, ServiceState.ERROR, ServiceState.STOPPED])
def test_a_node_is_switched_on_when_what_waits_for_it_is_done(state: ServiceState) -> None:
    order = switch_on(cut(state), "n1")
    assert order is not None and order.fencing.back is not None
    assert (order.fencing.back.by, order.fencing.back.term, order.fencing.back.attempt) == ("n2", 1, 1)
    assert order.fencing == replace(CUT, back=order.fencing.back)
    assert order in decide(cut(state), NOW).decisions


def test_a_node_waits_until_its_guest_was_given_away_or_is_known_to_have_no_place() -> None:
    assert switch_on(cut(ServiceState.STARTED), "n1") is None
    assert switch_on(wanted(cut(ServiceState.STARTED), requested=Requested.STOPPED), "n1") is not None


@pytest.mark.parametrize(
    "snapshot",
    [
        cut(returning=frozenset()),
        cut(arming=Arming(phase=ArmPhase.DISARMED)),
        cut(fencings={}),
        cut(fencings={"n1": replace(CUT, stage=FenceStage.FAILED)}),
        cut(statuses={"n1": NodeStatus(node="n1", health=NodeHealth.FENCE, proof="lease: silent")}),
        cut(heartbeats=well().heartbeats),
        cut(nodes={name: node for name, node in well().nodes.items() if name != "n1"}),
    ],
    ids=["stays off", "disarmed", "never cut", "not confirmed", "taken by its lease", "shows life", "removed"],
)
def test_a_node_that_is_not_to_return_stays_as_it_is(snapshot: Snapshot) -> None:
    assert switch_on(snapshot, "n1") is None


def test_it_is_tried_again_after_a_while_and_so_often_alone() -> None:
    failed = ReturnStage.FAILED
    assert switch_on(cut(back=returned(failed)), "n1") is None
    again = switch_on(cut(back=returned(failed, since=960.0)), "n1")
    assert again is not None and again.fencing.back is not None and again.fencing.back.attempt == 2
    assert switch_on(cut(back=returned(failed, MAX_TRIES, since=0.0)), "n1") is None
    assert switch_on(cut(back=returned(ReturnStage.DONE)), "n1") is None


def test_an_order_of_an_earlier_manager_is_given_anew() -> None:
    assert switch_on(cut(back=returned(ReturnStage.RUNNING)), "n1") is None
    assert switch_on(cut(back=returned(ReturnStage.RUNNING, term=0)), "n1") is not None


def test_the_nodes_status_says_what_came_of_it() -> None:
    back = returned(ReturnStage.DONE, why="n1-bmc says that it is on")
    (change,) = [d for d in decide(cut(back=back), NOW).decisions if isinstance(d, NodeChange)]
    assert change.status is not None and change.status.switched_on and change.status.proof.startswith("power:")
    assert change.status.power == "it was switched on again: n1-bmc says that it is on"
    said = cut(back=back, statuses={**cut().statuses, "n1": change.status})
    assert not [d for d in decide(said, NOW).decisions if isinstance(d, (NodeChange, SwitchOn))]
    first = cut(back=returned(ReturnStage.FAILED, why="no answer"))
    assert not [d for d in decide(first, NOW).decisions if isinstance(d, NodeChange)]


def test_one_device_that_leaves_its_node_off_is_enough() -> None:
    one = FenceDevice(name="a", node="n1", agent="fence_x")
    two, three = replace(one, name="b", power_on=False), replace(one, name="c", node="n2")
    assert returning({"a": one, "c": three}) == {"n1", "n2"}
    assert returning({"a": one, "b": two, "c": three}) == {"n2"}
    assert returning({"a": one, "b": replace(two, enabled=False)}) == {"n1"}


async def test_no_node_is_switched_on_that_has_shown_life_meanwhile() -> None:
    layout = Layout(MemoryStore())
    await layout.manager.create("term", ManagerTerm(node="n2", incarnation="a", term=1))
    await layout.fencings.create("n1", CUT)
    basis = Records()
    for table in ("manager", "fencings"):
        setattr(basis, table, await getattr(layout, table).all())
    order = switch_on(cut(), "n1")
    assert order is not None
    transaction = Commit(layout, basis, basis.manager["term"].compare).transaction(order)
    await layout.heartbeats.create("n1", Heartbeat(node="n1", incarnation="b", sequence=1))
    assert await layout.store.txn(*transaction) is None
    await layout.heartbeats.remove("n1")
    assert await layout.store.txn(*transaction) is not None
    assert (await layout.fencings.get("n1")).back is not None
    await layout.store.close()
