"""The table of all endpoints that a node serves."""

from __future__ import annotations

from racimo.api.endpoint import Table
from racimo.api.routes import (
    access,
    access_grants,
    access_tfa,
    access_users,
    backup,
    certificates,
    cluster,
    elsewhere,
    figures,
    guest_agent,
    guest_cloudinit,
    guest_console,
    guest_disks,
    guest_moves,
    guest_power,
    guest_snapshots,
    guests,
    ha,
    ha_control,
    ha_fence,
    ha_rules,
    membership,
    node_settings,
    node_system,
    nodes,
    notifications,
    pools,
    sealing,
    setup,
    storage_content,
    storages,
    tasks,
    version,
)

FAMILIES = (
    access, access_users, access_grants, access_tfa, pools,
    version, setup, cluster, membership, nodes, tasks, guests, guest_power, guest_moves, guest_console, storages, ha,
    ha_rules, ha_fence, ha_control, notifications, sealing,
    guest_agent, guest_snapshots, guest_disks, guest_cloudinit, figures,
    backup,
    storage_content, elsewhere, node_settings, node_system, certificates,
)  # fmt: skip


def build_table() -> Table:
    """Every row of every family. Raises ``ValueError`` when two rows are the same."""
    return Table(*(family.routes for family in FAMILIES))
