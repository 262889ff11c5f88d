"""The guard of tests refuses other machines, lets this one through, and tells."""

import socket
import urllib.request

import pytest


def test_guard_refuses_look_ups_and_connections(network_guard: object) -> None:
    with pytest.raises(OSError, match="no network in tests"):
        urllib.request.urlopen("http://example.org/", timeout=1)
    with socket.socket() as sock, pytest.raises(OSError, match=r"192\.0\.2\.77"):
        sock.connect(("192.0.2.77", 80))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError):  # noqa: PT011
        sock.sendto(b"", ("192.0.2.77", 53))
    assert network_guard.refused == ["example.org", "192.0.2.77", "192.0.2.77"]  # type: ignore[attr-defined]
    network_guard.refused.clear()  # type: ignore[attr-defined]


def test_guard_lets_loopback_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
