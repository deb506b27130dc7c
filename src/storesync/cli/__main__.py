"""Run the command line."""

from storesync.cli.app import main

if __name__ == "__main__":
    main()
