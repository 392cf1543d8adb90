"""``littlefoot label``: archives to pseudo-labels, by many processes that may die.

A ``job`` is cut into shards; a ``worker`` hears the recordings of one; ``local`` runs workers on this
machine and ``cluster`` on Ray; ``output`` is the directory that finished shards go to, and ``run`` brings
them together. Only the driver writes, a shard whole or not at all.
"""
