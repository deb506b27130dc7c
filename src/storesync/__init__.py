"""storesync writes: from a provider's webhook to a flag set in the store."""
