"""Create, join, leave, voters, witness, certificates, backup and recovery of the store.

``DatacenterService`` (service.py) is the door; the other files are one step or one noun each.
May import ``racimo.store``, ``racimo.task``, ``racimo.model`` and ``racimo.errors``.
"""
