"""One module a part of the table, each with ``measure(dose)``."""
