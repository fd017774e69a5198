"""A node cut off from the others: its HA guests are dead before they start elsewhere, its other guests go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ha_lab import VMID, plain_guest

from racimo.lab.watch import await_write, guest_processes, last_acknowledgement

if TYPE_CHECKING:
    from ha_lab import HaLab

pytestmark = [pytest.mark.lab, pytest.mark.root]

PLAIN = 101


async def test_a_node_cut_off_kills_its_ha_guests_before_they_start_elsewhere_and_no_others(
    three: HaLab, figures: list[str]
) -> None:
    node = three.node(await three.manager(three.owner()))
    await three.move_to(node)
    async with plain_guest(three, node, PLAIN) as plain:
        old = three.running()
        async with three.isolated(node) as at:
            failover = await three.failover(old, at)
            kill = next(kill for kill in reversed(three.guard(node)["kills"]) if kill["vmid"] == VMID)
            assert guest_processes(three.lab, PLAIN) == [plain]
            last = last_acknowledgement(node, PLAIN)
            assert last is not None
            await await_write(three.lab, PLAIN, last.seq + 5, timeout_s=10)
        dead = kill["dead_ns"] / 1e9
        assert at < dead < failover.process.began
        figures.append(f"cut off {failover}; {node.name}'s guard saw the guest dead after {dead - at:.2f} s")
        await three.at_rest()
        assert old.pid != failover.process.pid
        assert guest_processes(three.lab, PLAIN) == [plain]
    await three.assert_sound()
    again = await three.cut_power(three.owner())
    figures.append(f"power cut after the healing {again}")
    await three.assert_sound()
