"""Name servers, time zone, hosts, disks, interfaces and services, on files and on what the programs really print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.errors import BadParameter, Conflict, Refused
from racimo.machine.disks import read_disks
from racimo.machine.files import demand_unchanged, digest
from racimo.machine.interfaces import read_interfaces
from racimo.machine.operations import EndNode, StopService
from racimo.machine.programs import Programs
from racimo.machine.resolver import Resolver, read_resolver, write_resolver
from racimo.machine.units import SERVICES, demand_harmless, read_units, service_name
from racimo.machine.wake import magic_packet
from racimo.machine.zone import read_zone, write_zone
from racimo.model.paths import NodePaths
from racimo.task.runner import TaskRunner

if TYPE_CHECKING:
    from pathlib import Path


class Noting(Programs):
    """Runs nothing: notes what was asked for, and says what it was told to."""

    def __init__(self, says: str = "") -> None:
        self.asked: list[tuple[str, ...]] = []
        self.says = says

    async def run(self, *argv: str, timeout: float = 0.0) -> str:
        self.asked.append(argv)
        return self.says


def test_name_servers_change_and_other_lines_stay(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("options edns0\nsearch old.example\nnameserver 192.0.2.1\n")
    write_resolver(file, Resolver("lab.example", ("192.0.2.53", "2001:db8::53")))
    assert file.read_text() == "options edns0\nsearch lab.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"
    assert read_resolver(file) == Resolver("lab.example", ("192.0.2.53", "2001:db8::53"))


def test_a_name_server_that_is_no_address_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadParameter) as refused:
        write_resolver(tmp_path / "resolv.conf", Resolver("a\nnameserver 1.1.1.1", ("192.0.2.1", "nowhere")))
    assert set(refused.value.parameters) == {"search", "dns2"}


def test_a_resolver_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.symlink_to("/run/systemd/resolve/stub-resolv.conf")
    with pytest.raises(Refused, match="another program"):
        write_resolver(file, Resolver("", ("192.0.2.1",)))


def test_the_time_zone_is_a_link_to_one_that_the_machine_knows(tmp_path: Path) -> None:
    known = tmp_path / "usr/share/zoneinfo/Europe/Madrid"
    known.parent.mkdir(parents=True)
    known.write_bytes(b"TZif2")
    (tmp_path / "etc").mkdir()
    assert read_zone(tmp_path) == "UTC"
    write_zone(tmp_path, "Europe/Madrid")
    assert read_zone(tmp_path) == "Europe/Madrid"
    for wrong in ("Europe/Nowhere", "../../etc/passwd", "Europe"):
        with pytest.raises(BadParameter):
            write_zone(tmp_path, wrong)
    assert read_zone(tmp_path) == "Europe/Madrid"


def test_a_digest_of_another_text_is_a_conflict() -> None:
    demand_unchanged("a", "")
    demand_unchanged("a", digest("a"))
    with pytest.raises(Conflict, match="detected modified configuration"):
        demand_unchanged("a", digest("b"))


async def test_this_machines_interfaces_and_disks_are_read_from_its_own_programs() -> None:
    assert all(each.name != "lo" for each in await read_interfaces(Programs()))
    assert all(disk.size > 0 and disk.path.startswith("/dev/") for disk in await read_disks(Programs()))


async def test_a_bridge_shows_its_ports_without_the_guests_taps() -> None:
    link = '"link_type": "ether", "flags": ["UP"], "mtu": 1500'
    programs = Noting(
        f'[{{"ifname": "vmbr0", {link}, "linkinfo": {{"info_kind": "bridge", "info_data": {{"vlan_filtering": 1}}}},'
        f' "addr_info": [{{"family": "inet", "local": "10.0.0.1", "prefixlen": 24, "scope": "global"}}]}},'
        f' {{"ifname": "eno1", {link}, "master": "vmbr0"}}, {{"ifname": "tap100i0", {link}, "master": "vmbr0"}}]'
    )
    programs_routes = '[{"dst": "default", "gateway": "10.0.0.254", "dev": "vmbr0"}]'

    class Answering(Noting):
        async def run(self, *argv: str, timeout: float = 0.0) -> str:
            return programs.says if "address" in argv else programs_routes if "-4" in argv else "[]"

    _, bridge = await read_interfaces(Answering())
    assert (bridge.name, bridge.kind, bridge.ports, bridge.vlan_aware) == ("vmbr0", "bridge", ("eno1",), True)
    assert (str(bridge.first), bridge.gateway, bridge.first6) == ("10.0.0.1/24", "10.0.0.254", None)


async def test_a_disk_that_is_mounted_below_is_told_as_used() -> None:
    programs = Noting(
        '{"blockdevices": [{"name": "sda", "path": "/dev/sda", "type": "disk", "size": 1000, "rota": true,'
        ' "children": [{"name": "sda1", "path": "/dev/sda1", "type": "part", "size": 900, "mountpoint": "/"}]},'
        ' {"name": "loop0", "path": "/dev/loop0", "type": "loop", "size": 5}]}'
    )
    (disk,) = await read_disks(programs)
    assert (disk.path, disk.kind, disk.used, disk.mounted) == ("/dev/sda", "hdd", "mounted", True)


async def test_services_are_read_in_one_go_each_by_its_name() -> None:
    blocks = [f"Id={name}.service\nActiveState=active\nSubState=running" for name in SERVICES]
    programs = Noting("\n\n".join(blocks) + "\n")
    units = await read_units(programs)
    assert [unit.name for unit in units] == list(SERVICES)
    assert {unit.sub for unit in units} == {"running"}
    assert len(programs.asked) == 1


def test_only_services_of_the_list_have_a_name() -> None:
    assert service_name("pveproxy") == "racimo-node"
    for wrong in ("dbus", "--force", "../x", "racimo-qemu@100"):
        with pytest.raises(BadParameter):
            service_name(wrong)


@pytest.mark.parametrize(
    ("service", "action"), [("racimo-node", "stop"), ("racimo-guard", "stop"), ("racimo-etcd", "restart")]
)
def test_what_would_take_the_node_away_is_refused(service: str, action: str) -> None:
    with pytest.raises(Refused):
        demand_harmless(service, action)


async def test_a_service_is_stopped_and_the_machine_ended_through_systemd(tmp_path: Path) -> None:
    tasks, programs = TaskRunner("n1", NodePaths(tmp_path)), Noting()
    await tasks.run(StopService("chrony", "stop"), programs)
    await tasks.run(EndNode("n1", "shutdown"), programs)
    await tasks.close()
    assert programs.asked == [("systemctl", "stop", "chrony.service"), ("systemctl", "--no-block", "poweroff")]


def test_the_magic_packet_is_six_bytes_of_ones_and_the_address_sixteen_times() -> None:
    packet = magic_packet("52:54:00:12:34:56")
    assert (packet[:6], packet[6:12], len(packet)) == (b"\xff" * 6, bytes.fromhex("525400123456"), 102)
    with pytest.raises(BadParameter):
        magic_packet("52:54:00")
