"""The jobs on data that ships with coft: handwritten digits; digits in four modalities."""

from tasks.demo import write_digits
from tasks.harmony.digits import write as modalities
from tasks.harmony.specs import BeginSpec, CompareSpec, StageSpec
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


def harmony_specs(workspace: str, *, seed: int = 0) -> tuple[list[StageSpec], CompareSpec]:
    """Write the digits in four modalities; return the stages that learn them, and what compares.

    Args:
        workspace: Where results go.
        seed: Of every draw of the stages; the comparison has seeds of its own.
    """
    runtime = RuntimeSpec(workspace=workspace)
    data = modalities.write_digits(join(runtime.workspace, "demo"))
    state = join(runtime.workspace, "demo", f"digits-{seed}")
    stages = [
        StageSpec(
            state=state,
            modality=name,
            embeddings=data,
            tests=(data,),
            backbone=BackboneSpec(name="embedded:glyph") if not place else None,
            begin=BeginSpec(template="digit {}"),
            seed=seed,
            runtime=runtime,
            command="coft demo --harmony",
        )
        for place, name in enumerate(modalities.MODALITIES)
    ]
    methods = ("harmony", "sequential", "adapters", "lwf-adapters", "replay-20-adapters")
    compared = CompareSpec(state=state, data=data, methods=methods, seeds=3, runtime=runtime)
    return stages, compared
