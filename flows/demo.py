"""The main job on handwritten digits and a CLIP that has seen only print: minutes, offline."""

from tasks.demo import write_digits
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    LabelSpec,
    Phase2Spec,
    PoolSpec,
    RuntimeSpec,
    TopSpec,
)
from tasks.storage.uris import join

TEMPLATES = ("a photo of the {}.",)


def demo_spec(workspace: str, *, seed: int = 0, folder: str | None = None) -> CoftSpec:
    """Write the digits and return the run that adapts the printed-only CLIP.

    Args:
        workspace: Where results go.
        seed: Of every draw.
        folder: Where the digits go; in the workspace by default.
    """
    runtime = RuntimeSpec(workspace=workspace)
    images = write_digits(join(folder or join(runtime.workspace, "demo"), "digits.parquet"))
    return CoftSpec(
        pool=PoolSpec(images=images, labels="column"),
        backbone=BackboneSpec(name="embedded:glyph"),
        label=LabelSpec(templates=TEMPLATES, top=TopSpec(min_total=640)),
        phase2=Phase2Spec(learning_rate=3e-4),  # a tower of 0.8 M parameters takes larger steps
        seed=seed,
        flip=False,  # a mirrored digit is another sign, or none
        runtime=runtime,
        register_as="coft-demo",
        command="coft demo",
    )
