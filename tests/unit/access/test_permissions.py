from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo.access.names import Asker, segments_of
from racimo.access.permissions import Policy
from racimo.access.privileges import ADMINISTRATOR, BUILT_IN, NO_ACCESS, PRIVILEGES
from racimo.model.access import AclEntry, Grantee, Group, Pool, Role, Token, User

ANNA, BEN = Asker("anna@pve"), Asker("ben@pve")
CI = Asker("anna@pve", "ci")


def acl(path: str, grantee: str, role: str, *, propagate: bool = True) -> AclEntry:
    kind = Grantee.TOKEN if "!" in grantee else Grantee.USER if "@" in grantee else Grantee.GROUP
    return AclEntry(path=path, kind=kind, grantee=grantee, role=role, propagate=propagate)


def policy(*entries: AclEntry, pools: tuple[Pool, ...] = (), tokens: tuple[Token, ...] = ()) -> Policy:
    users = [User(name="anna@pve", groups=("staff", "ops")), User(name="ben@pve")]
    groups = [Group(name="staff"), Group(name="ops")]
    return Policy(users=users, groups=groups, roles=[Role(name="Look", privileges=("VM.Audit",))], acl=entries,
                  pools=pools, tokens=tokens)  # fmt: skip


def test_nobody_may_anything_without_an_entry() -> None:
    assert policy().privileges(ANNA, "/") == {}
    assert policy().privileges(Asker("eve@pve"), "/vms/100") == {}


def test_root_may_everything_everywhere() -> None:
    held = policy(acl("/vms", "root@pam", NO_ACCESS)).privileges(Asker("root@pam"), "/vms/100")
    assert held == dict.fromkeys(PRIVILEGES, True)


def test_an_entry_holds_on_its_path_and_below_it() -> None:
    rules = policy(acl("/vms", "anna@pve", "Look"))
    assert rules.privileges(ANNA, "/vms") == {"VM.Audit": True}
    assert rules.allows(ANNA, "/vms/100", "VM.Audit")
    assert not rules.allows(ANNA, "/", "VM.Audit")
    assert not rules.allows(ANNA, "/storage/local", "VM.Audit")
    assert not rules.allows(BEN, "/vms/100", "VM.Audit")


def test_an_entry_that_does_not_propagate_holds_on_its_path_alone() -> None:
    rules = policy(acl("/vms", "anna@pve", "Look", propagate=False))
    assert rules.privileges(ANNA, "/vms") == {"VM.Audit": False}
    assert not rules.allows(ANNA, "/vms/100", "VM.Audit")


def test_what_is_written_further_down_replaces_what_was_inherited() -> None:
    rules = policy(acl("/vms", "anna@pve", "PVEVMAdmin"), acl("/vms/100", "anna@pve", "Look"))
    assert rules.allows(ANNA, "/vms/101", "VM.Allocate")
    assert set(rules.privileges(ANNA, "/vms/100")) == {"VM.Audit"}


def test_a_group_entry_further_down_replaces_a_user_entry_above() -> None:
    rules = policy(acl("/vms", "anna@pve", "PVEVMAdmin"), acl("/vms/100", "staff", "Look"))
    assert set(rules.privileges(ANNA, "/vms/100")) == {"VM.Audit"}


def test_at_one_level_a_user_entry_goes_before_those_of_groups() -> None:
    rules = policy(acl("/vms/100", "anna@pve", "Look"), acl("/vms/100", "staff", "PVEVMAdmin"))
    assert set(rules.privileges(ANNA, "/vms/100")) == {"VM.Audit"}


def test_the_roles_of_several_groups_add_up() -> None:
    rules = policy(acl("/vms/100", "staff", "Look"), acl("/vms/100", "ops", "PVEDatastoreUser"))
    assert set(rules.privileges(ANNA, "/vms/100")) == {"VM.Audit", "Datastore.AllocateSpace", "Datastore.Audit"}


def test_no_access_takes_away_what_was_given_above_and_beside() -> None:
    rules = policy(
        acl("/vms", "anna@pve", ADMINISTRATOR), acl("/vms/100", "anna@pve", NO_ACCESS),
        acl("/vms/100", "anna@pve", "Look"),
    )  # fmt: skip
    assert rules.privileges(ANNA, "/vms/100") == {}
    assert rules.allows(ANNA, "/vms/101", "VM.Audit")


