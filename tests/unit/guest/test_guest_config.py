"""Configurations are read, checked, changed and written back as in qm.conf."""

from __future__ import annotations

import secrets
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo.errors import BadParameter, Conflict
from racimo.guest.config import Applies, GuestConfig, applies, apply_change, parse_config
from racimo.guest.config_new import complete_new, fill_in
from racimo.guest.config_options import FAMILIES, OPTIONS, SCALARS
from racimo.guest.kinds import parse_size, render_size

RICH = {
    "name": "web.example.org",
    "description": "first line\nsecond line",
    "tags": "prod, web",
    "memory": "2048",
    "balloon": "1024",
    "sockets": "2",
    "cores": "2",
    "cpu": "x86-64-v2-AES,flags=+pcid;-x2apic",
    "ostype": "l26",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:100/vm-100-disk-0.qcow2,size=8G,discard=on,ssd=1,iothread=1",
    "scsi30": "local:100/vm-100-disk-1.raw,backup=0,cache=writeback",
    "ide2": "local:cloudinit,media=cdrom",
    "sata5": "none,media=cdrom",
    "net0": "virtio=BC:24:11:12:34:56,bridge=vmbr0,tag=5,firewall=1,queues=4,mtu=9000",
    "net31": "e1000=BC:24:11:12:34:57,bridge=vmbr1,link_down=1,trunks=2;3",
    "boot": "order=scsi0;ide2;net0",
    "agent": "1,fstrim_cloned_disks=1",
    "serial0": "socket",
    "vga": "serial0",
    "smbios1": "uuid=c0ffee00-0000-4000-8000-000000000001,manufacturer=UmFjaW1v,base64=1",
    "vmgenid": "c0ffee00-0000-4000-8000-000000000002",
    "startup": "order=3,up=10,down=60",
    "ipconfig0": "ip=10.0.0.2/24,gw=10.0.0.1,ip6=auto",
    "nameserver": "10.0.0.1 fd00::1",
    "searchdomain": "example.org",
    "ciuser": "admin",
    "sshkeys": "ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIJ%20me%40home%0A",
    "onboot": "yes",
    "affinity": "0,2-3",
}


def test_a_rich_configuration_is_read_in_full() -> None:
    config = parse_config(RICH)
    assert config.memory_bytes == 2 << 30
    assert config.cpus == 4
    assert config.cpu.cputype == "x86-64-v2-AES"
    assert config.cpu.flags == ("+pcid", "-x2apic")
    assert config.tags == ("prod", "web")
    assert config.drives["scsi0"].size == 8 << 30
    assert config.drives["ide2"].is_cloud_init and config.drives["ide2"].volume is None
    assert config.drives["sata5"].is_empty
    assert list(config.disks) == ["scsi0", "scsi30"]
    assert config.networks[0].macaddr == "BC:24:11:12:34:56"
    assert config.networks[31].trunks == (2, 3)
    assert config.smbios1 is not None and config.smbios1.manufacturer == "Racimo"
    assert config.sshkeys == ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@home",)
    assert config.boot_order == ("scsi0", "ide2", "net0")


def test_the_canonical_form_says_the_same_and_is_its_own_canonical_form() -> None:
    config = parse_config(RICH)
    canonical = config.to_mapping()
    assert parse_config(canonical) == config
    assert parse_config(canonical).to_mapping() == canonical
    assert canonical["onboot"] == "1"
    assert canonical["tags"] == "prod;web"
    assert canonical["net31"] == "e1000=BC:24:11:12:34:57,bridge=vmbr1,link_down=1,trunks=2;3"


def test_what_was_not_given_has_its_default_and_is_not_written() -> None:
    config = parse_config({})
    assert (config.memory, config.cpus, config.scsihw, config.cpu.cputype) == (512, 1, "lsi", "kvm64")
    assert config.agent.enabled is False
    assert config.to_mapping() == {}


