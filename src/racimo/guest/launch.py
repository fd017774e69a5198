"""The last step before QEMU: check the node's lease, then become QEMU.

Run by the guest's systemd unit as ``python -S -m racimo.guest.launch [--lease PATH INCARNATION] -- QEMU ARGUMENT...``.
QEMU's own arguments, ``-name racimo-guest-<vmid>`` among them, stand in this process's argv, so the guard finds and
kills it by them before the exec as well as after. Standard library only: it is on the way of every start.
"""

from __future__ import annotations

import os
import sys

from racimo.model.lease import boottime_ns, read_lease

NO_LEASE = 75
"""Exit status when the guest may not run here now (EX_TEMPFAIL of sysexits.h)."""
USAGE = 64
NOT_FOUND = 127


def split(arguments: list[str]) -> tuple[str, str, list[str]]:
    """The lease file (empty: none), whose lease it has to be (empty: anyone's), QEMU's argv. Raises ``ValueError``."""
    lease, incarnation = "", ""
    if arguments[:1] == ["--lease"] and len(arguments) > 2:
        lease, incarnation, arguments = arguments[1], arguments[2], arguments[3:]
    if arguments[:1] != ["--"] or len(arguments) < 2:
        raise ValueError("usage: launch [--lease PATH INCARNATION] -- PROGRAM ARGUMENT...")
    return lease, incarnation, arguments[1:]


def main() -> int:
    """Become QEMU; returns an exit status only when that was refused or failed."""
    try:
        lease_path, incarnation, argv = split(sys.argv[1:])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    os.environ.pop("PYTHONPATH", None)
    if lease_path:
        lease = read_lease(lease_path)
        if lease is None or not lease.holds(boottime_ns()) or incarnation not in ("", lease.incarnation):
            sys.stderr.write(f"not started: this node holds no valid HA lease ({lease_path})\n")
            return NO_LEASE
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - becoming QEMU is the purpose
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return NOT_FOUND


if __name__ == "__main__":
    sys.exit(main())
