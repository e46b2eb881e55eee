"""Listening sockets, on host GRADIO_SERVER_NAME and port PORT.

uvicorn binds a single address and only logs an error if it cannot. Here all addresses of a host are bound, IPv4 and
IPv6, the next free port is used if none is set, and every problem ends the program with one sentence.
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

# Removed from the environment before gradio is imported: its import fails if one of the last four is not a number.
_settings = {
    variable: os.environ.pop(variable, "").strip()
    for variable in (
        *("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS"),
        *("GRADIO_NODE_SERVER_PORT", "GRADIO_NODE_NUM_PORTS"),
    )
}


def open_sockets() -> tuple[str, int, list[socket.socket]]:
    """The host in URL syntax, the port, and sockets that listen on them.

    Exits with a message if the server cannot listen on GRADIO_SERVER_NAME, PORT or GRADIO_SERVER_PORT.
    """
    name = _settings["GRADIO_SERVER_NAME"] or LOOPBACK
    host = name[1:-1] if name.startswith("[") and name.endswith("]") and ":" in name else name
    addresses, (variable, ports) = _addresses(name, host), wanted_ports()
    for port in ports:
        try:
            sockets = _listen(addresses, port)
        except OSError as error:
            if error.errno not in NOT_FREE:
                sys.exit(f"The server cannot listen on GRADIO_SERVER_NAME={name}, port {port}: {_reason(error)}.")
            reason = error
        else:
            return f"[{host}]" if ":" in host else host, port, sockets
    if len(ports) > 1:
        sys.exit(f"No port from {ports[0]} to {ports[-1]} is free at {name}: set PORT to a free port.")
    if reason.errno == errno.EACCES:
        sys.exit(f"{variable} must be a port that this user may listen on, such as {FIRST_PORT}, not {ports[0]}.")
    sys.exit(
        f"Port {ports[0]} is in use at {name}: stop the program that listens there, or set {variable} to another port."
    )


def wanted_ports() -> tuple[str, Sequence[int]]:
    """The environment variable that sets the port, and the ports to try: its value, or 7860 to 7959 without one.

    Exits with a message if the value is not a port.
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
    """All addresses of the host that can be bound: `localhost` may resolve to ::1 on a machine without IPv6."""
    must = f"GRADIO_SERVER_NAME must be an address or a name of this machine, such as 127.0.0.1 or ::, not {name!r}"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label of the name is empty or too long
        sys.exit(f"{must}: the name does not resolve.")
    addresses, reason = [], ""
    for address in dict.fromkeys(_unmapped(family, to) for family, _, _, _, to in found):
        try:
            _bind(*address).close()
        except OSError as error:
            reason = "this machine does not have that address" if error.errno in NOT_HERE else _reason(error)
        else:
            addresses.append(address)
    if not addresses:
        sys.exit(f"{must}: {reason}.")
    if addresses[0][1][0] == EVERY_IPV6:
        addresses.append((socket.AF_INET, (EVERY_IPV4, 0)))
    return addresses


def _unmapped(family: socket.AddressFamily, to: tuple[Any, ...]) -> Address:
    """The address, as IPv4 if it is an IPv4-mapped IPv6 address such as `::ffff:127.0.0.1`."""
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
    """A socket bound to an address, with the options that asyncio sets. Raises OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would share a port in use
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a separate socket: not every system supports one for both
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(to)
    except OSError:
        made.close()
        raise
    return made


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
