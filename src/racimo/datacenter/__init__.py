"""Create, join, leave, voters, witness, certificates, backup and recovery of the store.

May import ``racimo.store``, ``racimo.model`` and ``racimo.errors``.
"""
