"""What people hear of a fence: once, and once when it is over, though the node that sends is the one that dies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ha_lab import SID, until
from listener import PATH, TOKEN, heard, listener

from racimo.datacenter.backup import read_backup
from racimo.lab.datacenter import api

if TYPE_CHECKING:
    from ha_lab import HaLab

pytestmark = [pytest.mark.lab, pytest.mark.root]


async def test_a_fence_of_the_managers_node_is_heard_once_and_once_that_it_is_back(three: HaLab) -> None:
    manager = three.node(await three.manager(three.owner()))
    await three.move_to(manager)
    on = three.others(manager)[0]
    async with listener(on, manager, "fencing,recovery"):
        failover = await three.cut_power(manager)
        await three.at_rest()
        expected = {
            f"{manager.name} is fenced": False, f"{manager.name} is back": True,
            f"{SID} is recovered from {manager.name}": False, f"{SID} runs again on {failover.target}": True,
        }  # fmt: skip

        async def all_heard() -> list[dict[str, Any]] | None:
            messages = heard(on)
            return messages if {message["title"] for message in messages} >= set(expected) else None

        messages = await until("all notifications", all_heard, 20)
        assert {message["title"]: message["over"] for message in messages} == expected
        assert len(messages) == len(expected), messages
        begun = {message["id"] for message in messages if not message["over"]}
        assert {message["about"] for message in messages if message["over"]} == begun
        assert manager.name not in {message["node"] for message in messages}
        async with api(on) as client:
            targets = {target["name"]: target for target in await client.get(f"{PATH}/targets")}  # type: ignore
            backup = await client.post("/racimo/backup")
        assert targets["hook"]["state"] == "ok"
        assert "install a mail program" in targets["mail-to-root"]["why"]  # the built-in one: these nodes have none
        path = on.files / str(backup).removeprefix("/")
        assert TOKEN.encode() not in b"".join(read_backup(path).records.values())
    await three.assert_sound()
