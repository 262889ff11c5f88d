"""Buckets of Google and Azure on this machine, in servers of their protocols: `make buckets`."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.worlds.served import free_port

PACKAGES = os.environ.get("BUCKETS_FOLDER", "")  # where `make buckets` put drivers and servers
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def absent(scheme: str) -> str:
    """Return why there are no buckets of a scheme here, or nothing."""
    if not PACKAGES:
        return "no drivers and servers of other buckets here: make buckets"
    if scheme == "az" and not shutil.which("azurite-blob", path=f"{PACKAGES}/node_modules/.bin"):
        return "Azure's emulator needs npm"
    return ""


@contextmanager
def bucket_of(scheme: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """Start the server of a scheme; yield the variables by which its driver finds it."""
    port = free_port()
    servers = {"gs": _google, "az": _azure}
    command, variables = servers[scheme](port, folder)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield variables
    finally:
        process.terminate()
        process.wait(10)


def _google(port: int, _: Path) -> tuple[Sequence[str], Mapping[str, str]]:
    code = (
        f"import sys; sys.path.append({PACKAGES!r}); from gcp_storage_emulator.__main__ import main"
    )
    command = [sys.executable, "-c", f"{code}; sys.exit(main())", "start", "--in-memory"]
    variables = {
        "STORAGE_EMULATOR_HOST": f"http://localhost:{port}",
        # The driver asks a real server of Google's what kind of bucket it is.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    return [*command, "--port", str(port)], variables


def _azure(port: int, folder: Path) -> tuple[Sequence[str], Mapping[str, str]]:
    command = [f"{PACKAGES}/node_modules/.bin/azurite-blob", "--disableTelemetry", "--silent"]
    options = ["--skipApiVersionCheck", "--location", str(folder), "--blobPort", str(port)]
    account = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY}"
    address = f"BlobEndpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
    return [*command, *options], {"AZURE_STORAGE_CONNECTION_STRING": f"{account};{address}"}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, "the server ended"
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError
