"""Callbacks that watch the loops of other libraries; each needs its library.

``from levelhead.integrations.lightning import Watch``, or ``from levelhead.integrations.transformers import Watch``.
"""
