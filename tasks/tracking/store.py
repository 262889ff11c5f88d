"""The MLflow store: the database of the workspace, or a server that the environment names."""

import functools
import logging
import os
import threading
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from infra import offline
from infra.settings import Settings
from tasks.specs import InputError, Spec
from tasks.storage.uris import is_local, local_path
from tasks.tracking.database import (
    SQLITE,
    check_database,
    lock_of,
    make_database,
    unreadable,
)
from tasks.tracking.moved import follow
from tasks.tracking.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "coft"  # of the runs of flows

DATABASE = "mlflow.db"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_PATIENCE = 5.0  # seconds for a server to answer; MLflow itself would wait for minutes

_opening = threading.RLock()  # a run is begun while the store is opened in the background

logger = logging.getLogger(__name__)


class Tracking(Spec):
    """An MLflow store, and where its experiments keep their files."""

    uri: str = Field(repr=False)  # may hold a password
    artifacts: str | None = Field(None, description="Of new experiments; None: the server decides.")
    home: str | None = Field(None, description="Folder of this machine, for what belongs to runs.")
    note: str = Field("", description="Where runs go, as a sentence for people.")

    def follow_move(self) -> None:
        """Where the database is the workspace's own, let it name the files that lie beside it."""
        if self.home is None or self.artifacts is None or not self.uri.startswith(SQLITE):
            return
        database = Path(self.uri.removeprefix(SQLITE)).absolute()
        if database == Path(self.home) / DATABASE and database.exists():
            follow(database, EXPERIMENT, self.artifacts)


def tracking_for(workspace: str) -> Tracking:
    """Choose the store of a workspace, without opening or creating anything.

    `MLFLOW_TRACKING_URI` takes precedence. Otherwise a local workspace keeps its runs in its own
    `mlflow.db` and `artifacts/`. A bucket cannot hold a database, so its runs go to this machine's
    data folder (`~/.local/share/coft`), where only this machine sees them; the note says so.

    Args:
        workspace: Folder or bucket URI.

    Raises:
        InputError: no URL can name a database in this folder.
    """
    home = local_path(workspace).absolute() if is_local(workspace) else _data_home()
    if uri := Settings().mlflow_tracking_uri:
        artifacts = _folder_uri(home) if uri.startswith(_DATABASES) else None
        note = f"MLflow runs go to {redact(uri)}"
        return Tracking(uri=uri, artifacts=artifacts, home=str(home), note=note)
    if "?" in str(home):
        msg = f"{home}: a workspace may not have a '?' in its path, which ends the name of a"
        raise InputError(f"{msg} database; name another --workspace")
    note = f"MLflow runs go to {home / DATABASE}"
    if not is_local(workspace):
        note += (
            f", because the bucket {redact(workspace)} cannot hold a database; set"
            " MLFLOW_TRACKING_URI to a server, so that other machines see and continue these runs"
        )
    uri = f"sqlite:///{home / DATABASE}"
    return Tracking(uri=uri, artifacts=_folder_uri(home), home=str(home), note=note)


def check_reachable(tracking: Tracking) -> None:
    """Raise InputError when the store is a server that does not answer within seconds."""
    if not tracking.uri.startswith(("http://", "https://")):
        return
    url = f"{tracking.uri.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(_without_user(url), timeout=_PATIENCE):  # noqa: S310 # http only
            return
    except urllib.error.HTTPError as error:
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return  # it answers; the first real request tells about permissions
        reason: object = error
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
    msg = (
        f"the MLflow server {redact(tracking.uri)} does not answer ({reason}); start it, or unset"
        " MLFLOW_TRACKING_URI to keep runs in the workspace"
    )
    raise InputError(msg)


@functools.cache
def connect(tracking: Tracking) -> "MlflowClient":
    """Open the store, once in each process; a new database gets its tables.

    Raises:
        InputError: the folder cannot be written, the server does not answer, or MLflow refuses
            the URI.
    """
    check_reachable(tracking)
    _make_folder(tracking.uri)
    tracking.follow_move()
    offline.apply()
    with _opening:
        return _open(tracking)


def _open(tracking: Tracking) -> "MlflowClient":
    # Imported here: it takes seconds, and the switches must be set before.
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    for name in ("mlflow", "alembic"):  # they log each migration of a new database
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # it raises what it logs
    try:
        check_database(tracking.uri)
        make_database(tracking.uri, MlflowClient)
        client = MlflowClient(tracking.uri, registry_uri(tracking))
        for experiment in client.search_experiments(max_results=1):  # a table may be lost
            client.search_runs([experiment.experiment_id], max_results=1)
    except MlflowException as error:
        if isinstance(error.__context__, SQLAlchemyError):
            raise unreadable(tracking.uri, error.message) from error
        msg = f"MLflow cannot use {redact(tracking.uri)}: {redact(error.message)}"
        raise InputError(msg) from error
    except SQLAlchemyError as error:
        raise unreadable(tracking.uri, str(error)) from error
    logger.info(tracking.note)
    return client


def alone(tracking: Tracking) -> AbstractContextManager[object]:
    """Return a block in which no other process of this workspace is, as far as its disk has locks.

    For what is first looked for and then made.
    """
    return nullcontext() if tracking.home is None else lock_of(Path(tracking.home) / DATABASE)


def registry_uri(tracking: Tracking) -> str:
    """Return where models are registered: beside the runs, unless `MLFLOW_REGISTRY_URI` is set."""
    return Settings().mlflow_registry_uri or tracking.uri


def _make_folder(uri: str) -> None:
    if not uri.startswith(SQLITE):
        return
    folder = Path(uri.removeprefix(SQLITE)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make {folder} for the MLflow database ({error.strerror}); name a workspace"
        raise InputError(f"{msg} that you may write to") from error
    if not os.access(folder, os.W_OK):
        msg = f"cannot write the MLflow database to {folder}; name a workspace that you may write"
        raise InputError(msg)


def _data_home() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "coft"


def _folder_uri(home: Path) -> str:
    return (home / "artifacts").as_uri()


def _without_user(url: str) -> str:
    # urllib takes "user:password@host" for a host name.
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
