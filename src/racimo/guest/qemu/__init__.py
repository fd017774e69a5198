"""Driving QEMU: acceleration, command line, monitor."""
