"""The client's IP address, also behind reverse proxies, normalized for limits per client."""

import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.types import Scope

NO_ADDRESS = "unknown"  # of a request without a network peer


def proxies() -> int:
    """Number of reverse proxies before this server: LIVE_NETS_PROXIES; by default 1 on a Space and 0 elsewhere.

    Exits with a message if the value is not a whole number from 0 to 9.
    """
    text = os.environ.get("LIVE_NETS_PROXIES", "1" if os.environ.get("SPACE_ID") else "0")
    if text not in map(str, range(10)):
        sys.exit(f"LIVE_NETS_PROXIES must be a whole number from 0 to 9, not {text!r}.")
    return int(text)


def of_scope(scope: Scope) -> str:
    """The address of the client that sent a request, given its ASGI scope."""
    peer = scope["client"][0] if scope.get("client") else NO_ADDRESS
    return behind_proxies(peer, Headers(scope=scope).getlist("x-forwarded-for"))


def behind_proxies(peer: str, forwarded: Sequence[str]) -> str:
    """The client's address, given the peer of the connection and all X-Forwarded-For lines.

    Each proxy appends the address of its peer, possibly as a separate line. Only the last `proxies()` entries were
    written by our proxies; the client may have forged the others.
    """
    count = proxies()
    entries = [part.strip() for line in forwarded for part in line.split(",") if part.strip()] if count else []
    return canonical(entries[-min(count, len(entries))] if entries else peer)


@lru_cache(1000)
def canonical(text: str) -> str:
    """Normalize an address, so that all addresses of one client are equal; other text is returned unchanged.

    An IPv4 address written as IPv6, `::ffff:192.0.2.1`, becomes IPv4. An IPv6 address becomes its /64 network, since
    a subscriber can use any address in it (RFC 6177, section 2). Brackets, ports and zones are removed.
    """
    bracketed = re.fullmatch(r"\[([^\]]*)\](:[0-9]+)?", text)
    host = bracketed[1] if bracketed else re.sub(r"^([0-9.]+):[0-9]+$", r"\1", text)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def is_loopback(host: str) -> bool:
    """Whether a host name, without port, means the machine itself: `localhost`, 127.0.0.1, ::1 and their variants."""
    name = host.rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
