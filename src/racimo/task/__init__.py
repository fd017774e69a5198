"""Operations as typed data, their UPIDs, logs and locks.

May import ``racimo.store``, ``racimo.model`` and ``racimo.errors``.
"""