def test_no_access_of_one_group_leaves_nothing_of_the_other() -> None:
    rules = policy(acl("/vms/100", "staff", ADMINISTRATOR), acl("/vms/100", "ops", NO_ACCESS))
    assert rules.privileges(ANNA, "/vms/100") == {}


def test_no_access_that_does_not_propagate_spares_what_is_below() -> None:
    rules = policy(acl("/", "anna@pve", "Look"), acl("/vms", "anna@pve", NO_ACCESS, propagate=False))
    assert not rules.allows(ANNA, "/vms", "VM.Audit")
    assert rules.allows(ANNA, "/vms/100", "VM.Audit")


def test_the_roles_on_a_pool_count_on_its_guests_and_storages() -> None:
    pool = Pool(name="lab", guests=(100,), storages=("fast",))
    rules = policy(acl("/pool/lab", "anna@pve", "PVEVMUser"), acl("/pool/lab", "anna@pve", "PVEDatastoreUser"),
                   pools=(pool,))  # fmt: skip
    assert rules.privileges(ANNA, "/vms/100")["VM.PowerMgmt"] is False
    assert rules.allows(ANNA, "/storage/fast", "Datastore.AllocateSpace")
    assert not rules.allows(ANNA, "/vms/101", "VM.PowerMgmt")
    assert not rules.allows(ANNA, "/vms", "VM.PowerMgmt")


def test_a_pool_adds_to_the_acl_and_no_access_beats_both() -> None:
    pool = Pool(name="lab", guests=(100, 101, 102))
    rules = policy(
        acl("/pool/lab", "anna@pve", "PVEVMUser"), acl("/vms/100", "anna@pve", "Look"),
        acl("/vms/101", "anna@pve", NO_ACCESS), pools=(pool,),
    )  # fmt: skip
    assert rules.allows(ANNA, "/vms/100", "VM.PowerMgmt")
    assert rules.privileges(ANNA, "/vms/101") == {}
    closed = policy(acl("/pool", "anna@pve", NO_ACCESS), acl("/vms", "anna@pve", "Look"), pools=(pool,))
    assert closed.privileges(ANNA, "/vms/102") == {}


def test_a_pool_inside_a_pool_inherits_its_permissions() -> None:
    rules = policy(acl("/pool/lab", "anna@pve", "Look"), pools=(Pool(name="lab/red", guests=(100,)),))
    assert rules.allows(ANNA, "/vms/100", "VM.Audit")


def test_a_separated_token_may_only_what_its_user_may_too() -> None:
    token = Token(user="anna@pve", name="ci")
    rules = policy(acl("/vms", "anna@pve", "Look"), acl("/", "anna@pve!ci", ADMINISTRATOR), tokens=(token,))
    assert set(rules.privileges(CI, "/vms/100")) == {"VM.Audit"}
    assert policy(acl("/vms", "anna@pve", "Look"), tokens=(token,)).privileges(CI, "/vms/100") == {}


def test_a_token_without_separation_may_what_its_user_may() -> None:
    token = Token(user="anna@pve", name="ci", privsep=False)
    assert policy(acl("/vms", "staff", "Look"), tokens=(token,)).allows(CI, "/vms/100", "VM.Audit")


def test_a_token_of_root_may_what_it_was_given() -> None:
    name = Asker("root@pam", "ci")
    separated = policy(acl("/vms", "root@pam!ci", "Look"), tokens=(Token(user="root@pam", name="ci"),))
    assert set(separated.privileges(name, "/vms/100")) == {"VM.Audit"}
    whole = policy(tokens=(Token(user="root@pam", name="ci", privsep=False),))
    assert set(whole.privileges(name, "/")) == set(PRIVILEGES)


def test_a_token_that_is_not_there_may_nothing() -> None:
    assert policy(acl("/", "anna@pve", ADMINISTRATOR)).privileges(CI, "/") == {}


@pytest.mark.parametrize(
    ("user", "active"),
    [
        (User(name="anna@pve"), True),
        (User(name="anna@pve", enable=False), False),
        (User(name="anna@pve", expire=1000), False),
        (User(name="anna@pve", expire=1001), True),
    ],
)
def test_a_disabled_or_expired_user_is_not_active(user: User, active: bool) -> None:
    assert Policy(users=[user]).active(ANNA, 1000) is active


