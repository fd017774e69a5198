"""`racimo simulate`: the real HA code on simulated clocks, networks, disks and hosts: one seed, one history.

The parts that are simulated are few: the loop's time, the network, the quorum of the store, hosts and their guests.
Everything that decides is the code that runs on servers. Imports of HA, the store and the model alone.
"""
