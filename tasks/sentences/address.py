"""Where a language model answers, and the key to it; checked without a library of HTTP."""

from urllib.parse import urlsplit

from infra.settings import Settings
from tasks.specs import EndpointSpec, InputError
from tasks.storage.uris import redact

LOOPBACK = ("localhost", "127.0.0.1", "::1")
KEY = "COFT_ENDPOINT_KEY"


def check_endpoint(spec: EndpointSpec) -> str:
    """Return the key to an endpoint, empty where the environment has none.

    Raises:
        InputError: the address is none, holds a secret, or would carry the key unencrypted.
    """
    place = f"--endpoint {redact(spec.url)[:200]}"
    try:
        parts = urlsplit(spec.url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{place}: {error}; write https://host/v1") from error
    if parts.scheme not in ("http", "https") or not host or port == 0 or not _is_plain(spec.url):
        raise InputError(f"{place}: expected the base of an API, such as https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        msg = f"{place}: expected an address without user, question mark and #, which is written "
        raise InputError(f"{msg}into reports; give the key in {KEY}")
    key = _key()
    if key and parts.scheme == "http" and host not in LOOPBACK:
        msg = f"{place}: {KEY} would be sent to it unencrypted; write https://, or unset it"
        raise InputError(msg)
    return key


def _key() -> str:
    secret = Settings().endpoint_key
    key = secret.get_secret_value().strip() if secret else ""
    if not key.isascii() or not key.isprintable():
        raise InputError(f"{KEY}: expected a key in plain letters, digits and signs; copy it again")
    return key


def _is_plain(url: str) -> bool:
    return url.isprintable() and not set(url) & set(" \\<>\"'`{}|^")
