"""What a finished run leaves behind: an MLflow run, a registered model, a report, a summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.context import FlowRunContext

from tasks.evaluate import read_metrics
from tasks.on_demand import OnDemand
from tasks.plan.facts import Plan
from tasks.plan.files import count_files
from tasks.progress import say
from tasks.refs import (
    AnswersRef,
    EvaluationRef,
    Files,
    LabelsRef,
    ModelRef,
    PeerRef,
    PredictionsRef,
    Ref,
    RunSummary,
    StageName,
    Stages,
)
from tasks.report.inputs import Registered, ReportInputs, StageTime
from tasks.specs import CoftSpec
from tasks.storage.finished_runs import record_finished
from tasks.storage.layout import METRICS
from tasks.storage.stage import step
from tasks.storage.uris import absolute, join
from tasks.tracking.registration import register_model
from tasks.tracking.runs import Run, log_file, log_metrics, page_of

if TYPE_CHECKING:
    from tasks.report import document
else:  # at the end of a run alone: figures, and the map of the images
    document = OnDemand("tasks.report.document")


@step("register model")
def register(
    run: Run,
    model: ModelRef,
    evaluation: EvaluationRef,
    *,
    name: str | None,
    answers: AnswersRef | None = None,
) -> Registered | None:
    """Record what was measured and, if a name was given, register the model with its evidence."""
    accuracies = {
        "zero_shot_accuracy": evaluation.zero_shot_accuracy,
        "accuracy": evaluation.accuracy,
    }
    health = {f"health/{key}": value for key, value in model.health.items()}
    counts = {} if answers is None else {"num_answers": answers.num_labels}
    log_metrics(run, {**accuracies, **health, **counts})
    log_file(run, join(evaluation.uri, METRICS), folder="evaluation")
    if name is None:
        return None
    evidence = {**accuracies, **model.health, **counts, "verdict": model.verdict}
    registered = register_model(run, model.uri, name=name, healthy=model.healthy, evidence=evidence)
    role = f", {', '.join(registered.aliases)}" if registered.aliases else ""
    say(f"Registered {registered.uri}{role}")
    return Registered(uri=registered.uri, version=registered.version)


def publish(  # noqa: PLR0913  # everything that a run made
    run: Run,
    spec: CoftSpec,
    stages: Stages,
    predictions: PredictionsRef,
    evaluation: EvaluationRef,
    model: ModelRef,
    *,
    registered: Registered | None,
    plan: Plan,
) -> RunSummary:
    """Write the report, link it from the MLflow run and from Prefect, and sum the run up."""
    inputs = report_inputs(
        spec,
        stages,
        predictions,
        evaluation,
        model,
        run_id=run.run_id,
        registered=registered,
        plan=plan,
    )
    report = publish_report(run, inputs)
    record_finished(spec.runtime.workspace)
    files = count_files(plan, stages.images, stages.embeddings)
    return _summarize(inputs, report, files, _taught(stages, spec), predictions.uri)


def report_inputs(  # noqa: PLR0913  # everything that a run made
    spec: CoftSpec,
    stages: Stages,
    predictions: PredictionsRef,
    evaluation: EvaluationRef,
    model: ModelRef,
    *,
    run_id: str,
    registered: Registered | None,
    plan: Plan | None = None,
) -> ReportInputs:
    """Return what the report of a finished run is written from."""
    return ReportInputs(
        spec=spec,
        backbone=stages.backbone,
        images=stages.images,
        task=stages.task,
        before=stages.embeddings,
        after=predictions.features[0],
        sentences=stages.sentences,
        zero_shot=stages.zero_shot,
        answers=stages.answers,
        confident=stages.confident,
        neighbours=stages.neighbours,
        clean=stages.clean,
        peers=stages.trained,
        model=model,
        predictions=predictions,
        evaluation=evaluation,
        stages=_stage_times(stages, predictions, evaluation, model),
        run_id=run_id,
        registered=registered,
        plan=plan,
    )


@step("report")
def publish_report(run: Run, inputs: ReportInputs) -> str:
    """Write the report, link it from the MLflow run and from Prefect, and return where it is."""
    report = document.write_report(inputs, inputs.spec.runtime)
    uri = join(report.uri, document.FILE)
    log_file(run, uri, folder="report")
    if FlowRunContext.get() is not None:
        create_markdown_artifact(document.summary_markdown(inputs), key="coft-result")
        link = absolute(uri)
        link = link if "://" in link else Path(link).as_uri()
        create_link_artifact(link=link, link_text="Report", key="coft-report")
        if (page := page_of(run)) is not None:
            create_link_artifact(link=page, link_text="MLflow run", key="coft-mlflow-run")
    say(f"Report: {uri}")
    return uri


def _stage_times(
    stages: Stages, predictions: PredictionsRef, evaluation: EvaluationRef, model: ModelRef
) -> tuple[StageTime, ...]:
    """Return the time of each stage; one that ran once for each peer counts both.

    Of the phases only the slower peer counts: both train at the same time.
    """
    by_name: dict[StageName, tuple[Ref | None, ...]] = {
        StageName.POOL: (stages.images, stages.task),
        StageName.EMBED: (stages.embeddings,),
        StageName.LABEL: (stages.sentences, stages.zero_shot, *stages.confident),
        StageName.PHASE_1: tuple(peer for one in stages.phase1 for peer in one.peers),
        StageName.EMBED_WITH_PEERS: tuple(ref for one in stages.phase1 for ref in one.features),
        StageName.CROSS_FILTER: tuple(ref for one in stages.phase2 for ref in one.labels),
        StageName.PHASE_2: tuple(peer for one in stages.phase2 for peer in one.networks),
        StageName.GUARD: (model,),
        StageName.PREDICT: (predictions,),
        StageName.EVALUATE: (evaluation,),
    }
    times = []
    for name, refs in by_name.items():
        computed = [ref for ref in refs if ref is not None]
        if computed:
            times.append(
                StageTime(
                    name=name,
                    seconds=_seconds(computed),
                    num_images=sum(ref.rows for ref in computed),
                    resumed=all(ref.resumed for ref in computed),
                )
            )
    return tuple(times)


def _seconds(computed: Sequence[Ref]) -> float:
    """Return the time of a stage: of trainings side by side the longest, of rounds the sum."""
    longest: dict[object, float] = {}
    for number, ref in enumerate(computed):
        key = ("round", ref.round) if isinstance(ref, PeerRef) else number
        longest[key] = max(longest.get(key, 0.0), ref.seconds)
    return sum(longest.values())


def _taught(stages: Stages, spec: CoftSpec) -> tuple[LabelsRef, ...]:
    """Return the labels that were learned from last: clean sets, or confident ones of Phase I."""
    if spec.phase2.epochs:
        return stages.clean
    return stages.phase1[-1].confident if stages.phase1 else ()


def _summarize(
    inputs: ReportInputs,
    report: str,
    files: Files,
    taught: Sequence[LabelsRef],
    predictions: str,
) -> RunSummary:
    """Return what `--summary` writes."""
    adapted = read_metrics(inputs.evaluation.uri)["adapted"]
    seconds = {stage.name: round(stage.seconds, 3) for stage in inputs.stages}
    registered = inputs.registered
    return RunSummary(
        method=inputs.spec.method,
        backbone=inputs.backbone.name,
        num_images=inputs.images.num_pool + inputs.images.num_test,
        num_quarantined=inputs.images.num_quarantined + inputs.before.num_quarantined,
        files=files,
        num_answers=0 if inputs.answers is None else inputs.answers.num_labels,
        zero_shot_accuracy=inputs.evaluation.zero_shot_accuracy,
        accuracy=inputs.evaluation.accuracy,
        per_class=adapted["per_class"] if adapted else {},
        model_uri=registered.uri if registered else inputs.model.uri,
        model_version=registered.version if registered else None,
        run_id=inputs.run_id,
        report=report,
        seconds_by_stage=seconds,
        total_seconds=round(sum(seconds.values()), 3),
        images_per_second=round(inputs.before.rows / max(inputs.before.seconds, 1e-9), 1),
        healthy=inputs.model.healthy,
        verdict=inputs.model.verdict,
        predictions=predictions,
        taught=tuple(labels.uri for labels in taught),
        num_parameters=sum(peer.num_parameters for peer in inputs.peers),
        peak_bytes=max((peer.peak_bytes for peer in inputs.peers), default=0),
    )
