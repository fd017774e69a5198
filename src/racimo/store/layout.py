"""Which records stand where in the store: the one list of key prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.access import AclEntry, Group, Password, Pool, Realm, Role, SecondFactor, TicketKey, Token, User
from racimo.model.datacenter import Authority, Datacenter, JoinToken
from racimo.model.fence import FenceCheck, FenceDevice, Fencing
from racimo.model.guest import Guest, Lock, Runtime
from racimo.model.ha import (
    Arming,
    Balance,
    Heartbeat,
    Maintenance,
    ManagerTerm,
    NodeStatus,
    Outcome,
    Resource,
    Service,
)
from racimo.model.node import Daemon, Node
from racimo.model.notification import Matcher, Message, Said, Target, TargetState
from racimo.model.rule import Rule
from racimo.model.storage import Storage
from racimo.store.collection import Collection

if TYPE_CHECKING:
    from racimo.store.base import Store

ROOT = "/racimo/1/"
HA = ROOT + "ha/"
ACCESS = ROOT + "access/"
NOTIFICATIONS = ROOT + "notifications/"
TARGETS = NOTIFICATIONS + "targets/"
FENCE_DEVICES = HA + "fence-devices/"


class Layout:
    """The typed collections over one store. Each record's name within its collection is given beside it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.datacenter = Collection(store, ROOT + "datacenter/", Datacenter)  # "settings"
        self.authority = Collection(store, ROOT + "authority/", Authority)  # "ca"
        self.join_tokens = Collection(store, ROOT + "join-tokens/", JoinToken)  # digest
        self.nodes = Collection(store, ROOT + "nodes/", Node)  # node name
        self.daemons = Collection(store, ROOT + "daemons/", Daemon)  # node name
        self.guests = Collection(store, ROOT + "guests/", Guest)  # vmid
        self.runtimes = Collection(store, ROOT + "runtimes/", Runtime)  # vmid
        self.storages = Collection(store, ROOT + "storage/", Storage)  # storage id
        self.locks = Collection(store, ROOT + "locks/", Lock)  # subject
        self.resources = Collection(store, HA + "resources/", Resource)  # sid
        self.heartbeats = Collection(store, HA + "heartbeats/", Heartbeat)  # node name
        self.manager = Collection(store, HA + "manager/", ManagerTerm)  # "term"
        self.node_statuses = Collection(store, HA + "nodes/", NodeStatus)  # node name
        self.services = Collection(store, HA + "services/", Service)  # sid
        self.outcomes = Collection(store, HA + "outcomes/", Outcome)  # sid
        self.maintenance = Collection(store, HA + "maintenance/", Maintenance)  # node name
        self.arming = Collection(store, HA + "arming/", Arming)  # "state"
        self.balance = Collection(store, HA + "balance/", Balance)  # "state"
        self.rules = Collection(store, HA + "rules/", Rule)  # rule name
        self.fence_devices = Collection(store, FENCE_DEVICES, FenceDevice)  # device name
        self.fencings = Collection(store, HA + "fencings/", Fencing)  # node name
        self.fence_checks = Collection(store, HA + "fence-checks/", FenceCheck)  # device name
        self.notification_targets = Collection(store, TARGETS, Target)  # target name
        self.matchers = Collection(store, NOTIFICATIONS + "matchers/", Matcher)  # matcher name
        self.said = Collection(store, NOTIFICATIONS + "said/", Said)  # key, such as fencing:n1
        self.messages = Collection(store, NOTIFICATIONS + "messages/", Message)  # message id
        self.target_states = Collection(store, NOTIFICATIONS + "states/", TargetState)  # target name
        self.users = Collection(store, ACCESS + "users/", User)  # name@realm
        self.groups = Collection(store, ACCESS + "groups/", Group)  # group name
        self.roles = Collection(store, ACCESS + "roles/", Role)  # role name
        self.acl = Collection(store, ACCESS + "acl/", AclEntry)  # AclEntry.id
        self.tokens = Collection(store, ACCESS + "tokens/", Token)  # name@realm!token
        self.realms = Collection(store, ACCESS + "realms/", Realm)  # realm name
        self.passwords = Collection(store, ACCESS + "passwords/", Password)  # name@realm
        self.second_factors = Collection(store, ACCESS + "factors/", SecondFactor)  # name@realm/id
        self.ticket_keys = Collection(store, ACCESS + "ticket-keys/", TicketKey)  # "current"
        self.pools = Collection(store, ROOT + "pools/", Pool)  # pool name
