"""Virtual machines: configuration, QEMU, life cycle, migration, cloud-init, console.

May import ``racimo.store``, ``racimo.model`` and ``racimo.errors``.
"""
