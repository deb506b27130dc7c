"""Run the command line."""

from storesync.cli import (  # noqa: F401 - they add their commands
    clients,
    doctor,
    inspect,
    publish,
    sources,
    ui,
    usage,
)
from storesync.cli.app import storesync
from storesync.telemetry import logger

if __name__ == "__main__":
    logger().setLevel("CRITICAL")  # log lines are for the functions: commands print what they find
    storesync(prog_name="storesync")