def test_a_token_is_not_active_when_it_or_its_user_is_not() -> None:
    user, token = User(name="anna@pve"), Token(user="anna@pve", name="ci")
    assert Policy(users=[user], tokens=[token]).active(CI, 5)
    assert not Policy(users=[user]).active(CI, 5)
    assert not Policy(users=[user], tokens=[Token(user="anna@pve", name="ci", expire=5)]).active(CI, 5)
    assert not Policy(users=[User(name="anna@pve", enable=False)], tokens=[token]).active(CI, 5)


def test_root_is_active_without_a_record_and_others_are_not() -> None:
    assert Policy().active(Asker("root@pam"), 0)
    assert not Policy().active(ANNA, 0)


PATHS = ["/", "/vms", "/vms/100", "/vms/101", "/pool", "/pool/lab", "/storage", "/storage/fast", "/nodes/n1"]
entries = st.lists(
    st.builds(
        acl,
        st.sampled_from(PATHS),
        st.sampled_from(["anna@pve", "staff", "ops", "anna@pve!ci", "ben@pve"]),
        st.sampled_from(["Look", "PVEVMUser", "PVEDatastoreUser", NO_ACCESS, ADMINISTRATOR]),
        propagate=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda entry: entry.id,
)
LAB = Pool(name="lab", guests=(100,), storages=("fast",))


def by_looking_upwards(found: list[AclEntry], user: str, groups: tuple[str, ...], path: str) -> set[str]:
    """The same rules told from the other end: the nearest level with a word about somebody decides."""
    steps = segments_of(path)
    for depth in range(len(steps), -1, -1):
        here = "/" + "/".join(steps[:depth])
        words = [entry for entry in found if entry.path == here and (entry.propagate or depth == len(steps))]
        roles = {entry.role for entry in words if entry.grantee == user}
        roles = roles or {entry.role for entry in words if entry.grantee in groups}
        if roles:
            return {NO_ACCESS} if NO_ACCESS in roles else roles
    return set()


@given(entries, st.sampled_from(PATHS))
def test_walking_down_finds_what_looking_upwards_finds(found: list[AclEntry], path: str) -> None:
    roles = by_looking_upwards(found, "anna@pve", ("staff", "ops"), path)
    of_role = {"Look": frozenset({"VM.Audit"}), **BUILT_IN}
    expected = set().union(*(of_role[role] for role in roles))
    assert set(policy(*found).privileges(ANNA, path)) == expected


@given(entries, st.sampled_from(PATHS))
def test_a_separated_token_never_has_more_than_its_user(found: list[AclEntry], path: str) -> None:
    rules = policy(*found, pools=(LAB,), tokens=(Token(user="anna@pve", name="ci"),))
    held, ceiling = rules.privileges(CI, path), rules.privileges(ANNA, path)
    assert held.keys() <= ceiling.keys()
    assert all(ceiling[name] for name, propagates in held.items() if propagates)


@given(entries, st.sampled_from(PATHS))
def test_entries_about_others_change_nothing(found: list[AclEntry], path: str) -> None:
    own = [entry for entry in found if entry.grantee == "ben@pve"]
    assert policy(*found).privileges(BEN, path) == policy(*own).privileges(BEN, path)


@given(entries, st.sampled_from(["/vms/100", "/storage/fast"]))
def test_a_pool_never_takes_away_but_by_no_access(found: list[AclEntry], path: str) -> None:
    without, with_pool = policy(*found).privileges(ANNA, path), policy(*found, pools=(LAB,)).privileges(ANNA, path)
    if NO_ACCESS in by_looking_upwards(found, "anna@pve", ("staff", "ops"), "/pool/lab"):
        assert with_pool == {}
    else:
        assert without.items() <= with_pool.items()


@given(entries, st.sampled_from(PATHS))
def test_where_all_propagates_what_holds_on_a_path_holds_below_it(found: list[AclEntry], path: str) -> None:
    rules = policy(*(entry for entry in found if entry.propagate))
    assert rules.privileges(ANNA, f"{path.rstrip('/')}/nothing/here") == rules.privileges(ANNA, path)
