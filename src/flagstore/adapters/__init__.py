"""OpenFeature and the providers' own SDKs on a client's flags: one module each.

The flag set is still loaded in one read; the SDK's store look-ups are served from memory.
"""
