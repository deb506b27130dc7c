"""Evaluates one flag with flagstore, as a cold Lambda function would."""

import sys

import flagstore

flags = flagstore.client("prod")
print(flags.value(sys.argv[1], {"key": "ada", "plan": "team", "country": "DE"}))
