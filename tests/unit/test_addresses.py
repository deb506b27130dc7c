"""Which addresses a provider may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storesync.addresses import check_address
from storesync.errors import ConfigurationError

if TYPE_CHECKING:
    import ipaddress

PUBLIC = [
    "8.8.8.8",
    "151.101.1.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",  # how a VPC without IPv4 sees it
    "2002:808:808::1",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:a00:1::1",
]
NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "0.0.0.0",  # noqa: S104 - nobody binds to it here
    "::",
    "224.0.0.1",
    "ff02::1",
    "ff0e::1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "2001:db8::1",
    "2001::1",  # Teredo: an address within that nobody can trust
    "::169.254.169.254",  # IPv4-compatible and IPv4-translated: withdrawn, and global to Python
    "::10.0.0.1",
    "::ffff:0:169.254.169.254",
    "fec0::1",  # site-local, withdrawn as well
    "5f00::1",  # within one network's segment routing
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    """With and without the permission for private ones."""
    check_address("flags.example.com", address, allow_private=False)
    check_address("flags.example.com", address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_a_permission(address: str) -> None:
    """The message names host, address and the field to set."""
    check_address("flags.example.com", address, allow_private=True)
    with pytest.raises(ConfigurationError, match=r'"allow_private": true') as caught:
        check_address("flags.example.com", address, allow_private=False)
    assert f"flags.example.com leads to {address}" in str(caught.value)


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("allow_private", [False, True])
def test_other_addresses_never_pass(address: str, *, allow_private: bool) -> None:
    """Nothing allows link-local, metadata, multicast, unspecified and reserved addresses."""
    with pytest.raises(ConfigurationError, match="no provider can be"):
        check_address("flags.example.com", address, allow_private=allow_private)


@given(st.ip_addresses())
def test_every_address_is_judged(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """What passes without permission passes with it, and no other error is raised."""

    def passes(*, allow_private: bool) -> bool:
        try:
            check_address("host", str(address), allow_private=allow_private)
        except ConfigurationError:
            return False
        return True

    assert passes(allow_private=False) <= passes(allow_private=True)
    if not address.is_global:
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        assert not passes(allow_private=False) or inner is not None
