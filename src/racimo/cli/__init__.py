"""The command line: a thin client of the API.

May import ``racimo.api``'s client and below; talks to a node only through the API.
"""
