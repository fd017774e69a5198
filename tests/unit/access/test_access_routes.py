"""The calls of Ansible's modules and of Terraform's provider, and the words that they look for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .site import PASSWORD

if TYPE_CHECKING:
    from .site import Site


@pytest.fixture
async def root(site: Site) -> dict[str, str]:
    """Headers of root, logged in over the network."""
    return await site.ticket("root@pam")


async def test_a_login_over_tls_gives_what_clients_take_from_it(site: Site) -> None:
    await site.user()
    await site.grant("/vms/100", "anna@pve", "PVEVMUser")
    answer = await site.ask("POST", "/access/ticket", {}, {"username": "anna", "realm": "pve", "password": PASSWORD})
    assert answer.status == 200
    assert set(answer.data) == {"username", "ticket", "CSRFPreventionToken", "clustername", "cap"}
    assert (answer.data["username"], answer.data["clustername"]) == ("anna@pve", "lab")
    assert answer.data["cap"]["vms"]["VM.PowerMgmt"] == 1
    assert answer.data["cap"]["storage"] == {}
    headers = {"Cookie": f"PVEAuthCookie={answer.data['ticket']}"}
    assert (await site.ask("GET", "/version", headers)).status == 200


async def test_realms_are_told_before_the_login(site: Site) -> None:
    answer = await site.ask("GET", "/access/domains")
    assert [(realm["realm"], realm["type"]) for realm in answer.data] == [("pam", "pam"), ("pve", "pve")]
    assert (await site.ask("GET", "/access/domains/pve")).status == 401


async def test_a_user_s_life(site: Site, root: dict[str, str]) -> None:
    missing = await site.ask("GET", "/access/users/ben@pve", root)
    assert (missing.status, "no such user ('ben@pve')" in missing.reason) == (500, True)
    await site.ask("POST", "/access/groups", root, {"groupid": "staff", "comment": "All of us"})
    form = {"userid": "ben@pve", "password": PASSWORD, "groups": "staff", "enable": 1, "expire": 0, "email": "b@x.org"}
    assert (await site.ask("POST", "/access/users", root, form)).status == 200
    again = await site.ask("POST", "/access/users", root, form)
    assert "already exists" in again.reason
    shown = (await site.ask("GET", "/access/users/ben@pve", root)).data
    assert shown == {"enable": 1, "expire": 0, "email": "b@x.org", "groups": ["staff"], "tokens": {}}
    assert (await site.ask("PUT", "/access/users/ben@pve", root, {"enable": 0, "comment": "gone"})).data is None
    listed = (await site.ask("GET", "/access/users", root, {"full": 1})).data
    ben = next(user for user in listed if user["userid"] == "ben@pve")
    assert (ben["enable"], ben["comment"], ben["groups"], ben["email"]) == (0, "gone", "staff", "b@x.org")
    assert "root@pam" in {user["userid"] for user in listed}
    assert (await site.ask("DELETE", "/access/users/ben@pve", root)).status == 200
    assert "no such user" in (await site.ask("DELETE", "/access/users/ben@pve", root)).reason


async def test_a_token_s_life(site: Site, root: dict[str, str]) -> None:
    await site.user()
    path = "/access/users/anna@pve/token/ci"
    made = (await site.ask("POST", path, root, {"privsep": 0, "comment": "for CI", "expire": 0})).data
    assert (made["full-tokenid"], made["info"]) == (
        "anna@pve!ci",
        {"privsep": 0, "expire": 0, "comment": "for CI"},
    )
    headers = {"Authorization": f"PVEAPIToken=anna@pve!ci={made['value']}"}
    assert (await site.ask("GET", "/version", headers)).status == 200
    assert "already exists" in (await site.ask("POST", path, root)).reason
    assert (await site.ask("GET", path, root)).data == made["info"]
    changed = await site.ask("PUT", path, root, {"comment": "CI", "regenerate": 1})
    assert changed.data["comment"] == "CI"
    assert (await site.ask("GET", "/version", headers)).status == 401
    headers = {"Authorization": f"PVEAPIToken=anna@pve!ci={changed.data['value']}"}
    assert (await site.ask("GET", "/version", headers)).status == 200
    assert [t["tokenid"] for t in (await site.ask("GET", "/access/users/anna@pve/token", root)).data] == ["ci"]
    assert "ci" in (await site.ask("GET", "/access/users/anna@pve", root)).data["tokens"]
    assert (await site.ask("DELETE", path, root)).status == 200
    assert (await site.ask("GET", "/version", headers)).status == 401
    assert "no such token" in (await site.ask("GET", path, root)).reason


async def test_groups_and_their_members(site: Site, root: dict[str, str]) -> None:
    await site.user(groups=("staff",))
    await site.grant("/vms", "staff", "PVEVMUser")
    assert (await site.ask("GET", "/access/groups/staff", root)).data == {"comment": "", "members": ["anna@pve"]}
    await site.ask("PUT", "/access/groups/staff", root, {"comment": "All of us"})
    assert (await site.ask("GET", "/access/groups", root)).data == [
        {"groupid": "staff", "comment": "All of us", "users": "anna@pve"}
    ]
    assert (await site.ask("DELETE", "/access/groups/staff", root)).status == 200
    assert (await site.ask("GET", "/access/users/anna@pve", root)).data["groups"] == []
    assert (await site.ask("GET", "/access/acl", root)).data == []
    assert "does not exist" in (await site.ask("GET", "/access/groups/staff", root)).reason


async def test_roles(site: Site, root: dict[str, str]) -> None:
    await site.ask("POST", "/access/roles", root, {"roleid": "Look", "privs": "VM.Audit,Sys.Audit"})
    assert (await site.ask("GET", "/access/roles/Look", root)).data == {"Sys.Audit": 1, "VM.Audit": 1}
    await site.ask("PUT", "/access/roles/Look", root, {"privs": "VM.Console", "append": 1})
    listed = {role["roleid"]: role for role in (await site.ask("GET", "/access/roles", root)).data}
    assert listed["Look"] == {"roleid": "Look", "privs": "Sys.Audit,VM.Audit,VM.Console", "special": 0}
    assert listed["Administrator"]["special"] == 1
    assert "already exists" in (await site.ask("POST", "/access/roles", root, {"roleid": "Look"})).reason
    assert (await site.ask("POST", "/access/roles", root, {"roleid": "B", "privs": "VM.Nope"})).status == 400
    assert (await site.ask("PUT", "/access/roles/PVEAdmin", root, {"privs": "VM.Audit"})).status == 500
    assert (await site.ask("DELETE", "/access/roles/Look", root)).status == 200
    assert "does not exist" in (await site.ask("GET", "/access/roles/Look", root)).reason


async def test_the_acl_as_ansible_changes_it(site: Site, root: dict[str, str]) -> None:
    await site.user()
    form = {"path": "/vms/100", "roles": "PVEVMUser", "propagate": 1, "users": "anna@pve"}
    assert (await site.ask("PUT", "/access/acl", root, form)).data is None
    entry = {"path": "/vms/100", "type": "user", "ugid": "anna@pve", "roleid": "PVEVMUser", "propagate": 1}
    assert (await site.ask("GET", "/access/acl", root)).data == [entry]
    assert (await site.ask("PUT", "/access/acl", root, {**form, "delete": 1})).status == 200
    assert (await site.ask("GET", "/access/acl", root)).data == []
    for wrong, word in ((("users", "eve@pve"), "no such user"), (("roles", "Nope"), "does not exist")):
        assert word in (await site.ask("PUT", "/access/acl", root, {**form, wrong[0]: wrong[1]})).reason
    assert (await site.ask("PUT", "/access/acl", root, {**form, "path": "/etc/passwd"})).status == 400


async def test_permissions_by_path(site: Site, root: dict[str, str]) -> None:
    await site.user()
    await site.grant("/vms", "anna@pve", "PVETemplateUser")
    own = (await site.ask("GET", "/access/permissions", await site.ticket())).data
    assert own == {"/vms": {"VM.Audit": 1, "VM.Clone": 1}}
    assert (await site.ask("GET", "/access/permissions", root, {"userid": "anna@pve", "path": "/vms/7"})).data == {
        "/vms/7": {"VM.Audit": 1, "VM.Clone": 1}
    }
    assert (await site.ask("GET", "/access/permissions", await site.ticket(), {"userid": "root@pam"})).status == 403
    assert "/" in (await site.ask("GET", "/access/permissions", root)).data


@pytest.mark.parametrize("new_form", [False, True])
async def test_a_pool_s_life_in_both_forms(site: Site, root: dict[str, str], new_form: bool) -> None:
    def form(**more: object) -> tuple[str, dict[str, object]]:
        return ("/pools", {"poolid": "lab", **more}) if new_form else ("/pools/lab", more)

    assert (await site.ask("POST", "/pools", root, {"poolid": "lab", "comment": "x"})).status == 200
    assert "already exists" in (await site.ask("POST", "/pools", root, {"poolid": "lab"})).reason
    path, more = form(vms=[100, 101], storage=["fast"])
    assert (await site.ask("PUT", path, root, more)).status == 200
    path, more = form()
    shown = (await site.ask("GET", path, root, more)).data
    pool = shown[0] if new_form else shown
    assert pool["comment"] == "x"
    members = [(entry["id"], entry["type"], entry.get("vmid")) for entry in pool["members"]]
    assert members == [("qemu/100", "qemu", 100), ("qemu/101", "qemu", 101), ("storage/n1/fast", "storage", None)]
    path, more = form()
    assert "not empty" in (await site.ask("DELETE", path, root, more)).reason
    path, more = form(vms="100,101", storage="fast", delete=1)
    assert (await site.ask("PUT", path, root, more)).status == 200
    path, more = form()
    assert (await site.ask("DELETE", path, root, more)).status == 200
    assert (await site.ask("GET", "/pools", root)).data == []
    assert "does not exist" in (await site.ask("GET", path, root, more)).reason


async def test_a_guest_is_moved_between_pools_only_when_that_is_said(site: Site, root: dict[str, str]) -> None:
    for pool in ("a", "b", "b/inner"):
        await site.ask("POST", "/pools", root, {"poolid": pool})
    await site.ask("PUT", "/pools/a", root, {"vms": 100})
    assert "already a pool member" in (await site.ask("PUT", "/pools/b%2Finner", root, {"vms": 100})).reason
    assert (await site.ask("PUT", "/pools/b%2Finner", root, {"vms": 100, "allow-move": 1})).status == 200
    assert (await site.ask("GET", "/pools/a", root)).data["members"] == []
    resources = (await site.ask("GET", "/cluster/resources", root)).data
    assert {entry.get("vmid"): entry.get("pool") for entry in resources if entry["type"] == "qemu"} == {
        100: "b/inner", 101: None,
    }  # fmt: skip


async def test_passwords_are_changed_by_their_owner_who_knows_the_old_one_and_by_user_admins(site: Site) -> None:
    await site.user()
    await site.user("boss@pve", groups=("staff",))
    own, path = await site.ticket(), "/access/password"
    form = {"userid": "anna@pve", "password": "my next password"}
    assert (await site.ask("PUT", path, own, form)).status == 400
    assert (await site.ask("PUT", path, own, {**form, "confirmation-password": "wrong"})).status == 400
    assert (await site.ask("PUT", path, own, {**form, "confirmation-password": PASSWORD})).status == 200
    assert (await site.log_in(password="my next password")).ticket
    boss = await site.ticket("boss@pve")
    other = {"userid": "anna@pve", "password": "given by the boss", "confirmation-password": PASSWORD}
    assert (await site.ask("PUT", path, boss, other)).status == 403
    await site.grant("/access", "boss@pve", "PVEUserAdmin")
    assert (await site.ask("PUT", path, boss, other)).status == 200
    assert (await site.ask("PUT", path, boss, {**other, "userid": "root@pam"})).status == 403
    assert (await site.ask("PUT", path, boss, {**other, "password": "short"})).status == 400


async def test_lists_show_what_one_may_see_and_no_more(site: Site, root: dict[str, str]) -> None:
    await site.user()
    anna = await site.ticket()
    await site.ask("POST", "/pools", root, {"poolid": "lab"})
    resources = (await site.ask("GET", "/cluster/resources", anna)).data
    assert [(entry["id"], "maxmem" in entry) for entry in resources] == [("node/n1", False), ("node/n2", False)]
    for path in ("/storage", "/pools", "/access/groups", "/access/acl", "/cluster/tasks"):
        assert (await site.ask("GET", path, anna)).data == [], path
    assert [user["userid"] for user in (await site.ask("GET", "/access/users", anna)).data] == ["anna@pve"]
    await site.grant("/vms/100", "anna@pve", "PVEVMUser")
    await site.grant("/storage/slow", "anna@pve", "PVEDatastoreUser")
    await site.grant("/pool/lab", "anna@pve", "PVEPoolUser")
    await site.grant("/nodes/n2", "anna@pve", "PVEAuditor")
    ids = [entry["id"] for entry in (await site.ask("GET", "/cluster/resources", anna)).data]
    assert ids == ["qemu/100", "node/n1", "node/n2", "storage/n1/slow", "storage/n2/slow", "/pool/lab"]
    assert [storage["storage"] for storage in (await site.ask("GET", "/storage", anna)).data] == ["slow"]


async def test_who_may_make_guests_gives_others_no_more_than_they_have(site: Site) -> None:
    await site.user()
    await site.user("ben@pve")
    await site.grant("/vms/100", "anna@pve", "PVEVMAdmin")
    anna, form = await site.ticket(), {"path": "/vms/100", "users": "ben@pve", "roles": "PVEVMUser"}
    assert (await site.ask("PUT", "/access/acl", anna, form)).status == 200
    assert (await site.ask("PUT", "/access/acl", anna, {**form, "roles": "Administrator"})).status == 403
    for path in ("/", "/vms", "/vms/101", "/storage/fast"):
        assert (await site.ask("PUT", "/access/acl", anna, {**form, "path": path})).status == 403, path
