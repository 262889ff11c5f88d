"""What the steps of `coft describe` hand on."""

from pydantic import Field

from tasks.refs import Ref


class VisionRef(Ref):
    """`weights.safetensors`: a vision system that was learned beside a language model."""

    facts: dict[str, float] = Field(default_factory=dict, description="What was measured.")
    num_left_out: int = Field(0, ge=0, description="Labels that it did not learn from.")


class CaptionsRef(Ref):
    """`part-*.parquet` of (image_id, uri, split, caption, ...): schema `CAPTIONS`."""

    num_differing: int = Field(0, ge=0, description="Images that the classifier calls otherwise.")
