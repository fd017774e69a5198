"""What clients ask of a node's machine, over TLS, as they send it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from machine.test_machine_settings import Noting

from racimo.api.routes.certificates import CertificateUse
from racimo.machine.programs import Programs

if TYPE_CHECKING:
    from .site import Answer, Site


async def as_admin(site: Site, method: str, path: str, **form: str) -> Answer:
    return await site.ask(method, path, site.admin, form)  # type: ignore[attr-defined]


@pytest.fixture
async def admin(site: Site) -> Site:
    await site.user()
    await site.grant("/", "anna@pve", "Administrator")
    site.admin = await site.ticket()  # type: ignore[attr-defined]
    site.services.provide(Noting(), Programs)
    (site.paths.root / "etc").mkdir(exist_ok=True)
    return site


async def test_what_a_datacenter_has_none_of_is_listed_empty(admin: Site) -> None:
    for path in ("/nodes/n1/lxc", "/nodes/n1/replication", "/cluster/ha/groups", "/cluster/replication"):
        assert (await as_admin(admin, "GET", path)).data == []
    assert (await as_admin(admin, "GET", "/cluster/config/qdevice")).data == {}
    assert (await as_admin(admin, "GET", "/cluster/config/totem")).data == {}
    assert (await as_admin(admin, "GET", "/nodes/n1/subscription")).data["status"] == "notfound"


async def test_what_does_not_exist_says_so_in_the_clients_words(admin: Site) -> None:
    answer = await as_admin(admin, "GET", "/nodes/n1/lxc/100/config")
    assert (answer.status, "does not exist" in answer.reason) == (500, True)
    assert "migrated to rules" in (await as_admin(admin, "POST", "/cluster/ha/groups", group="a", nodes="n1")).reason
    assert "needs none" in (await as_admin(admin, "PUT", "/nodes/n1/subscription", key="k")).reason


async def test_a_node_that_stands_alone_has_no_join_information(admin: Site) -> None:
    assert (await as_admin(admin, "GET", "/cluster/config/join")).status == 424


async def test_name_servers_hosts_and_notes_are_set_and_shown(admin: Site) -> None:
    servers = {"search": "lab", "dns1": "192.0.2.1", "dns2": "192.0.2.2"}
    assert (await as_admin(admin, "PUT", "/nodes/n1/dns", **servers)).status == 200
    assert (await as_admin(admin, "GET", "/nodes/n1/dns")).data == servers
    before = (await as_admin(admin, "GET", "/nodes/n1/hosts")).data
    given = {"data": "127.0.0.1 localhost", "digest": before["digest"]}
    assert (await as_admin(admin, "POST", "/nodes/n1/hosts", **given)).status == 200
    assert "detected modified configuration" in (await as_admin(admin, "POST", "/nodes/n1/hosts", **given)).reason
    assert (await as_admin(admin, "GET", "/nodes/n1/hosts")).data["data"] == "127.0.0.1 localhost\n"
    await as_admin(admin, "PUT", "/nodes/n2/config", wakeonlan="52:54:00:12:34:56", description="rack 3")
    assert (await as_admin(admin, "GET", "/nodes/n2/config")).data["description"] == "rack 3"
    assert (await as_admin(admin, "PUT", "/nodes/n1/time", timezone="Nowhere/At")).status == 400
    assert (await as_admin(admin, "GET", "/nodes/n1/time")).data["timezone"] == "UTC"


async def test_power_and_services_go_through_systemd_as_tasks(admin: Site) -> None:
    programs = admin.services.need(Programs)
    assert isinstance(programs, Noting)
    for path, form in (("/nodes/n1/status", {"command": "reboot"}), ("/nodes/n1/services/pveproxy/restart", {})):
        upid = (await as_admin(admin, "POST", path, **form)).data
        assert (await admin.tasks.wait(upid, 10)).exitstatus == "OK"
    assert programs.asked == [
        ("systemctl", "--no-block", "reboot"), ("systemctl", "--no-block", "restart", "racimo-node.service"),
    ]  # fmt: skip
    told = (await as_admin(admin, "GET", "/cluster/log", max="5")).data
    assert {entry["tag"] for entry in told} == {"nodepower", "srvrestart"}
    assert all(entry["msg"].endswith(" OK") and entry["user"] == "anna@pve" for entry in told)
    assert (await as_admin(admin, "POST", "/nodes/n1/services/dbus/restart")).status == 400
    assert (await as_admin(admin, "POST", "/nodes/n1/services/racimo-guard/stop")).status == 500
    assert (await as_admin(admin, "POST", "/nodes/n1/status", command="explode")).status == 400


async def shown_by(site: Site, name: str) -> bytes:
    """The certificate that is shown to who asks for ``name``, in DER form."""
    import asyncio

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", site.server.port, ssl=context, server_hostname=name)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return found


async def test_a_certificate_of_ones_own_is_for_people_and_not_between_nodes(admin: Site) -> None:
    admin.tls.certificate.rename(admin.paths.etc / "node.crt")
    admin.tls.key.rename(admin.paths.etc / "node.key")
    (admin.paths.etc / "ca.crt").write_bytes(admin.tls.ca.read_bytes())
    from racimo.api.tls import TlsFiles

    async def reload() -> None:
        await admin.server.serve_tls(TlsFiles.of(admin.paths), "127.0.0.1", 0)

    admin.services.provide(CertificateUse(reload))
    other = admin.authority.issue("console.example.org")
    chain, key = other.certificate.read_text(), other.key.read_text()
    wrong = (admin.paths.etc / "node.key").read_text()
    refused = await as_admin(admin, "POST", "/nodes/n1/certificates/custom", certificates=chain, key=wrong)
    assert refused.body["errors"] == {"key": "does not belong to the first certificate"}
    set_ = await as_admin(admin, "POST", "/nodes/n1/certificates/custom", certificates=chain, key=key)
    assert set_.status == 200
    node = ssl.PEM_cert_to_DER_cert((admin.paths.etc / "node.crt").read_text())
    assert await shown_by(admin, "console.example.org") == ssl.PEM_cert_to_DER_cert(chain)
    assert await shown_by(admin, "n1") == node
    known = (await as_admin(admin, "GET", "/nodes/n1/certificates/info")).data
    assert [each["filename"] for each in known] == ["pve-root-ca.pem", "pve-ssl.pem", "pveproxy-ssl.pem"]
    assert "PRIVATE" not in str(known)
    assert (await as_admin(admin, "DELETE", "/nodes/n1/certificates/custom")).status == 200
    assert await shown_by(admin, "console.example.org") == node
