from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from racimo.access.leftovers import Leftovers

if TYPE_CHECKING:
    from .site import Site


async def test_a_guest_made_anew_does_not_inherit_the_permissions_of_the_one_before(site: Site) -> None:
    await site.user()
    await site.grant("/vms/100", "anna@pve", "PVEVMAdmin")
    await site.grant("/vms/101", "anna@pve", "PVEVMUser")
    await site.access.pools.create("lab", "")
    await site.access.pools.add("lab", [100, 101], ["fast"], move=False)
    keeping = asyncio.create_task(Leftovers(site.layout, site.mirror).keep_clean())
    await asyncio.sleep(0)
    watched = site.mirror.changes()
    await site.layout.guests.remove(100)
    await site.layout.storages.remove("fast")
    async with asyncio.timeout(10):
        async for _ in watched:
            pool = await site.layout.pools.get("lab")
            if pool.guests == (101,) and not pool.storages:
                break
    assert [entry.path for entry in await site.layout.acl.records()] == ["/vms/101"]
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_what_has_come_back_meanwhile_keeps_its_permissions(site: Site) -> None:
    await site.user()
    await site.grant("/vms/100", "anna@pve", "PVEVMAdmin")
    await Leftovers(site.layout, site.mirror).remove(site.layout.guests.key(100), "/vms/100", guest=100)
    assert len(await site.layout.acl.records()) == 1
