"""The privileges and the built-in roles. Names are those of Proxmox VE 9: its clients ask for them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_ACCESS = "NoAccess"
"""The role that takes away what was given further up, on its path and, with propagation, below."""
ADMINISTRATOR = "Administrator"

PRIVILEGES: Mapping[str, str] = MappingProxyType(
    {
        "Datastore.Allocate": "define, change and remove storages, and remove any volume",
        "Datastore.AllocateSpace": "make volumes on a storage",
        "Datastore.AllocateTemplate": "upload and download images and templates",
        "Datastore.Audit": "see a storage and what is on it",
        "Group.Allocate": "make, change and remove groups",
        "Mapping.Audit": "see mappings of devices and directories",
        "Mapping.Modify": "change mappings of devices and directories",
        "Mapping.Use": "give guests mapped devices and directories",
        "Permissions.Modify": "change the ACL",
        "Pool.Allocate": "make, change and remove pools",
        "Pool.Audit": "see pools",
        "Realm.Allocate": "add, change and remove realms",
        "Realm.AllocateUser": "make and remove users of a realm",
        "SDN.Allocate": "change software-defined networks",
        "SDN.Audit": "see software-defined networks",
        "SDN.Use": "give guests interfaces on software-defined networks",
        "Sys.AccessNetwork": "have a node fetch files from any address",
        "Sys.Audit": "see how the datacenter and its nodes are, their settings and logs",
        "Sys.Console": "open a shell of a node, and steer HA",
        "Sys.Incoming": "accept guests and volumes from another datacenter",
        "Sys.Modify": "change settings of the datacenter and its nodes",
        "Sys.PowerMgmt": "shut nodes down and start them again",
        "Sys.Syslog": "read a node's system log",
        "User.Modify": "change users, their groups, passwords, tokens and second factors",
        "VM.Allocate": "make and remove guests",
        "VM.Audit": "see a guest and its configuration",
        "VM.Backup": "back a guest up and restore it",
        "VM.Clone": "clone a guest, or turn it into a template",
        "VM.Config.CDROM": "change a guest's CD",
        "VM.Config.CPU": "change a guest's processors",
        "VM.Config.Cloudinit": "change what a guest is told when it first starts",
        "VM.Config.Disk": "add, change and remove a guest's disks",
        "VM.Config.HWType": "change a guest's emulated hardware",
        "VM.Config.Memory": "change a guest's memory",
        "VM.Config.Network": "change a guest's network interfaces",
        "VM.Config.Options": "change all else of a guest's configuration",
        "VM.Console": "see and use a guest's screen and serial console",
        "VM.GuestAgent.Audit": "ask a guest's agent what harms nothing",
        "VM.GuestAgent.FileRead": "read files inside a guest through its agent",
        "VM.GuestAgent.FileSystemMgmt": "freeze, thaw and trim a guest's file systems",
        "VM.GuestAgent.FileWrite": "write files inside a guest through its agent",
        "VM.GuestAgent.Unrestricted": "run anything inside a guest through its agent",
        "VM.Migrate": "move a guest to another node",
        "VM.PowerMgmt": "start, stop, pause and reset a guest",
        "VM.Replicate": "change how a guest is replicated",
        "VM.Snapshot": "take and remove snapshots of a guest",
        "VM.Snapshot.Rollback": "put a guest back to a snapshot",
    }
)
"""What each lets one do."""

_SYSTEM = frozenset({"Sys.Modify", "Sys.PowerMgmt", "Sys.Incoming", "Sys.AccessNetwork", "Realm.Allocate"})
"""For those who run the datacenter itself, not for those who use it."""
_VM_USER = frozenset(
    {"VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.GuestAgent.Audit",
     "VM.PowerMgmt"}
)  # fmt: skip


def _family(name: str) -> frozenset[str]:
    return frozenset(privilege for privilege in PRIVILEGES if privilege.startswith(f"{name}."))


_ALL = frozenset(PRIVILEGES)
BUILT_IN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        NO_ACCESS: frozenset(),
        ADMINISTRATOR: _ALL,
        "PVEAdmin": _ALL - _SYSTEM - {"Permissions.Modify"},
        "PVEAuditor": frozenset(name for name in PRIVILEGES if name.endswith(".Audit")),
        "PVEDatastoreAdmin": _family("Datastore"),
        "PVEDatastoreUser": frozenset({"Datastore.AllocateSpace", "Datastore.Audit"}),
        "PVEMappingAdmin": _family("Mapping"),
        "PVEMappingAuditor": frozenset({"Mapping.Audit"}),
        "PVEMappingUser": frozenset({"Mapping.Audit", "Mapping.Use"}),
        "PVEPoolAdmin": _family("Pool"),
        "PVEPoolUser": frozenset({"Pool.Audit"}),
        "PVESDNAdmin": _family("SDN"),
        "PVESDNUser": frozenset({"SDN.Audit", "SDN.Use"}),
        "PVESysAdmin": frozenset({"Sys.Audit", "Sys.Console", "Sys.Syslog"}),
        "PVETemplateUser": frozenset({"VM.Audit", "VM.Clone"}),
        "PVEUserAdmin": frozenset({"Group.Allocate", "Realm.AllocateUser", "User.Modify"}),
        "PVEVMAdmin": _family("VM"),
        "PVEVMUser": _VM_USER,
    }
)
"""The roles that are always there and cannot be changed."""
