"""OpenFeature and the providers' SDKs, served from a client's flags: one module each.

The flag set is still loaded in one read; the SDK's store lookups are served from memory.
"""
