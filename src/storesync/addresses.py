"""Where a connection may lead: judged by the address itself, after name resolution. Pure.

A name says nothing: whoever runs its DNS can let it lead into the network that a function is in,
and to another address at the next question. So what is judged is the address that is connected to.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from storesync.errors import ConfigurationError

type Address = IPv4Address | IPv6Address

_PRIVATE: Final = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",  # RFC 1918, as the next two
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # RFC 6598; AWS lets VPCs have these
        "127.0.0.0/8",
        "fc00::/7",  # RFC 4193
        "::1/128",
    )
)
_METADATA: Final = ip_network("fd00:ec2::/32")
"""AWS' own services on a machine; those on IPv4 are link-local."""
_NAT64: Final = ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last four bytes, as a VPC without IPv4 sees the internet."""
_GIVEN_OUT: Final = ip_network("2000::/3")
"""All of IPv6 that is given out for use on the internet (IANA's registry of its address space).
Beside it lie old ways to write an IPv4 address, such as ``::10.0.0.1``."""
_LAST_4_BYTES: Final = 0xFFFFFFFF


def check_address(host: str, text: str, *, allow_private: bool) -> None:
    """Refuse an address that a provider cannot have.

    Args:
        host: for the message.
        text: the address that *host* resolved to.
        allow_private: for a provider in one's own network.

    Raises:
        ConfigurationError: names host, address and remedy.
    """
    address = _inner(ip_address(text.partition("%")[0]))
    if _is_public(address):
        return
    if not _is_private(address):
        message = (
            f"{host} leads to {text}, where no provider can be (link-local, metadata or reserved): "
            f"check base_url and the DNS of that name"
        )
        raise ConfigurationError(message)
    if not allow_private:
        message = (
            f"{host} leads to {text}, a private address: if your provider is in your own network, "
            f'say "allow_private": true in the source'
        )
        raise ConfigurationError(message)


def _inner(address: Address) -> Address:
    """Return the IPv4 address within an IPv6 address that stands for one."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & _LAST_4_BYTES)
    return address if inner is None else inner


def _is_public(address: Address) -> bool:
    """Say whether the internet leads there: ``is_global`` alone is true of what nobody has."""
    if isinstance(address, IPv6Address) and address not in _GIVEN_OUT:
        return False
    return address.is_global and not address.is_multicast


def _is_private(address: Address) -> bool:
    in_ours = any(address in network for network in _PRIVATE)
    return in_ours and address not in _METADATA
