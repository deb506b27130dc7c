"""Run the command line."""

from storesync.cli import doctor, inspect, publish, sources  # noqa: F401 - they add their commands
from storesync.cli.app import main, storesync

__all__ = ["storesync"]

if __name__ == "__main__":
    main()
