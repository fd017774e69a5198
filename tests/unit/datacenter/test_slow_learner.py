"""A node's member on its way to a vote: it is slow, or what it has learned is lost."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from racimo.datacenter.etcd_member import data_folder
from racimo.datacenter.learning import Learning
from racimo.datacenter.services import ETCD_UNIT
from racimo.datacenter.voter_keeper import VoterKeeper

if TYPE_CHECKING:
    from .conftest import Lot, TestNode


def keeper_of(node: TestNode) -> VoterKeeper:
    return VoterKeeper(node.host, node.of.store, node.of.quorum, is_manager=lambda: False)


async def two_and_one_that_joins(lot: Lot) -> tuple[TestNode, TestNode]:
    """Three nodes of which the third has no keeper yet; the first, and the third, which is the next to learn."""
    first, second = await lot.cluster(2)
    third = await (await lot.node().init()).join(first)
    await first.until("the second votes", lambda status: status.votes_expected == 2)
    assert second.clustered()
    return first, third


async def test_a_member_that_is_slow_to_start_is_not_begun_again(lot: Lot) -> None:
    """Else it is ended again and again; and once its first start got through meanwhile, it never serves any more."""
    first, third = await two_and_one_that_joins(lot)
    third.services.slow_s = 4.0
    await third.keep()
    await first.until("all three vote", lambda status: status.votes_present == 3)
    assert third.services.started.count(ETCD_UNIT) == 1


async def test_a_learner_whose_data_is_lost_is_added_anew_by_itself(lot: Lot) -> None:
    first, third = await two_and_one_that_joins(lot)
    keeper = keeper_of(third)
    assert "as a learner" in await keeper.turn()
    async with asyncio.timeout(60):
        while not any(member.learner and member.name for member in await first.of.quorum.members()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # no turn meanwhile: it would make it a voter
    lost = next(member.id for member in await first.of.quorum.members() if member.learner)
    await third.services.kill()
    shutil.rmtree(data_folder(third.host))
    keeper.learning.patience = 2.0
    said: list[str] = []
    async with asyncio.timeout(60):
        while (status := await first.of.status()).votes_present < 3:
            said.append(await keeper.turn())
            await asyncio.sleep(0.2)
    assert any("did not come to serve" in sentence for sentence in said), (said, status)
    assert lost not in {member.id for member in await first.of.quorum.members()}


def test_a_learner_gets_more_time_after_each_new_start() -> None:
    now = [0.0]
    learning = Learning(lambda: now[0], patience=30)
    assert not learning.out_of_patience(1, answers=False)
    now[0] = 29
    assert not learning.out_of_patience(1, answers=True)
    now[0] = 58
    assert not learning.out_of_patience(1, answers=False)
    now[0] = 88
    assert learning.out_of_patience(1, answers=False)
    learning.started_over()
    assert not learning.out_of_patience(2, answers=False)
    now[0] = 147
    assert not learning.out_of_patience(2, answers=False)
    now[0] = 148
    assert learning.out_of_patience(2, answers=False)
