"""This machine apart from guests: name servers, time zone, interfaces, disks, services, power, the API's certificate.

May import ``racimo.task``, ``racimo.model`` and ``racimo.errors``.
"""
