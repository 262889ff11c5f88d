"""The commands that adapt CLIP to images and use what came of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import (
    About,
    Backbone,
    Images,
    Register,
    RowsPerShard,
    Seed,
    Summary,
    Where,
    Workspace,
    conclude,
    default_of,
    given,
    name_from,
    workspace_of,
)
from tasks.on_demand import OnDemand
from tasks.refs import RunSummary
from tasks.specs import BackboneSpec, CoftSpec, Method, Phase2Spec, PoolSpec, RuntimeSpec

if TYPE_CHECKING:
    from flows import coft
    from flows import demo as demo_flow
    from flows import embed as embed_flow
    from flows import predict as predict_flow
    from tasks import backbone as backbones
    from tasks import startup
    from tasks.answers import given as answers_given
    from tasks.pool import true_labels
    from tasks.tracking import registry_model, versions
else:
    backbones, startup = OnDemand("tasks.backbone"), OnDemand("tasks.startup")
    answers_given = OnDemand("tasks.answers.given")
    true_labels = OnDemand("tasks.pool.true_labels")
    registry_model = OnDemand("tasks.tracking.registry_model")
    versions = OnDemand("tasks.tracking.versions")
    coft, demo_flow = OnDemand("flows.coft"), OnDemand("flows.demo")
    embed_flow, predict_flow = OnDemand("flows.embed"), OnDemand("flows.predict")


def adapt(
    about: About,
    *,
    method: Method = default_of(CoftSpec, "method"),
    answers: Annotated[
        str | None,
        Parameter(help="Labels to learn from: a file of answers, or a folder of rounds."),
    ] = None,
    phase2: Annotated[Phase2Spec, Parameter(group="Phase II", negative="")] = Phase2Spec(),
    register: Register = None,
    where: Where = Where(),
) -> None:
    """Adapt CLIP to a folder or bucket of images, without labels or with a few: the main job.

    The same command goes on where a killed one stopped, and computes nothing twice.
    """
    name = versions.check_name(register or name_from(about.images, otherwise="coft"))
    answers_given.check_answers(answers, method)
    spec = about.spec(where, method=method, phase2=phase2, register_as=name, answers=answers)
    startup.begin(spec.runtime, "flows.coft")
    _conclude(coft.coft(spec), where.summary)


def embed(
    *,
    images: Images,
    backbone: Backbone = default_of(BackboneSpec, "name"),
    rows_per_shard: RowsPerShard = None,
    where: Where = Where(),
) -> None:
    """Write the features of every image to Parquet, and nothing else."""
    pool = _pool(images, rows_per_shard)
    backbones.check_backbone(backbone)
    spec = CoftSpec(pool=pool, backbone=BackboneSpec(name=backbone), runtime=where.runtime)
    startup.begin(spec.runtime, "flows.embed", tracked=False)
    embeddings = embed_flow.embed(spec)
    line = f"{embeddings.rows:,} embeddings of {embeddings.dim} dimensions in {embeddings.uri}"
    conclude(where.summary, embeddings.model_dump(mode="json"), [line])


def predict(
    *,
    model: Annotated[str, Parameter(help="models:/NAME@champion, models:/NAME/3, or a folder.")],
    images: Images,
    rows_per_shard: RowsPerShard = None,
    where: Where = Where(),
) -> None:
    """Classify every image with a registered model; one row an image, in Parquet."""
    spec = CoftSpec(pool=_pool(images, rows_per_shard), runtime=where.runtime)
    registry_model.check_model(model, spec.runtime)
    startup.begin(spec.runtime, "flows.predict", tracked=registry_model.is_registered(model))
    predictions = predict_flow.predict(spec, model)
    bad = (
        f", {predictions.num_quarantined:,} could not be read"
        if predictions.num_quarantined
        else ""
    )
    line = f"{predictions.rows:,} predictions in {predictions.uri}{bad}"
    conclude(where.summary, predictions.model_dump(mode="json"), [line])


def demo(
    *,
    workspace: Workspace = None,
    seed: Seed = default_of(CoftSpec, "seed"),
    summary: Summary = None,
) -> None:
    """Adapt a CLIP that has seen only printed characters to handwriting: minutes, offline."""
    folder = workspace or str(Path(workspace_of(None)) / "demo")
    startup.begin(RuntimeSpec(workspace=folder), "flows.coft", "flows.demo")
    _conclude(coft.coft(demo_flow.demo_spec(folder, seed=seed)), summary)


def _pool(images: str, rows_per_shard: int | None) -> PoolSpec:
    """Return images that need no class names, having seen that they are there."""
    pool = PoolSpec(images=images, **given(rows_per_shard=rows_per_shard))
    true_labels.list_sources(pool)
    return pool


def _conclude(result: RunSummary, summary: Path | None) -> None:
    conclude(summary, result.model_dump(mode="json"), _lines(result))


def _lines(result: RunSummary) -> Iterator[str]:
    """Say what came of a run."""
    before, after = result.zero_shot_accuracy, result.accuracy
    if before is not None and after is not None:
        yield f"zero-shot  {before:.3f}"
        yield f"adapted    {after:.3f}   ({after - before:+.3f})"
    else:
        yield "No labels were given, so accuracy is unknown; the report says what can be said."
    yield f"verdict    {result.verdict}"
    yield f"model      {result.model_uri}"
    yield f"report     {result.report}"
