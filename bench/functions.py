"""The functions as they are deployed: our artefact, and what the stock builder makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from bench.harness import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SAM = REPOSITORY / ".venv-sam" / "bin"
STOCK = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  SyncFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Handler: storesync.sync.handler
      Runtime: python3.13
"""
"""The same function without a makefile: sam chooses its own builder for Python."""


def build(folder: Path, *, stock: bool) -> Path:
    """Build SyncFunction in a folder of its own with `sam build`; returns the artefact."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(REPOSITORY / "src", folder / "src", ignore=ignored)
    template = folder / "template.yaml"
    if stock:
        template.write_text(STOCK, encoding="utf-8")
    else:
        shutil.copy(REPOSITORY / "template.yaml", template)
    environment = {
        **os.environ,
        "PATH": f"{SAM}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SAM_CLI_TELEMETRY": "0",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    command = [str(SAM / "sam"), "build", "SyncFunction", "--no-cached", "--build-dir", "out"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return folder / "out" / "SyncFunction"
