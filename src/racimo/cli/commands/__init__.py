"""The commands, a file for each group.

Each asks the API through ``racimo.cli.session`` and hands back a view; imports nothing heavy, so that help is quick.
"""
