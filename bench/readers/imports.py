"""Imports flagstore, no more."""

import json  # noqa: F401 - as the bare interpreter does

import flagstore  # noqa: F401 - what is measured
