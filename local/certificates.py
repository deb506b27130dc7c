"""TLS for servers on this machine, with certificates that trustme makes on the spot."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme

NAMES = ("127.0.0.1", "localhost")


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return the context of a server with this certificate and its chain."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def client_context(ca: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts only this authority."""
    return ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())


def bundle(ca: trustme.CA) -> bytes:
    """Return the system's authorities and this one as PEM, for AWS_CA_BUNDLE."""
    system = ssl.get_default_verify_paths().cafile
    return (Path(system).read_bytes() if system else b"") + ca.cert_pem.bytes()
