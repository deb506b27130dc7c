"""Evaluates one flag with flagstore, as the README's example does: ``enabled`` or ``value``."""

import phases  # isort: skip - begins to count

import sys

import flagstore

flags = flagstore.client("prod", ttl_s=float(sys.argv[3]))


kind, key, _ = sys.argv[1:]
context = {"key": "ada", "plan": "team", "country": "DE"}

phases.serve(lambda: getattr(flags.for_context(context), kind)(key), lambda: bool(flags.health()))
