"""``littlefoot bench``: what models cost and what they get right, measured side by side in one run.

``runner`` starts a process for every model (``worker``, steered by ``process``) and makes them take turns;
``report`` is what comes out, and ``table``, ``page`` and ``compare`` show it.
"""
