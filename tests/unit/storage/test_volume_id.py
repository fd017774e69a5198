"""Volume ids name a volume of a storage and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo.storage.base import VolumeId


@pytest.mark.parametrize("text", ["local:100/vm-100-disk-0.qcow2", "ceph-1:vm-100-disk-0", "local:iso/debian-12.iso"])
def test_a_volume_id_is_read_and_written_back(text: str) -> None:
    assert str(VolumeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "local", ":x", "local:", "1a:x", "local:/etc/passwd", "local:../x", "local:a/../../b", "local:a/b/c",
        "local:.x", "local:a//b", "local:a b", "local:a\nb", "lo cal:x", "local:a\x00b", "local:x..y", "local:100/.tmp",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a volume"):
        VolumeId.parse(text)


@given(st.text(max_size=30))
def test_no_volume_name_ever_leaves_its_storage(name: str) -> None:
    try:
        volume = VolumeId.parse(f"local:{name}")
    except ValueError:
        return
    assert ".." not in volume.name and not volume.name.startswith("/") and "\0" not in volume.name
