"""Mail through a real server over real TLS: who is trusted, who is not, and what is said then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tls_servers import PrivateAuthority, real_mail_server

from racimo.model.notification import EventType, MailSecurity, Message, Severity, Target, TargetKind
from racimo.notification.delivery import Delivery, Undelivered
from racimo.store.sealing import Sealing

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

DELIVER = Delivery(lambda: "lab", "n2", Sealing(Path("/nowhere/sealing.json")))
MESSAGE = Message(
    id="17-ab", type=EventType.FENCING, severity=Severity.ERROR, title="n1 is fenced", text="So it is.", at=1.8e9,
    by="n2",
)  # fmt: skip


RIGHT = "hush"


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateAuthority:
    """An authority that this machine trusts beside no other, as update-ca-certificates would have it."""
    authority = PrivateAuthority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return authority


def ops(port: int, mode: MailSecurity, *, password: str = RIGHT, server: str = "127.0.0.1") -> Target:
    return Target(
        name="ops", kind=TargetKind.SMTP, server=server, port=port, mode=mode, from_address="racimo@b.c",
        mailto=("ops@b.c",), username="racimo", password=password,
    )  # fmt: skip


async def test_mail_goes_by_starttls(trusted: PrivateAuthority) -> None:
    async with real_mail_server(starttls=trusted.server()) as mails:
        await DELIVER(MESSAGE, ops(mails.port, MailSecurity.STARTTLS))
    (envelope,) = mails.taken
    assert envelope.mail_from == "racimo@b.c"
    assert envelope.rcpt_tos == ["ops@b.c"]
    assert isinstance(envelope.content, bytes) and b"Subject: [lab] n1 is fenced" in envelope.content
    assert mails.secured[0] in ("TLSv1.2", "TLSv1.3")


async def test_mail_goes_by_implicit_tls(trusted: PrivateAuthority) -> None:
    async with real_mail_server(implicit=trusted.server()) as mails:
        await DELIVER(MESSAGE, ops(mails.port, MailSecurity.TLS))
    assert len(mails.taken) == 1
    assert mails.secured[0] in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("mode", [MailSecurity.STARTTLS, MailSecurity.TLS])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("authority", "self-signed certificate in certificate chain"),
        ("name", "not valid for '127.0.0.2'"),
        ("expired", "certificate has expired"),
    ],
)
async def test_a_wrong_certificate_is_refused_and_no_password_told(
    trusted: PrivateAuthority, tmp_path: Path, mode: MailSecurity, wrong: str, said: str
) -> None:
    authority = PrivateAuthority(tmp_path, "other") if wrong == "authority" else trusted
    context = authority.server(now=time.time() - 400 * 86400.0 if wrong == "expired" else None)
    server = "127.0.0.2" if wrong == "name" else "127.0.0.1"
    tls = {"implicit": context} if mode is MailSecurity.TLS else {"starttls": context}
    async with real_mail_server(**tls, address=server) as mails:
        with pytest.raises(Undelivered, match=said) as told:
            await DELIVER(MESSAGE, ops(mails.port, mode, server=server))
    assert "is not trusted" in told.value.why and "update-ca-certificates" in told.value.why
    assert not told.value.refused  # a certificate is renewed within the day that a message is tried for
    assert mails.taken == []


@pytest.mark.parametrize("mode", [MailSecurity.STARTTLS, MailSecurity.TLS])
async def test_a_login_that_fails_is_told_with_the_name_and_without_the_password(
    trusted: PrivateAuthority, mode: MailSecurity
) -> None:
    tls = {"implicit": trusted.server()} if mode is MailSecurity.TLS else {"starttls": trusted.server()}
    async with real_mail_server(**tls) as mails:
        with pytest.raises(Undelivered, match=r"does not accept the login of 'racimo': 535 ") as told:
            await DELIVER(MESSAGE, ops(mails.port, mode, password="grapes-4711"))
    assert told.value.refused
    assert "grapes" not in str(told.value)
    assert mails.taken == []


async def test_a_server_without_starttls_gets_neither_password_nor_mail() -> None:
    async with real_mail_server() as mails:
        with pytest.raises(Undelivered, match="STARTTLS extension not supported"):
            await DELIVER(MESSAGE, ops(mails.port, MailSecurity.STARTTLS))
    assert mails.taken == []


async def test_a_plain_server_where_tls_is_wanted_is_said_to_be_one() -> None:
    async with real_mail_server() as mails:
        with pytest.raises(Undelivered, match="does not speak TLS as '--mode tls' has it"):
            await DELIVER(MESSAGE, ops(mails.port, MailSecurity.TLS))


async def test_a_server_that_takes_logins_over_tls_alone_says_how_to_go_on(trusted: PrivateAuthority) -> None:
    async with real_mail_server(starttls=trusted.server()) as mails:
        with pytest.raises(Undelivered, match=r"takes no login.*see --mode"):
            await DELIVER(MESSAGE, ops(mails.port, MailSecurity.INSECURE))
