"""Serves flags over HTTP to clients that only know a URL and a key: the stack's ServeFunction.

It reads with :mod:`flagstore`, and like it needs only the standard library.
"""
