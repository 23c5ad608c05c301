"""Modules that take the place of their torch.nn namesakes."""
