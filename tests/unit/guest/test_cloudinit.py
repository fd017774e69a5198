"""The cloud-init seed."""

from __future__ import annotations

import io

import pycdlib

from racimo.guest.cloudinit import cloud_init_seed, seed_image
from racimo.guest.config import parse_config

CONFIG = {
    "name": "web",
    "net0": "virtio=02:AB:00:00:00:01,bridge=vmbr0",
    "net1": "virtio=02:AB:00:00:00:02,bridge=vmbr1",
    "ipconfig0": "ip=10.0.0.2/24,gw=10.0.0.1",
    "ipconfig1": "ip=dhcp,ip6=fd00::2/64",
    "nameserver": "10.0.0.53",
    "searchdomain": "example.org",
    "ciuser": "admin",
    "cipassword": "$6$saltsalt$abcdefghijklmnop",
    "sshkeys": "ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIJ%20me",
}


def test_the_files_say_what_the_configuration_says() -> None:
    seed = cloud_init_seed(parse_config(CONFIG), 100)
    assert seed.user_data.startswith("#cloud-config\n")
    assert 'hostname: "web"\n' in seed.user_data and 'fqdn: "web.example.org"\n' in seed.user_data
    assert 'password: "$6$saltsalt$abcdefghijklmnop"\n' in seed.user_data
    assert '  - "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me"\n' in seed.user_data
    assert seed.network_config == (
        "version: 1\n"
        "config:\n"
        '  - type: "physical"\n'
        '    name: "eth0"\n'
        "    subnets:\n"
        '      - type: "static"\n'
        '        address: "10.0.0.2"\n'
        '        netmask: "255.255.255.0"\n'
        '        gateway: "10.0.0.1"\n'
        "        dns_nameservers:\n"
        '          - "10.0.0.53"\n'
        "        dns_search:\n"
        '          - "example.org"\n'
        '    mac_address: "02:ab:00:00:00:01"\n'
        '  - type: "physical"\n'
        '    name: "eth1"\n'
        "    subnets:\n"
        '      - type: "dhcp4"\n'
        '      - type: "static6"\n'
        '        address: "fd00::2/64"\n'
        '    mac_address: "02:ab:00:00:00:02"\n'
    )


def test_the_instance_id_changes_with_the_content_only() -> None:
    config = parse_config(CONFIG)
    assert cloud_init_seed(config, 100) == cloud_init_seed(config, 100)
    other = parse_config({**CONFIG, "ipconfig0": "ip=10.0.0.3/24"})
    assert cloud_init_seed(other, 100).meta_data != cloud_init_seed(config, 100).meta_data
    memory = parse_config({**CONFIG, "memory": "1024"})
    assert cloud_init_seed(memory, 100) == cloud_init_seed(config, 100)


def test_the_image_is_labelled_cidata_and_holds_the_files() -> None:
    seed = cloud_init_seed(parse_config(CONFIG), 100)
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(seed_image(seed)))
    try:
        assert image.pvd.volume_identifier.strip() == b"cidata"
        for name, content in (("user-data", seed.user_data), ("meta-data", seed.meta_data)):
            for path in ({"joliet_path": f"/{name}"}, {"rr_path": f"/{name}"}):
                file = io.BytesIO()
                image.get_file_from_iso_fp(file, **path)
                assert file.getvalue().decode() == content
    finally:
        image.close()


def test_the_image_bears_no_trace_of_when_it_was_made() -> None:
    """Every date in it is the fixed one, so it is the same on each node and at each start."""
    image = seed_image(cloud_init_seed(parse_config(CONFIG), 100))
    opened = pycdlib.PyCdlib()
    opened.open_fp(io.BytesIO(image))
    try:
        years = {record.date.years_since_1900 for record in opened.pvd.root_dir_record.children}
        years |= {record.date.years_since_1900 for record in opened.joliet_vd.root_dir_record.children}
        for record in opened.pvd.root_dir_record.children:
            stamps = record.rock_ridge.dr_entries.tf_record
            years |= {stamps.access_time.years_since_1900, stamps.modification_time.years_since_1900}
        assert years == {120}
        assert opened.pvd.volume_creation_date.year == opened.pvd.volume_modification_date.year == 2020
    finally:
        opened.close()
