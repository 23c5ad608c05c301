"""The operations: the maths and its fast forms."""
