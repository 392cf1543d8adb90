"""Measure the errors and costs of models side by side in one run.

``runner`` starts a process for every model (``worker``, controlled by ``process``) and runs them in turn.
``report`` is the result, and ``table``, ``page`` and ``compare`` show it.
"""
