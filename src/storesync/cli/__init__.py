"""The ``storesync`` command line for operators. Runs on their machines, never in the functions.

``python -m storesync.cli``, or ``tools/storesync`` in a clone. docs/cli.md describes every command.
"""
