"""Sync flag sets from providers to a store, when a webhook arrives or on a schedule."""
