"""The commands that adapt CLIP to images and use what came of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.on_demand import OnDemand
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
    workspace_of,
)
from tasks.answers.given import check_answers
from tasks.pool.true_labels import list_sources
from tasks.refs import RunSummary
from tasks.specs import BackboneSpec, CoftSpec, Method, Phase2Spec, PoolSpec

if TYPE_CHECKING:
    from flows import coft
    from flows import demo as demo_flow
    from flows import embed as embed_flow
    from flows import predict as predict_flow
    from tasks import backbone as backbones
else:
    backbones = OnDemand("tasks.backbone")
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
    name = register or Path(about.images.rstrip("/")).stem or "coft"
    check_answers(answers, method)
    spec = about.spec(where, method=method, phase2=phase2, register_as=name, answers=answers)
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
    _conclude(coft.coft(demo_flow.demo_spec(folder, seed=seed)), summary)


def _pool(images: str, rows_per_shard: int | None) -> PoolSpec:
    """Return images that need no class names, having seen that they are there."""
    pool = PoolSpec(images=images, **given(rows_per_shard=rows_per_shard))
    list_sources(pool)
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
