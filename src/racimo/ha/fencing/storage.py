"""The hook for storage that can cut a node off from a guest's disks: another proof A. Nothing implements it yet.

A fence device ends a node; a storage can end what a node may write. Where every writable disk of a guest is on such
storage, that guest may start elsewhere although its node's power could not be cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from racimo.model.guest import Guest
    from racimo.model.storage import Storage


@dataclass(frozen=True, slots=True)
class CutOff:
    """The storage's word that one incarnation of a node can write a guest's disks no more.

    ``barrier`` is what the new process must wait for before it opens a disk, in the storage's own words: for Ceph the
    epoch of the OSD map that holds the blocklist entries. Empty if there is nothing to wait for.
    """

    sid: str
    node: str
    incarnation: str
    barrier: str
    said: str


class StorageFence(Protocol):
    """A storage driver that can cut a node off. The contract, which the simulation's oracle checks at the disk:

    * **Whole.** ``covers`` is true only when *every* writable disk of the guest, EFI variables and TPM state among
      them, is on storage that this fence cuts off. One disk elsewhere, and it proves nothing.
    * **By client, not by lock.** What is cut off is each client that the guest's QEMU on that node opened (for Ceph:
      the address and nonce of each librbd client, blocklisted). A lock that is taken over, exclusive-lock included, is
      no proof: its old owner may have writes on their way.
    * **For good.** The entries outlive the longest time for which a write can be on its way, and are not taken back
      while the node shows no life in a later incarnation.
    * **Confirmed.** ``cut_off`` returns only what the storage itself has confirmed; a time-out, an error and a half
      that was done are errors. Called again, also by another manager, it does the rest.
    * **Before the start.** The new process opens no disk before its own client has passed ``barrier``.
    * **Of one incarnation.** As with power, the proof is about the heartbeat that was the last when it was ordered, and
      is committed by a transaction that compares that heartbeat's revision and the guest's record.
    """

    def covers(self, guest: Guest, storages: Sequence[Storage]) -> bool:
        """Whether all writable disks of ``guest`` are on storage that this fence cuts off. Pure."""

    async def cut_off(self, guest: Guest, node: str, incarnation: str, timeout: float) -> CutOff:
        """Cut ``node`` off from the guest's disks. ``timeout`` in seconds.

        Raises ``OperationFailed`` with what the storage said when it did not confirm all of it.
        """
