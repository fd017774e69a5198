from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.datacenter.authority import Subject, new_authority, new_key, sign, signing_request
from racimo.node.notifying import judge_certificates
from racimo.notification.events import Begin

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86400.0
NOW = 1_800_000_000.0


def titles(folder: Path, days: float) -> dict[str, bool]:
    """What is said so many days after the certificates were issued; true where it begins."""
    return {each.title: isinstance(each, Begin) for each in judge_certificates(folder, "n1", NOW + days * DAY_S)}


def test_a_certificate_that_was_not_renewed_is_told_in_time(tmp_path: Path) -> None:
    assert titles(tmp_path, 0) == {}
    authority = new_authority("d1", "lab", NOW)
    (tmp_path / "ca.crt").write_text(authority.certificate)
    subject = Subject(node="n1", node_id="1", datacenter="d1")
    certificate = sign(authority, signing_request(new_key(), "n1"), subject, ("10.0.0.1",), NOW)
    (tmp_path / "node.crt").write_text(certificate)
    fine = {"The datacenter's certificate authority is renewed": False}
    assert titles(tmp_path, 300) == {"The certificate of n1 is renewed": False, **fine}
    assert titles(tmp_path, 340.5) == {"The certificate of n1 expires in 24 days": True, **fine}
    assert titles(tmp_path, 366) == {"The certificate of n1 has expired": True, **fine}
    assert "The datacenter's certificate authority expires in 52 days" in titles(tmp_path, 3600)
    (tmp_path / "node.crt").write_text("nonsense")
    assert titles(tmp_path, 0) == fine
