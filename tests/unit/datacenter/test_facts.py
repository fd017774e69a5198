"""What a machine is made of, and how two differ."""

from __future__ import annotations

import dataclasses

from racimo.datacenter.compare import compare_facts
from racimo.datacenter.facts import gather_facts, read_cpu, read_memory, read_packages, read_qemu_version
from racimo.model.node import NodeFacts


async def test_the_facts_of_this_machine_are_found() -> None:
    facts = await gather_facts()
    assert facts.cpus >= 1
    assert facts.memory > 2**28
    assert facts.architecture
    assert facts.kernel


def test_tools_are_read_as_they_print() -> None:
    assert read_cpu("model name\t: A CPU\nflags\t\t: vmx aes\n\nmodel name\t: other\n") == ("A CPU", ("aes", "vmx"))
    assert read_memory("MemTotal:       16384 kB\n") == 16 * 2**20
    assert read_qemu_version("QEMU emulator version 7.2.15 (Debian 1:7.2+dfsg)") == "7.2.15"
    assert read_packages("a 1.0-2 installed\nb  not-installed\n") == {"a": "1.0-2"}


def test_like_machines_have_no_differences_and_each_unlikeness_is_one() -> None:
    mine = NodeFacts(architecture="x86_64", cpu_flags=("aes", "vmx"), memory=2**33, packages={"etcd-server": "3.4"})
    assert compare_facts("n1", mine, mine, 0.1) == []
    theirs = dataclasses.replace(mine, cpu_flags=("aes",), packages={"etcd-server": "3.5"}, memory=2**33 + 2**29)
    assert [difference.what for difference in compare_facts("n1", mine, theirs)] == ["CPU flags", "package etcd-server"]
