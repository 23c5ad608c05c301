"""Callbacks that watch the loops of other libraries: ``integrations.lightning.Watch``, ``integrations.transformers.Watch``.

Each needs its library, and is imported by its full name: ``from levelhead.integrations.lightning import Watch``.
"""
