"""Where the server listens: GRADIO_SERVER_NAME and PORT.

Gradio would look at an IPv4 address for whether a port is free, and report everything else that is wrong with a name
or a port as "Cannot find empty port". Here the sockets are opened first, and Gradio is given a server that has them.
"""

import errno
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Sequence
from typing import Any

LOOPBACK, EVERY_IPV6, EVERY_IPV4 = "127.0.0.1", "::", "0.0.0.0"  # noqa: S104
FIRST_PORT, PORTS = 7860, 100
NOT_FREE = (errno.EADDRINUSE, errno.EACCES)  # EACCES: Windows reserves ranges of ports, Unix those below 1024
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Address = tuple[socket.AddressFamily, tuple[Any, ...]]  # as socket.bind takes it, with any port

# Taken out of the environment before gradio is imported, which makes numbers of all but the first, and fails.
_settings = {
    variable: os.environ.pop(variable, "").strip()
    for variable in (
        *("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS"),
        *("GRADIO_NODE_SERVER_PORT", "GRADIO_NODE_NUM_PORTS"),
    )
}


def opened() -> tuple[str, int, list[socket.socket]]:
    """The host as in a URL, the port, and the sockets that listen there.

    Ends the program with a sentence for a GRADIO_SERVER_NAME, PORT or GRADIO_SERVER_PORT where it cannot listen.
    """
    name = _settings["GRADIO_SERVER_NAME"] or LOOPBACK
    host = name[1:-1] if name.startswith("[") and name.endswith("]") and ":" in name else name
    addresses, (variable, ports) = _addresses(name, host), wanted_ports()
    for port in ports:
        try:
            sockets = _listen(addresses, port)
        except OSError as error:
            if error.errno not in NOT_FREE:
                sys.exit(f"The server cannot listen at GRADIO_SERVER_NAME={name}, port {port}: {_reason(error)}.")
            reason = error
        else:
            return f"[{host}]" if ":" in host else host, port, sockets
    if len(ports) > 1:
        sys.exit(f"No port from {ports[0]} to {ports[-1]} is free at {name}: set PORT to one that is.")
    if reason.errno == errno.EACCES:
        sys.exit(f"{variable} must be a port that this account may listen at, such as {FIRST_PORT}, not {ports[0]}.")
    sys.exit(f"Port {ports[0]} is taken at {name}: end what listens there, or set {variable} to another.")


def wanted_ports() -> tuple[str, Sequence[int]]:
    """The variable that names the port, and the port; without one, 7860 and the 99 after it.

    Ends the program for a value that is no port.
    """
    for variable, text in (
        ("PORT", os.environ.get("PORT", "").strip()),
        ("GRADIO_SERVER_PORT", _settings["GRADIO_SERVER_PORT"]),
    ):
        if text:
            if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
                sys.exit(f"{variable} must be a whole number from 1 to 65535, not {text!r}.")
            return variable, [int(text)]
    return "PORT", range(FIRST_PORT, FIRST_PORT + PORTS)


def _addresses(name: str, host: str) -> list[Address]:
    """All addresses of the host that this machine has: `localhost`, say, may be known as ::1 where there is no IPv6."""
    must = f"GRADIO_SERVER_NAME must be an address or a name of this machine, such as 127.0.0.1 or ::, not {name!r}"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError for a name with a label that is empty or too long
        sys.exit(f"{must}: nothing has that name.")
    addresses, reason = [], ""
    for address in dict.fromkeys(_unmapped(family, to) for family, _, _, _, to in found):
        try:
            _bind(*address).close()
        except OSError as error:
            reason = "it is not one of this machine's" if error.errno in NOT_HERE else _reason(error)
        else:
            addresses.append(address)
    if not addresses:
        sys.exit(f"{must}: {reason}.")
    if addresses[0][1][0] == EVERY_IPV6:
        addresses.append((socket.AF_INET, (EVERY_IPV4, 0)))
    return addresses


def _unmapped(family: socket.AddressFamily, to: tuple[Any, ...]) -> Address:
    """The address, without the notation as IPv6 if it is one of IPv4, `::ffff:127.0.0.1`."""
    if family == socket.AF_INET6:
        mapped = ipaddress.IPv6Address(to[0].partition("%")[0]).ipv4_mapped
        if mapped is not None:
            return socket.AF_INET, (str(mapped), *to[1:2])
    return family, to


def _listen(addresses: Sequence[Address], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, (host, _, *rest) in addresses:
            sockets.append(_bind(family, (host, port, *rest)))
            sockets[-1].listen()
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def _bind(family: socket.AddressFamily, to: tuple[Any, ...]) -> socket.socket:
    """A socket at an address, with the options that asyncio sets. Raises OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would share a port that is taken
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has its own socket: not every system lets one have both
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(to)
    except OSError:
        made.close()
        raise
    return made


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
