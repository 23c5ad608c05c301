"""Callbacks that watch the loops of other libraries; each needs its library and is imported by its full name:
``from levelhead.integrations.lightning import Watch``, ``from levelhead.integrations.transformers import Watch``.
"""
