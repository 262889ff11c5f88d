"""A bucket on a real server of S3's protocol, on this machine."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest

from tasks.storage.uris import open_filesystem


@contextmanager
def s3_bucket(name: str) -> Iterator[str]:
    """Start a server with one bucket, and yield its URI; its address is in the environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # which logs each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with pytest.MonkeyPatch.context() as environment:
            for variable, value in variables.items():
                environment.setenv(variable, value)
            # A file system is kept whatever the environment says: also that of a server which is
            # gone. What the servers hold is kept by the process.
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            uri = f"s3://{name}"
            filesystem, path = open_filesystem(uri)
            filesystem.mkdir(path)
            yield uri
            filesystem.rm(path, recursive=True)
    finally:
        server.stop()
