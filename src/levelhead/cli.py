"""The command line: arguments only."""


def main() -> None:
    """Run the ``levelhead`` command."""
