"""TLS for servers on this machine: an authority and its certificates, made on the spot by trustme.

A certificate that a client must accept, and four ways to be refused or to take a longer chain::

    ca = trustme.CA()
    ca.issue_cert(*NAMES)
    ca.create_child_ca().issue_cert(*NAMES)     # through an intermediate authority
    ca.issue_cert("elsewhere.example")          # another name
    ca.issue_cert(*NAMES, not_after=EXPIRED)
    trustme.CA().issue_cert(*NAMES)             # an authority that nobody trusts

``server_context`` serves with any of them.
"""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme

NAMES = ("127.0.0.1", "localhost")
EXPIRED = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
"""Trustme's certificates are valid since 2000."""


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return the context of a server that shows this certificate and its chain."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def client_context(ca: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts this authority and no other."""
    return ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())


def bundle(ca: trustme.CA) -> bytes:
    """Return the system's authorities and this one, as PEM: what AWS_CA_BUNDLE replaces."""
    system = ssl.get_default_verify_paths().cafile
    return (Path(system).read_bytes() if system else b"") + ca.cert_pem.bytes()
