"""Take the address of a server."""

import socket

from tasks.specs import InputError


def listen(host: str, port: int) -> socket.socket:
    """Take an address before anything slow is done.

    Raises:
        InputError: somebody has it, or this machine does not.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        msg = f"cannot listen at {host} port {port} ({error.strerror or error})"
        raise InputError(f"{msg}; name another --host or --port") from error
    # Connections inherit it. asyncio sets it on those alone that name their protocol, as these do
    # not; without it the body of an answer waits 40 ms for the client to confirm the header.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
