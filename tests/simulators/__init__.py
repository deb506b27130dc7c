"""Stand-ins for what tests cannot have: providers, stores, clocks, schedules."""
