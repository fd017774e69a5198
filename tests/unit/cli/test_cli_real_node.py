"""The command line against a real node's daemon under a root of its own. No guest is started: that needs systemd."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import pytest
import structlog

from racimo.cli.main import main
from racimo.datacenter.services import SystemdServices
from racimo.guest.units import SystemdUnits
from racimo.model.paths import NodePaths
from racimo.node.daemon import NodeDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Racimo

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a node called n1 that stands alone."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    root = tmp_path_factory.mktemp("node")
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(root, ready)))
    thread.start()
    loop, stop = ready.result(timeout=30)
    yield root
    loop.call_soon_threadsafe(stop.set)
    thread.join(timeout=30)
    structlog.reset_defaults()
    assert not thread.is_alive(), "the daemon did not end"


async def _serve(root: Path, ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    stop = asyncio.Event()
    daemon = NodeDaemon(NodePaths(root), SystemdUnits(), SystemdServices(), port=0)
    serving = asyncio.create_task(daemon.run(stop))
    await daemon.ready.wait()
    ready.set_result((asyncio.get_running_loop(), stop))
    await serving


@pytest.fixture(autouse=True)
def _asks_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACIMO_SOCKET", str(NodePaths(root).node_socket))


@pytest.fixture
def node(racimo: Racimo, root: Path) -> str:
    """The node, made by ``racimo init`` unless it is one already."""
    if not (NodePaths(root).etc / "node.json").exists():
        said = racimo("init", "--name", "n1")
        assert said.code == 0, said.err
    return "n1"


def test_what_is_no_node_yet_says_to_run_init(racimo: Racimo) -> None:
    said = racimo("guest", "list")
    assert (said.code, "racimo init" in said.err) == (4, True)


def test_a_second_init_is_refused(node: str, racimo: Racimo) -> None:
    said = racimo("init")
    assert (said.code, "already the node 'n1'" in said.err) == (4, True)


@pytest.mark.parametrize(
    "words",
    [
        "status", "cluster status", "cluster options", "node list", "node status", "guest list", "storage list",
        "storage content local", "ha status", "task list", "task list --node n1", "node network n1", "node disks n1",
        "node show n1",
    ],
)  # fmt: skip
def test_everything_can_be_looked_at_on_a_node_that_stands_alone(node: str, racimo: Racimo, words: str) -> None:
    said = racimo(*words.split())
    assert (said.code, said.err) == (0, "")
    json.loads(racimo(*words.split(), "--json").out)


def test_a_file_is_uploaded_to_a_storage_and_deleted(node: str, racimo: Racimo, tmp_path: Path) -> None:
    (tmp_path / "a.iso").write_bytes(b"x" * 5000)
    assert racimo("storage", "add", "files", "--path", str(tmp_path / "there"), "--content", "iso").code == 0
    said = racimo("storage", "upload", "files", str(tmp_path / "a.iso"))
    assert (said.code, said.err) == (0, "")
    assert "files:iso/a.iso" in racimo("storage", "content", "files").out
    wrong = racimo("storage", "upload", "files", str(tmp_path / "a.iso"), "--checksum", f"sha256:{'0' * 64}")
    assert (wrong.code != 0, "checksum mismatch" in wrong.err) == (True, True)
    assert racimo("storage", "delete", "files:iso/a.iso").code == 0
    assert racimo("storage", "content", "files", "--json").document == []
    assert racimo("node", "set", "n1", "--description", "rack 3").code == 0
    assert "rack 3" in racimo("node", "show", "n1").out
    assert racimo("storage", "remove", "files").code == 0


def test_a_guest_is_created_changed_and_put_under_ha(node: str, racimo: Racimo, tmp_path: Path) -> None:
    assert racimo("storage", "add", "disks", "--type", "dir", "--path", str(tmp_path)).code == 0
    made = racimo("guest", "create", "next", "--name", "web", "--memory", "256", "--scsi0", "disks:1")
    assert (made.code, made.err) == (0, "")
    assert racimo("guest", "set", "100", "memory=512", "--delete", "name").code == 0
    config = racimo("guest", "config", "100", "--json").document
    assert isinstance(config, dict)
    assert (config["memory"], "name" in config) == (512, False)
    assert racimo("ha", "add", "100", "--comment", "the web shop").code == 0
    assert "the web shop" in racimo("ha", "status", "vm:100").out
    assert racimo("ha", "set", "100", "--state", "stopped", "--max-restart", "2").code == 0
    assert racimo("ha", "remove", "100").code == 0
    assert racimo("storage", "remove", "disks").code == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("guest create 101 --scsi0 nowhere:1", 3),
        ("guest create 99", 2),
        ("guest create 102 --set colour=red", 2),
        ("guest create 102 --memory lots", 2),
        ("guest create 102 --node n9", 3),
        ("guest config 999", 3),
        ("storage content nowhere", 3),
        ("storage add other --type tape", 2),
        ("ha add vm:999", 3),
        ("cluster join nonsense", 2),
        ("cluster witness nonsense", 2),
        ("cluster join-info", 4),
        ("cluster leave", 4),
        ("cluster recover --yes", 4),
        ("cluster options --set ha_profile=slow", 2),
        ("ha profile slow", 2),
        ("cluster remove n9", 3),
        ("task show UPID:n1:00000001:00000001:00000001:qmstart:100:root@pam:", 3),
    ],
)
def test_bad_input_is_told_by_its_exit_code_and_leaves_no_task_behind(
    node: str, racimo: Racimo, words: str, code: int
) -> None:
    said = racimo(*words.split())
    assert said.code == code, said.err
    assert said.err.startswith("Error: ")


def test_the_store_is_backed_up(node: str, racimo: Racimo, root: Path) -> None:
    assert racimo("cluster", "backup").code == 0
    assert list((NodePaths(root).state / "backup").iterdir())


def test_options_are_changed(node: str) -> None:
    assert main(["cluster", "options", "--set", "migration_network=10.0.2.0/24"]) == 0


def test_the_profile_is_shown_and_changed(node: str, racimo: Racimo) -> None:
    assert racimo("ha", "profile", "patient").out.startswith("HA reacts by the profile patient now.")
    shown = racimo("ha", "profile", "--json").document
    assert isinstance(shown, dict) and shown["profile"] == "patient"
    assert "Heartbeats take" in racimo("ha", "profile").out
    assert racimo("ha", "profile", "default").code == 0
