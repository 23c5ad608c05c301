"""``python -m levelhead``: the ``levelhead`` command."""

from levelhead.cli import main

main()
