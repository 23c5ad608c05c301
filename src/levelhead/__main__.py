"""``python -m levelhead``: the ``levelhead`` command."""

from levelhead.cli import main

if __name__ == "__main__":
    main()
