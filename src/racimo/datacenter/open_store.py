"""The store of this node: SQLite while it stands alone, etcd in a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.datacenter.certificates import CertificateFiles
from racimo.store.etcd import EtcdStore, TlsFiles
from racimo.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from racimo.datacenter.identity import Identity
    from racimo.model.paths import NodePaths
    from racimo.store.base import Store


def sqlite_path(paths: NodePaths) -> Path:
    """Where a node that stands alone keeps its records."""
    return paths.state / "store.sqlite"


def tls_files(paths: NodePaths) -> TlsFiles:
    """The node's certificate files, as the store's client takes them."""
    files = CertificateFiles.of(paths)
    return TlsFiles(ca=files.ca, cert=files.cert, key=files.key)


def open_etcd(paths: NodePaths, endpoints: Sequence[str]) -> EtcdStore:
    """The cluster's store."""
    return EtcdStore(tuple(endpoints), tls_files(paths))


def open_sqlite(paths: NodePaths) -> SqliteStore:
    """The store of a node that stands alone. Makes the folder."""
    path = sqlite_path(paths)
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteStore(path)


def follower(store: Store) -> Callable[[tuple[str, ...]], None]:
    """What tells ``store`` that its members are others now; SQLite has none."""
    return store.set_endpoints if isinstance(store, EtcdStore) else lambda _: None


def open_store(paths: NodePaths, identity: Identity) -> Store:
    """The store that ``identity`` points to."""
    return open_etcd(paths, identity.endpoints) if identity.clustered else open_sqlite(paths)
