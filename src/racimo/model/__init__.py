"""The nouns of the datacenter as frozen records: node, guest, storage, HA resource, lock, job.

No I/O and no clock. Imports nothing of Racimo but ``racimo.errors``.
"""
