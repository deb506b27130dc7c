"""The command line for operators. Runs on their machine, and is no part of the functions.

``python -m storesync.cli``, or ``tools/storesync`` in a clone. docs/cli.md has every command.
"""
