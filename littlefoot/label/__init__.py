"""Label archives with many processes, any of which may be killed.

A ``job`` is divided into shards. A ``worker`` transcribes the recordings of a shard; ``local`` runs workers
on this machine and ``cluster`` on Ray. ``output`` is the directory of the finished shards, and ``run``
combines these parts. Only the driver writes, and a shard is complete or absent.
"""
