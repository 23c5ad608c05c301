"""``levelhead.watch``: hooks see a stranger's loop, probes measure every 16th step, rules judge what was measured."""

from levelhead.doctor.watching.observer import watch

__all__ = ["watch"]