def test_table_and_record_name_the_same_keys() -> None:
    own = {field.name for field in fields(GuestConfig)} - {
        "given", "drives", "unused", "networks", "serials", "ipconfigs",
    }  # fmt: skip
    assert own == set(SCALARS)
    assert set(FAMILIES) == {"ide", "sata", "scsi", "virtio", "unused", "net", "serial", "ipconfig"}
    assert len({option.key for option in OPTIONS}) == len(OPTIONS)
    assert all(option.description.endswith(".") for option in OPTIONS)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("memory", "8", "8 is out of range (16 - 4194304)"),
        ("memory", "lots", "'lots' is not a whole number"),
        ("cores", "0", "out of range"),
        ("name", "my guest", "is not a DNS name"),
        ("onboot", "maybe", "'maybe' is not a boolean: 1 or 0"),
        ("ostype", "plan9", "'plan9' is not one of other, wxp"),
        ("scsi31", "local:8", "there is only scsi[0-30]"),
        ("net32", "virtio", "there is only net[0-31]"),
        ("net0", "virtual,bridge=vmbr0", "'virtual' is not one of virtio"),
        ("net0", "virtio=01:00:00:00:00:01", "is a multicast address"),
        ("net0", "virtio,tag=4095", "tag: 4095 is out of range (1 - 4094)"),
        ("net0", "virtio,colour=red", "'colour' is unknown; allowed are model"),
        ("net0", "virtio,tag=1,tag=2", "'tag' is given twice"),
        ("scsi0", "local:../../etc/shadow", "is not a volume name"),
        ("scsi0", "local:100/../../x", "is not a volume name"),
        ("scsi0", "/dev/sda", "a path is not allowed here"),
        ("scsi0", "none", "'none' needs media=cdrom"),
        ("scsi0", "local:0", "the size must be above 0 GiB"),
        ("scsi0", "local:8,import-from=/x/../y", "is not an absolute path"),
        ("scsi0", "local:vm-1,import-from=/x", "import-from needs storage:0"),
        ("scsi0", "local:8,size=many", "'many' is not a size"),
        ("scsi0", "local:8,mbps=3", "'mbps' is not supported by Racimo"),
        ("ipconfig0", "ip=10.0.0.2", "is not an IPv4 address with its prefix length"),
        ("ipconfig0", "gw=10.0.0.1", "gw needs a static address"),
        ("ipconfig0", "ip=10.0.0.2/24,gw=10.0.1.1", "10.0.1.1 is not in the network of 10.0.0.2/24"),
        ("boot", "order=scsi0", "scsi0 is not configured"),
        ("boot", "disk", "is not a boot order"),
        ("balloon", "9000", "is more than the memory of 512 MiB"),
        ("vga", "serial0", "serial0 is not configured"),
        ("smbios1", "product=!!,base64=1", "is not base64"),
        ("sshkeys", "hello", "is not a public key"),
        ("cipassword", "plain", "must be a password hash"),
        ("hookscript", "local:snippets/a.sh", "hook scripts are not supported"),
        ("hostpci0", "00:02.0", "passing PCI devices of the node through is not supported"),
        ("memry", "512", "is not a configuration key; similar ones: memory"),
        ("machine", "pc-i440fx", "is not a machine type"),
        ("description", "a\x00b", "contains control characters"),
    ],
)
def test_a_malformed_value_is_named_with_what_is_allowed(key: str, value: str, reason: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_config({key: value})
    assert reason in caught.value.parameters[key]


def test_all_bad_keys_are_named_at_once() -> None:
    with pytest.raises(BadParameter) as caught:
        parse_config({"memory": "x", "cores": "y", "foo": "z", "name": "fine"})
    assert set(caught.value.parameters) == {"memory", "cores", "foo"}


def test_two_cards_with_one_address_and_two_drives_on_one_volume_are_refused() -> None:
    with pytest.raises(BadParameter) as caught:
        parse_config(
            {
                "net0": "virtio=02:00:00:00:00:01",
                "net1": "virtio=02:00:00:00:00:01",
                "scsi0": "a1:100/vm-100-disk-0.raw",
                "virtio0": "a1:100/vm-100-disk-0.raw",
            }
        )
    assert "net0" in caught.value.parameters["net1"]
    assert "scsi0" in caught.value.parameters["virtio0"]


def test_creation_forms_of_drives_say_their_size() -> None:
    drives = parse_config(
        {"scsi0": "local:8", "scsi1": "local:0.5,format=qcow2", "scsi2": "st:0,import-from=st:import/x.raw"}
    )
    assert [drive.new_size for drive in drives.drives.values()] == [8 << 30, 1 << 29, 0]
    assert drives.drives["scsi2"].import_from == "st:import/x.raw"


def test_the_digest_changes_with_a_value_but_not_with_how_it_is_written() -> None:
    one = parse_config({"onboot": "1", "memory": "512"})
    assert parse_config({"memory": "current=512", "onboot": "yes"}).digest == one.digest
    assert parse_config({"memory": "513", "onboot": "1"}).digest != one.digest


def test_a_change_sets_deletes_and_says_what_needs_a_restart() -> None:
    change = apply_change(
        {"memory": "512", "name": "a", "onboot": "1"}, {"memory": "1024", "description": "x"}, ["onboot", "tags"]
    )
    assert change.mapping == {"description": "x", "memory": "1024", "name": "a"}
    assert change.changed == {"memory", "description", "onboot"}
    assert change.needs_restart == {"memory"}
    assert applies("net0") is Applies.HOTPLUG


def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused() -> None:
    digest = parse_config({"memory": "512"}).digest
    apply_change({"memory": "512"}, {"cores": "2"}, digest=digest)
    with pytest.raises(Conflict, match="somebody else changed it"):
        apply_change({"memory": "1024"}, {"cores": "2"}, digest=digest)


def test_a_key_cannot_be_set_and_deleted_at_once_nor_an_unknown_one_deleted() -> None:
    with pytest.raises(BadParameter) as caught:
        apply_change({}, {"name": "a"}, ["name", "colour"])
    assert set(caught.value.parameters) == {"name", "colour"}


def test_a_disk_that_is_plugged_out_is_kept_as_unused_until_it_is_plugged_in_again() -> None:
    disk = "local:100/vm-100-disk-0.raw"
    before = {
        "scsi0": f"{disk},size=8G",
        "ide2": "local:iso/x.iso,media=cdrom",
        "unused0": "local:100/vm-100-disk-9.raw",
    }
    out = apply_change(before, {}, ["scsi0", "ide2"])
    assert out.mapping == {"unused0": "local:100/vm-100-disk-9.raw", "unused1": disk}
    back = apply_change(out.mapping, {"virtio0": disk})
    assert back.mapping == {"unused0": "local:100/vm-100-disk-9.raw", "virtio0": disk}
    moved = apply_change({"scsi0": disk}, {"scsi1": disk}, ["scsi0"])
    assert moved.mapping == {"scsi1": disk}
    replaced = apply_change({"scsi0": disk}, {"scsi0": "local:4"})
    assert replaced.mapping == {"scsi0": "local:4", "unused0": disk}
    assert apply_change(out.mapping, {}, ["unused1"]).mapping == {"unused0": "local:100/vm-100-disk-9.raw"}


def test_there_is_only_one_cloud_init_drive() -> None:
    with pytest.raises(BadParameter, match="ide2: ide0 is a cloud-init drive already"):
        parse_config({"ide0": "local:cloudinit", "ide2": "local:cloudinit"})


def test_what_is_not_given_is_drawn_and_a_password_becomes_its_hash() -> None:
    bits = secrets.randbits
    change = apply_change({}, {"net0": "virtio,bridge=vmbr0", "cipassword": "secret", "vmgenid": "1"}, randbits=bits)
    config = parse_config(change.mapping)
    mac = config.networks[0].macaddr
    assert mac is not None and mac.startswith("02:") and change.mapping["net0"] == f"virtio={mac},bridge=vmbr0"
    assert config.cipassword is not None and config.cipassword.startswith("$6$")
    assert "secret" not in str(change)
    assert config.vmgenid is not None and len(config.vmgenid) == 36
    again = apply_change(change.mapping, {"net0": change.mapping["net0"]}, randbits=bits)
    assert again.changed == frozenset()


def test_a_new_guest_gets_an_identity_and_a_pinned_machine() -> None:
    made = complete_new(
        {"smbios1": "product=box"}, machine="pc-q35-7.2", qemu="7.2.1", created=5, randbits=secrets.randbits
    )
    config = parse_config(made)
    assert config.machine == "pc-q35-7.2"
    assert config.smbios1 is not None and config.smbios1.uuid and config.smbios1.product == "box"
    assert made["meta"] == "creation-qemu=7.2.1,ctime=5"


def test_malformed_values_pass_through_filling_in_so_that_they_are_named_later() -> None:
    assert fill_in({"net0": "junk", "netx": "1"}, secrets.randbits) == {"net0": "junk", "netx": "1"}


@given(st.integers(min_value=0, max_value=1 << 50))
def test_sizes_survive_being_written_and_read(size: int) -> None:
    assert parse_size(render_size(size)) == size


@given(st.dictionaries(st.sampled_from([*SCALARS, "scsi0", "net0", "ipconfig0", "serial0"]), st.text(max_size=40)))
def test_any_text_is_read_or_refused_but_never_breaks_it(mapping: dict[str, str]) -> None:
    try:
        config = parse_config(mapping)
    except BadParameter:
        return
    assert parse_config(config.to_mapping()) == config


def test_a_refusal_says_which_keys_to_correct_and_where_all_are_explained() -> None:
    with pytest.raises(BadParameter) as caught:
        parse_config({"memory": "7", "cores": "x"})
    assert caught.value.parameters.keys() == {"memory", "cores"} and "16 - 4194304" in caught.value.parameters["memory"]
    assert caught.value.todo.startswith("Correct cores, memory; ")
