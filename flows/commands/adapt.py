"""The commands that adapt CLIP to images and use what came of it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import (
    About,
    Backbone,
    DryRun,
    Images,
    Model,
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
from flows.commands.paper import as_in_paper
from flows.commands.planning import announce, end_dry_run, with_plan
from tasks.on_demand import OnDemand
from tasks.plan.settings import check_settings
from tasks.refs import Files, Ref, RunSummary
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    CollaborationSpec,
    Method,
    Phase2Spec,
    PlusSpec,
    PoolSpec,
    ReviewSpec,
    RuntimeSpec,
    SentencesSpec,
)

if TYPE_CHECKING:
    from flows import adapt as adapt_flow
    from flows import coft
    from flows import demo as demo_flow
    from flows import embed as embed_flow
    from flows import predict as predict_flow
    from flows.commands import harmony as harmony_commands
    from tasks import backbone, startup
    from tasks.answers import given as answers_given
    from tasks.plan import words
    from tasks.plan.facts import Plan
    from tasks.tracking import registry_model, versions
else:
    startup, words = OnDemand("tasks.startup"), OnDemand("tasks.plan.words")
    backbone = OnDemand("tasks.backbone")
    answers_given = OnDemand("tasks.answers.given")
    registry_model = OnDemand("tasks.tracking.registry_model")
    versions = OnDemand("tasks.tracking.versions")
    adapt_flow, coft = OnDemand("flows.adapt"), OnDemand("flows.coft")
    demo_flow = OnDemand("flows.demo")
    harmony_commands = OnDemand("flows.commands.harmony")
    embed_flow, predict_flow = OnDemand("flows.embed"), OnDemand("flows.predict")


def adapt(  # noqa: PLR0913  # a parameter for each option
    about: About,
    *,
    method: Method = default_of(CoftSpec, "method"),
    paper: Annotated[
        bool, Parameter(help="As in the paper where no option says otherwise.", negative="")
    ] = False,
    answers: Annotated[
        str | None,
        Parameter(help="Labels to learn from: a file of answers, or a folder of rounds."),
    ] = None,
    collaboration: Annotated[
        CollaborationSpec, Parameter(group="Collaboration", negative="")
    ] = CollaborationSpec(),
    phase2: Annotated[Phase2Spec, Parameter(group="Phase II", negative="")] = Phase2Spec(),
    student: Annotated[
        str | None,
        Parameter(help="Another backbone, that Phase II trains on the labels of the first one."),
    ] = None,
    plus: Annotated[PlusSpec, Parameter(group="CoFT+")] = PlusSpec(),
    sentences: Annotated[SentencesSpec, Parameter(group="CoFT+")] = SentencesSpec(),
    register: Register = None,
    where: Where = Where(),
) -> None:
    """Adapt CLIP to a folder or bucket of images, without labels or with a few: the main job.

    The same command goes on where a killed one stopped, and computes nothing twice.
    """
    name = versions.check_name(register or name_from(about.images, otherwise="coft"))
    answers_given.check_answers(answers, method, about.label_columns)
    spec = about.spec(
        where,
        method=method,
        student=None if student is None else BackboneSpec(name=student),
        collaboration=collaboration,
        phase2=phase2,
        plus=plus,
        sentences=sentences,
        register_as=name,
        answers=answers,
    )
    check_settings(spec)
    backbone.check_method_fits(method, spec.backbone.name)
    spec = as_in_paper(spec) if paper else spec
    plan = announce(spec, "adapt", dry_run=about.dry_run)
    if about.dry_run:
        end_dry_run(plan, spec, where.summary)
        return
    startup.begin(spec.runtime, "flows.adapt")
    _conclude(adapt_flow.adapted(spec, plan), plan, where.summary)


def embed(
    *,
    images: Images,
    backbone: Backbone = default_of(BackboneSpec, "name"),
    rows_per_shard: RowsPerShard = None,
    dry_run: DryRun = False,
    where: Where = Where(),
) -> None:
    """Write the features of every image to Parquet, and nothing else."""
    pool = _pool(images, rows_per_shard)
    spec = CoftSpec(pool=pool, backbone=BackboneSpec(name=backbone), runtime=where.runtime)
    plan = announce(spec, "embed", dry_run=dry_run)
    if dry_run:
        end_dry_run(plan, spec, where.summary, tracked=False)
        return
    startup.begin(spec.runtime, "flows.embed", tracked=False)
    embeddings, files = embed_flow.embed(spec.pool, spec.backbone, spec.runtime, plan)
    line = f"{embeddings.rows:,} embeddings of {embeddings.dim} dimensions in {embeddings.uri}"
    _conclude_files(embeddings, files, plan, [line], where.summary)


def predict(
    *,
    model: Model,
    images: Images,
    review_below: Annotated[
        float | None,
        Parameter(help="Write what is less sure, or looks like no class, for a person to look at."),
    ] = None,
    rows_per_shard: RowsPerShard = None,
    dry_run: DryRun = False,
    where: Where = Where(),
) -> None:
    """Classify every image with a registered model; one row an image, in Parquet."""
    review = None if review_below is None else ReviewSpec(below=review_below)
    spec = CoftSpec(pool=_pool(images, rows_per_shard), runtime=where.runtime)
    plan = announce(spec, "predict", dry_run=dry_run, model=model)
    tracked = registry_model.is_registered(model)
    if dry_run:
        end_dry_run(plan, spec, where.summary, tracked=tracked)
        return
    startup.begin(spec.runtime, "flows.predict", tracked=tracked)
    chosen = plan.model or model
    predictions, files, reviewed = predict_flow.predict(
        spec.pool, chosen, review, spec.runtime, plan
    )
    lines = [
        f"{predictions.rows:,} predictions in {predictions.uri}",
        "none_of_these is the share of a pool that looks more like a class: "
        f"{predictions.compared_with}",
    ]
    if reviewed is not None:
        lines.append(f"{reviewed.rows:,} to look at in {reviewed.uri}/contact-sheet.html")
    _conclude_files(predictions, files, plan, lines, where.summary)


def demo(
    *,
    workspace: Workspace = None,
    seed: Seed = default_of(CoftSpec, "seed"),
    dry_run: DryRun = False,
    harmony: Annotated[
        bool, Parameter(help="Digits as images, sounds, strokes and words instead.", negative="")
    ] = False,
    summary: Summary = None,
) -> None:
    """Adapt a CLIP that has seen only printed characters to handwriting: minutes, offline."""
    folder = workspace or str(Path(workspace_of(None)) / "demo")
    if harmony:
        harmony_commands.run_demo(folder, seed, summary, dry_run=dry_run)
        return
    if dry_run:
        with TemporaryDirectory(prefix="coft-demo-") as place:
            spec = demo_flow.demo_spec(folder, seed=seed, folder=place)
            end_dry_run(announce(spec, "adapt", dry_run=True), spec, summary)
        return
    startup.begin(RuntimeSpec(workspace=folder), "flows.coft", "flows.demo")
    spec = demo_flow.demo_spec(folder, seed=seed)
    plan = announce(spec, "adapt")
    _conclude(coft.coft(spec, plan), plan, summary)


def _pool(images: str, rows_per_shard: int | None) -> PoolSpec:
    """Return images that need no class names."""
    return PoolSpec(images=images, **given(rows_per_shard=rows_per_shard))


def _conclude(result: RunSummary, plan: "Plan", summary: str | None) -> None:
    lines = [*_lines(result), words.line_of_files(result.files)]
    conclude(summary, with_plan(result.model_dump(mode="json"), plan), lines)


def _conclude_files(
    result: Ref, files: Files, plan: "Plan", lines: list[str], summary: str | None
) -> None:
    facts = {**result.model_dump(mode="json"), "files": files.model_dump(mode="json")}
    conclude(summary, with_plan(facts, plan), [*lines, words.line_of_files(files)])


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
