"""Evaluates one flag with flagstore, as a cold Lambda function would: ``enabled`` or ``value``."""

import sys

import flagstore

flags = flagstore.client("prod")
print(getattr(flags, sys.argv[1])(sys.argv[2], {"key": "ada", "plan": "team", "country": "DE"}))
