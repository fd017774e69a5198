"""All nodes off at once, and on again in one order or another: the guest is back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from racimo.lab.together import together
from racimo.lab.watch import boot_clock

if TYPE_CHECKING:
    from ha_lab import HaLab

pytestmark = [pytest.mark.lab, pytest.mark.root]

APART_S = 3.0


@pytest.mark.parametrize("order", ["together", "owner last", "owner first", "without the owner"])
async def test_the_guest_is_back_after_all_nodes_lost_their_power(three: HaLab, order: str, figures: list[str]) -> None:
    owner = three.owner()
    others = three.others(owner)
    await together(*(node.power_cut() for node in three.nodes))
    at = boot_clock()
    if order == "together":
        await together(*(node.boot(ready=False) for node in three.nodes))
    elif order == "without the owner":
        await together(*(node.boot(ready=False) for node in others))
    else:
        for node in [*others, owner] if order == "owner last" else [owner, *others]:
            await node.boot(ready=False)
            await asyncio.sleep(APART_S)
    await three.writes()
    figures.append(
        f"all off, then on ({order}): the guest writes after {boot_clock() - at:.1f} s on {three.owner().name}"
    )
    if order == "without the owner":
        assert three.owner().name != owner.name
    await three.at_rest()
    await three.assert_sound()
