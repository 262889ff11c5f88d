"""The token that Ray sends to a cluster, looked up where Ray looks, without importing Ray."""

import os
from pathlib import Path

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
VARIABLES = (MODE, TOKEN, TOKEN_PATH)


class NoToken(RuntimeError):
    """Ray is told to send a token, and there is none. The message says where it was looked for."""


def sent(*, automatic: bool) -> str | None:
    """Return the token that Ray sends to a cluster that runs; None where it sends none.

    Args:
        automatic: Whether Ray finds the cluster itself (`auto`): to that one it also sends a token
            that it was not told to send.

    Raises:
        NoToken: there is none, and Ray would stop for that.
    """
    mode = os.environ.get(MODE)
    if mode is not None and mode.lower() != "token":
        return None
    if mode is None and not automatic:
        return None
    token = _find()
    if mode is not None and token is None:
        raise NoToken(f"{MODE}={mode}, but this process has no token")
    return token


def _find() -> str | None:
    if token := os.environ.get(TOKEN, "").strip():
        return token
    if named := os.environ.get(TOKEN_PATH):
        try:
            if token := Path(named).read_text().strip():
                return token
        except OSError as error:
            raise NoToken(f"{TOKEN_PATH}: no token can be read ({error})") from error
        raise NoToken(f"{TOKEN_PATH}: {named} is empty")
    usual = Path.home() / ".ray" / "auth_token"
    return (usual.read_text().strip() or None) if usual.is_file() else None
