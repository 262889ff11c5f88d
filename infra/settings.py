"""Addresses and folders, read from the environment."""

from pydantic import AliasChoices, ByteSize, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Defaults of the command line: `COFT_*`, and the variables of Ray, Prefect and MLflow.

    An empty variable counts as absent, so that `PREFECT_API_URL= coft adapt ...` runs locally.
    """

    model_config = SettingsConfigDict(
        env_prefix="COFT_", env_ignore_empty=True, frozen=True, populate_by_name=True
    )

    workspace: str = Field("coft-workspace", description="Folder or fsspec URI of all results.")
    ray_address: str | None = Field(
        None,
        validation_alias=AliasChoices("COFT_RAY_ADDRESS", "RAY_ADDRESS"),
        description="A cluster to join, such as 'auto'; absent, Ray starts in the process.",
    )
    num_actors: int | None = Field(None, gt=0, description="Embedding actors; default by device.")
    num_gpus: float = Field(0, ge=0, description="GPUs of each actor; fractions share one.")
    pixel_cache: ByteSize | None = Field(
        None, description="Disk of each machine for decoded images; default a quarter of it."
    )
    endpoint_key: SecretStr | None = Field(
        None, description="Key to the language model that `--endpoint` names."
    )
    database_url: SecretStr | None = Field(
        None, description="A PostgreSQL for the servers of `make up`; absent, SQLite."
    )
    prefect_port: int = Field(4200, description="Of the Prefect server of `make up`.")
    mlflow_port: int = Field(5000, description="Of the MLflow server of `make up`.")
    prefect_api_url: str | None = Field(
        None,
        validation_alias="PREFECT_API_URL",
        description="A Prefect server; absent, Prefect starts one for the run.",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        validation_alias="MLFLOW_TRACKING_URI",
        description="An MLflow server or database; absent, SQLite in the workspace.",
    )
    mlflow_registry_uri: str | None = Field(
        None,
        validation_alias="MLFLOW_REGISTRY_URI",
        description="A server of registered models; absent, they are kept with the runs.",
    )
