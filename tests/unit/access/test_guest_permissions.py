from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.api.context import Context, Origin, Who
from racimo.api.guest_permissions import CONFIG, demand_config
from racimo.errors import Unauthorised
from racimo.guest.config_options import FAMILIES, SCALARS
from racimo.model.access import Role

if TYPE_CHECKING:
    from .site import Site

ANNA = Who(Origin.NETWORK, user="anna@pve")


async def with_privileges(site: Site, *privileges: str, path: str = "/vms/100") -> Context:
    if not await site.layout.users.find("anna@pve"):
        await site.user(password="")
    name = f"R{path.replace('/', '-')}"
    role, held = Role(name=name, privileges=privileges), await site.layout.roles.find(name)
    await site.store.txn(puts=[site.layout.roles.put(name, role, held)])
    await site.grant(path, "anna@pve", name)
    return Context(ANNA, site.services)


@pytest.mark.parametrize(
    ("values", "privilege"),
    [
        ({"cores": "2"}, "VM.Config.CPU"),
        ({"memory": "512"}, "VM.Config.Memory"),
        ({"net0": "virtio"}, "VM.Config.Network"),
        ({"bios": "ovmf"}, "VM.Config.HWType"),
        ({"ciuser": "anna"}, "VM.Config.Cloudinit"),
        ({"ipconfig0": "ip=dhcp"}, "VM.Config.Cloudinit"),
        ({"onboot": "1"}, "VM.Config.Options"),
        ({"scsi0": "fast:100/vm-100-disk-0.raw"}, "VM.Config.Disk"),
        ({"ide2": "none,media=cdrom"}, "VM.Config.CDROM"),
    ],
)
async def test_a_key_takes_its_own_privilege_and_no_other(site: Site, values: dict[str, str], privilege: str) -> None:
    demand_config(await with_privileges(site, privilege), 100, values)
    with pytest.raises(Unauthorised, match=r"/vms/100"):
        demand_config(await with_privileges(site, *(name for name in CONFIG if name != privilege)), 100, values)


async def test_a_key_is_deleted_with_the_privilege_that_it_is_set_with(site: Site) -> None:
    context = await with_privileges(site, "VM.Config.Network")
    demand_config(context, 100, {}, ["net0"])
    with pytest.raises(Unauthorised):
        demand_config(context, 100, {}, ["net0", "scsi0"])


async def test_qemu_s_own_words_and_files_of_the_node_are_for_root(site: Site) -> None:
    context = await with_privileges(site, *CONFIG, path="/vms")
    await with_privileges(site, "Datastore.Allocate", "Datastore.AllocateSpace", path="/storage")
    for values in ({"args": "-monitor stdio"}, {"scsi0": "fast:0,import-from=/etc/shadow"}):
        with pytest.raises(Unauthorised, match="only root"):
            demand_config(context, 100, values)
        demand_config(Context(Who(Origin.LOCAL, user="root@pam"), site.services), 100, values)


async def test_a_new_disk_takes_space_on_its_storage_and_a_bridge_its_use(site: Site) -> None:
    context = await with_privileges(site, *CONFIG)
    for values, path in (
        ({"scsi0": "fast:8"}, "/storage/fast"),
        ({"net0": "virtio,bridge=vmbr1"}, "/sdn/zones/localnetwork/vmbr1"),
        ({"ide2": "fast:iso/debian.iso,media=cdrom"}, "/storage/fast"),
    ):
        with pytest.raises(Unauthorised, match=path):
            demand_config(context, 100, values)
    await with_privileges(site, "Datastore.AllocateSpace", path="/storage/fast")
    await with_privileges(site, "SDN.Use", path="/sdn/zones/localnetwork")
    demand_config(context, 100, {"scsi0": "fast:8", "net0": "virtio,bridge=vmbr1"})


async def test_another_guest_s_disk_is_not_taken(site: Site) -> None:
    context = await with_privileges(site, *CONFIG)
    await with_privileges(site, "Datastore.AllocateSpace", "Datastore.Audit", path="/storage")
    for value in ("fast:101/vm-101-disk-0.raw", "fast:0,import-from=fast:101/vm-101-disk-0.raw"):
        with pytest.raises(Unauthorised, match="/vms/101"):
            demand_config(context, 100, {"scsi0": value})


async def test_every_key_there_is_takes_some_privilege(site: Site) -> None:
    context = await with_privileges(site, "VM.Audit")
    for key in [*SCALARS, *(f"{family}0" for family in FAMILIES)]:
        with pytest.raises(Unauthorised):
            demand_config(context, 100, {}, [key])
