"""Fence devices for tests: a real program with the fence agents' interface, whose devices are files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from racimo.ha.fencing.agents import FencePrograms
from racimo.model.fence import FenceDevice
from racimo.store.sealing import Keyring, Sealing, dump_ring, new_sealing_key

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "ha"))

PROGRAM = r"""#!/bin/sh
# Faults, one per file: lie hang slow early dark (on does nothing)
# wrong (status off while on), bad (bad options), error, stuck (status hangs)
action= plug= password= state=STATE
while IFS= read -r line; do
  case $line in
    action=*) action=${line#*=};; plug=*) plug=${line#*=};; password=*) password=${line#*=};;
  esac
done
if [ "$action" = metadata ]; then cat "$state/metadata"; exit 0; fi
fault=$(cat "$state/$plug.fault" 2>/dev/null)
echo "$action $plug $* $(tr '\0' ' ' </proc/$$/cmdline)" >>"$state/calls"
case $action/$fault in
  off/hang|status/stuck) sleep 60;;
  off/slow) sleep 0.5;;
  on/dark) echo "Success: Powered on"; exit 0;;
  */bad) echo "Failed: unknown option" >&2; exit 2;;
  */error) echo "Failed: login denied for $password" >&2; exit 3;;
  off/lie) echo "Success: Powered OFF"; exit 0;;
  off/early) (sleep 0.6; echo off >"$state/$plug.power") >/dev/null 2>&1 & echo "Success: Powered OFF"; exit 0;;
esac
power=$(cat "$state/$plug.power")
case $action in
  off|on) echo $action >"$state/$plug.power"; echo "Success: Powered $action";;
  status) [ "$fault" = mute ] && [ "$power" = off ] && exit 2
          echo "Status: $power" | tr a-z A-Z | sed 's/STATUS/Status/'; [ "$power" = off ] && exit 2;;
esac
exit 0
"""

METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_fake" shortdesc="Fence agent for tests" >
<longdesc>fence_fake cuts the power of files.</longdesc>
<parameters>
 <parameter name="action" unique="0" required="1"><getopt mixed="-o" /><content type="string" default="reboot" />
  <shortdesc lang="en">Fencing action</shortdesc></parameter>
 <parameter name="plug" unique="0" required="1" obsoletes="port"><content type="string" />
  <shortdesc lang="en">Which outlet</shortdesc></parameter>
 <parameter name="port" unique="0" required="1" deprecated="1"><content type="string" /></parameter>
 <parameter name="password" unique="0" required="0"><content type="string" />
  <shortdesc lang="en">Login password</shortdesc></parameter>
 <parameter name="password_script" unique="0" required="0"><content type="string" /></parameter>
 <parameter name="ssl" unique="0" required="0"><content type="boolean" default="0" /></parameter>
 <parameter name="ipport" unique="0" required="0"><content type="integer" default="623" /></parameter>
 <parameter name="login_timeout" unique="0" required="0"><content type="second" default="5" /></parameter>
 <parameter name="auth" unique="0" required="0"><content type="select"><option value="md5" /><option value="none" />
  </content></parameter>
</parameters>
<actions><action name="on" automatic="0"/><action name="off" />
 <action name="status" /><action name="metadata" /></actions>
</resource-agent>
"""


@dataclass(frozen=True)
class Bench:
    """The program, and the files that are its devices."""

    directory: Path

    @property
    def programs(self) -> FencePrograms:
        return FencePrograms(self.sealing, [self.directory])

    @property
    def sealing(self) -> Sealing:
        """With a key in a file of its own."""
        file = self.directory / "sealing.json"
        if not file.exists():
            key = new_sealing_key()
            file.write_bytes(dump_ring(Keyring(datacenter="dc", current=key.id, keys=(key,))))
        return Sealing(file)

    def device(self, node: str = "n1", name: str = "", **fields: Any) -> FenceDevice:
        name = name or f"{node}-bmc"
        (self.directory / f"{name}.power").write_text("on\n")
        defaults: dict[str, Any] = {"options": {"plug": name}, "timeout": 5.0}
        return FenceDevice(name=name, node=node, agent="fence_fake", **(defaults | fields))

    def fault(self, device: FenceDevice, what: str) -> None:
        (self.directory / f"{device.name}.fault").write_text(what)

    def power(self, device: FenceDevice) -> str:
        return (self.directory / f"{device.name}.power").read_text().strip()

    @property
    def calls(self) -> list[str]:
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    program = tmp_path / "fence_fake"
    program.write_text(PROGRAM.replace("STATE", str(tmp_path)))
    program.chmod(0o755)
    (tmp_path / "metadata").write_text(METADATA)
    return Bench(tmp_path)
