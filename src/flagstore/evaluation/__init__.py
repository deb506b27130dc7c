"""What each provider's flags say of a context: pure Python, no I/O, one module a provider."""
