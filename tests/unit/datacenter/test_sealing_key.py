"""The sealing key: made once, handed from node to node, changed, lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.backup import back_up, read_backup
from racimo.datacenter.host import Host
from racimo.datacenter.sealing import SETTLED, SealingKeeper
from racimo.errors import Conflict
from racimo.model.datacenter import Datacenter
from racimo.model.fence import FenceDevice
from racimo.model.notification import Target, TargetKind
from racimo.model.paths import NodePaths
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.mirror import Mirror
from racimo.store.sealing import Sealing, is_sealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from racimo.store.sealing import Keyring


@dataclass
class Members:
    """Nodes over one store; ``away`` do not answer."""

    root: Path
    store: MemoryStore
    keepers: dict[str, SealingKeeper] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    manager: str = "n1"

    @property
    def layout(self) -> Layout:
        return Layout(self.store)

    def node(self, name: str) -> SealingKeeper:
        sealing = Sealing(NodePaths(self.root / name).sealing)
        keeper = SealingKeeper(Layout(self.store), sealing, Others(self, name), lambda: self.manager == name)
        self.keepers[name] = keeper
        return keeper


@dataclass
class Others:
    members: Members
    own: str

    async def rings(self, timeout: float) -> Mapping[str, Keyring | None]:
        members = self.members
        return {
            name: None if name in members.away else keeper.sealing.reload()
            for name, keeper in members.keepers.items() if name != self.own
        }  # fmt: skip


@pytest.fixture
async def members(tmp_path: Path) -> AsyncIterator[Members]:
    store = MemoryStore()
    await Layout(store).datacenter.create("settings", Datacenter(id="dc", name="lab"))
    yield Members(tmp_path, store)
    await store.close()


async def settled(*keepers: SealingKeeper) -> None:
    for _ in range(4):
        said = [await keeper.turn() for keeper in keepers]
    assert said == [SETTLED] * len(keepers)


async def keep_secrets(members: Members, sealing: Sealing | None) -> None:
    """A mail target and a fence device with the password "hush": sealed, or in the clear as they once stood."""
    layout = members.layout
    target = Target(name="ops", kind=TargetKind.SMTP, password="hush")
    device = FenceDevice(name="bmc", node="n1", agent="fence_x", secrets={"password": "hush"})
    if sealing:
        target = sealing.seal_record(layout.notification_targets.key("ops"), target)
        device = sealing.seal_record(layout.fence_devices.key("bmc"), device)
    await layout.notification_targets.create("ops", target)
    await layout.fence_devices.create("bmc", device)


async def opened(members: Members, sealing: Sealing) -> str:
    held = await members.layout.notification_targets.hold("ops")
    return sealing.open_record(held.key, held.record).password


async def text_of_all(members: Members) -> bytes:
    return b"".join(record.value for record in (await members.store.list(ROOT)).records)


async def test_the_manager_makes_the_key_for_root_alone_and_the_store_never_sees_it(members: Members) -> None:
    first, second = members.node("n1"), members.node("n2")
    assert await second.turn() == "waiting for the manager to make the sealing key"
    await settled(first, second)
    assert first.sealing.ring == second.sealing.ring
    assert first.sealing.file.stat().st_mode & 0o777 == 0o600
    key = first.sealing.ring.keys[0]
    assert (await members.layout.datacenter.get("settings")).sealing_key == key.id
    assert key.key.encode() not in await text_of_all(members)


async def test_two_who_make_it_at_once_end_with_one(members: Members) -> None:
    first, second = members.node("n1"), members.node("n2")
    first._may_act = second._may_act = lambda: True
    await asyncio.gather(first.turn(), second.turn(), return_exceptions=True)
    await settled(first, second)
    assert first.sealing.ring.current == second.sealing.ring.current


async def test_secrets_that_stood_in_the_clear_are_sealed_once_every_node_in_reach_has_the_key(
    members: Members,
) -> None:
    await keep_secrets(members, None)
    first, old = members.node("n1"), members.node("n2")
    await first.turn()
    assert (await first.turn()).startswith("waiting until n2 have the sealing key")
    assert b"hush" in await text_of_all(members)
    await settled(first, old)
    assert b"hush" not in await text_of_all(members)
    assert await opened(members, old.sealing) == "hush"


async def test_a_backup_of_the_store_holds_no_secret_and_no_key(members: Members, tmp_path: Path) -> None:
    first = members.node("n1")
    await settled(first)
    await keep_secrets(members, first.sealing)
    host = Host(None, NodePaths(tmp_path / "n1"))  # type: ignore[arg-type]
    records = read_backup(await back_up(host, members.store, "n1")).records
    assert len(records) == 3
    whole = b"".join(records.values())
    assert b"hush" not in whole
    assert first.sealing.ring.keys[0].key.encode() not in whole


async def test_a_lost_file_is_fetched_from_a_node_in_reach(members: Members) -> None:
    first, second, third = (members.node(name) for name in ("n1", "n2", "n3"))
    await settled(first, second, third)
    await keep_secrets(members, first.sealing)
    second.sealing.file.unlink()
    members.away = {"n1", "n3"}
    assert "no node in reach has the sealing key" in await second.turn()
    with pytest.raises(Conflict, match="fetched from any node that has it"):
        await opened(members, second.sealing)
    members.away = {"n1"}
    await settled(second)
    assert await opened(members, second.sealing) == "hush"


async def test_a_node_that_left_and_joins_another_datacenter_keeps_no_key_of_the_old_one(members: Members) -> None:
    first = members.node("n1")
    await settled(first)
    old = first.sealing.ring.current
    await members.layout.datacenter.update("settings", lambda record: replace(record, id="other", sealing_key=""))
    await settled(first)
    assert first.sealing.ring.find(old) is None
    assert first.sealing.ring.datacenter == "other"


async def test_a_new_key_reaches_all_and_seals_everything_anew(members: Members) -> None:
    first, second = members.node("n1"), members.node("n2")
    async with Mirror(members.store, ROOT) as mirror, asyncio.timeout(20), AsyncExitStack() as stack:
        following = asyncio.create_task(second.run(mirror))
        stack.callback(following.cancel)
        await first.turn()
        await keep_secrets(members, first.sealing)
        before = await members.layout.fence_devices.get("bmc")
        done = await first.rotate()
        assert (done.records, done.lost) == (2, ())
        after = await members.layout.fence_devices.get("bmc")
        assert before.secrets != after.secrets
        assert second.sealing.reload() == first.sealing.ring
        assert len(first.sealing.ring.keys) == 2  # the old one opens older backups
        assert await opened(members, second.sealing) == "hush"


async def test_a_key_that_all_have_lost_is_replaced_by_force_and_what_it_sealed_is_named(members: Members) -> None:
    first = members.node("n1")
    await settled(first)
    await keep_secrets(members, first.sealing)
    first.sealing.file.unlink()
    with pytest.raises(Conflict, match="lacks the present one"):
        await first.rotate()
    done = await first.rotate(force=True)
    assert done.records == 0
    lost = f"{ROOT}ha/fence-devices/bmc secrets.password", f"{ROOT}notifications/targets/ops password"
    assert done.lost == lost
    await settled(first)
    sealed = first.sealing.seal("again", "k")
    assert is_sealed(sealed) and first.sealing.open(sealed, "k") == "again"


async def test_a_crash_between_the_file_and_the_store_leaves_one_key(members: Members) -> None:
    first = members.node("n1")
    held = await members.layout.datacenter.hold("settings")
    await members.layout.datacenter.update("settings", lambda record: replace(record, crs="static"))
    with pytest.raises(Conflict, match="not put in force"):
        await first._make(held, first._own(held.record))
    spare = first.sealing.reload()
    assert spare.current == ""
    await settled(first)
    assert first.sealing.ring.keys == spare.keys
