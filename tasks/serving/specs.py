"""Settings of `coft serve`."""

from pydantic import Field

from tasks.specs import Spec


class ServeSpec(Spec):
    """How a model is served over HTTP, and how much is taken on at once."""

    host: str = Field("127.0.0.1", description="Address to listen at; 0.0.0.0 for all.")
    port: int = Field(8080, ge=0, le=65535, description="0 for any that is free.")
    device: str = Field("auto", description="'auto', 'cpu', 'cuda:1'.")
    llm: str | None = Field(
        None,
        description="Folder of the language model by which a model of `coft describe` speaks, "
        "unless it holds one; COFT_LLM.",
    )
    image_root: str | None = Field(
        None, description="Folder that `path` of a request may name files in; COFT_IMAGE_ROOT."
    )
    image_hosts: str | None = Field(
        None, description="Hosts that `url` of a request may name, by commas; COFT_IMAGE_HOSTS."
    )
    max_images: int = Field(
        256, gt=0, description="Images taken and not answered; beyond, 503 with Retry-After."
    )
    max_rows: int = Field(64, gt=0, description="Rows of one request.")
    max_request_bytes: int = Field(96 * 2**20, gt=0, description="Body of one request.")
    request_seconds: float = Field(
        60.0, gt=0, description="Time for a client to send the body of a request."
    )
    reload_seconds: float = Field(
        10.0, ge=0, description="How often to look where the alias points; 0 for never."
    )
    stop_seconds: int = Field(
        30, gt=0, description="After SIGTERM, time for what was taken to be answered."
    )
