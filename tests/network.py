"""The ways out of this machine, shut: what a test calls in vain, and which names it asked for."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest


class NetworkRefused(OSError):
    """A test tried to leave this machine."""


class Doors:
    """The ways out of a Python process; each refuses what is not this machine, and remembers it."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._names = {"localhost", "", socket.gethostname(), socket.getfqdn()}

    def check(self, host: object) -> None:
        """Raise unless the host is this machine.

        Raises:
            NetworkRefused: for any other name or address.
        """
        text = host.decode() if isinstance(host, bytes) else str(host or "")
        if text not in self._names and not _is_own_address(text):
            self.refused.append(text)
            raise NetworkRefused(f"no network in tests: {text}; use a local file or memory://")

    def check_address(self, sock: socket.socket, address: object) -> None:
        """Check where a socket goes; a Unix socket goes nowhere.

        Raises:
            NetworkRefused: for any other machine.
        """
        if sock.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            self.check(address[0])

    def shut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the checks before the four calls that everything in Python goes through."""
        connect, send, look_up = socket.socket.connect, socket.socket.sendto, socket.getaddrinfo
        connect_ex = socket.socket.connect_ex

        def checked_connect(sock: socket.socket, address: Any) -> None:
            # A datagram socket sends nothing when it connects; that is how to ask for a route.
            if sock.type != socket.SOCK_DGRAM:
                self.check_address(sock, address)
            connect(sock, address)

        def checked_connect_ex(sock: socket.socket, address: Any) -> int:
            self.check_address(sock, address)
            return connect_ex(sock, address)

        def checked_send(sock: socket.socket, data: bytes, *rest: Any) -> int:
            self.check_address(sock, rest[-1])
            return send(sock, data, *rest)

        def checked_look_up(host: Any, *rest: Any, **options: Any) -> Any:
            self.check(host)
            return look_up(host, *rest, **options)

        monkeypatch.setattr(socket.socket, "connect", checked_connect)
        monkeypatch.setattr(socket.socket, "connect_ex", checked_connect_ex)
        monkeypatch.setattr(socket.socket, "sendto", checked_send)
        monkeypatch.setattr(socket, "getaddrinfo", checked_look_up)


def _is_own_address(text: str) -> bool:
    """Return whether an address is loopback, unspecified, or one that can be bound here."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError:
            return False
    return True
