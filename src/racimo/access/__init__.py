"""Access control: who may do what (``permissions``: pure), who somebody is (``tickets``, ``logins``, ``realms``), and
the records of users, groups, roles, ACL, pools and tokens.

May import model, store, task and errors.
"""
