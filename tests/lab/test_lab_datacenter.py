"""The whole story on three real nodes, and what must not take longer than promised."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from racimo.api.client import ApiClient
from racimo.errors import Unauthorised
from racimo.lab.datacenter import await_quorum
from racimo.lab.demo import demonstrate
from racimo.lab.lab import Lab

if TYPE_CHECKING:
    from conftest import MakeLab

    from racimo.lab.place import LabPlace

pytestmark = [pytest.mark.lab, pytest.mark.root]


async def test_the_demonstration_keeps_its_promise(place: LabPlace) -> None:
    told: list[str] = []
    result = await demonstrate(place, lambda what, _seconds: told.append(what))
    assert result.sound, result
    assert result.nodes == 3
    assert result.failover_start_s <= 12, told
    assert 0 < result.migration_downtime_ms < 1000
    assert Lab.find(place).node("n2").leader is None


async def test_two_nodes_and_a_witness_come_up_and_the_host_reaches_their_api(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=2, witness=True)
    await await_quorum(lab.nodes[1], 3)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with ApiClient.tls("127.0.0.1", lab.nodes[1].spec.port, trusting) as client:
        with pytest.raises(Unauthorised):
            await client.get("/cluster/status")
