"""How long the drivers of buckets wait for a server, and how often they ask again.

What a driver does by itself: s3fs tries five times what botocore tried five times, and gcsfs six
times with five minutes each. A server that accepts a request and never answers would be waited for
for twenty minutes an image, or ninety.
"""

import logging
import os
from importlib import import_module
from typing import Any

from fsspec.config import conf

CONNECT_SECONDS = 5  # for a connection
READ_SECONDS = 10  # for the next bytes, not for all of an object
S3_ATTEMPTS = 3  # of botocore, with jitter
S3_ROUNDS = 2  # of these attempts, by s3fs: also where a connection breaks in the middle of a body
_NAMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}


def waits(uri: str) -> dict[str, Any]:
    """Return the settings of a URI's driver; nothing that the user set elsewhere is among them."""
    name = _NAMES.get(uri.partition("://")[0], "")
    said = {key for scheme, of in _NAMES.items() if of == name for key in conf.get(scheme, {})}
    settings: dict[str, Any] = {}
    if name == "s3" and "AWS_MAX_ATTEMPTS" not in os.environ:
        retries = {"total_max_attempts": S3_ATTEMPTS}
        seconds = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
        settings = {"config_kwargs": {"retries": retries, **seconds}}
    if name == "gs":
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints what it raises as well
        with_limits = import_module("aiohttp").ClientTimeout  # comes with gcsfs
        limits = with_limits(sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        settings = {"requests_timeout": limits}
    if name == "az":
        settings = {"connection_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
    return {key: value for key, value in settings.items() if key not in said}


def limit_rounds(filesystem: Any) -> None:
    """Let s3fs try what botocore gave up no more often than `S3_ROUNDS`; it has no setting."""
    if "s3" in filesystem.protocol:
        filesystem.retries = min(filesystem.retries, S3_ROUNDS)
