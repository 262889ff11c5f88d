"""The commands of `coft harmony`: kinds of data that arrive one after another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows.commands.options import (
    Classes,
    LabelColumns,
    Register,
    RowsPerShard,
    Seed,
    SplitFolders,
    Where,
    command_line,
    conclude,
    default_of,
    given,
    name_from,
    tell,
)
from tasks.harmony.specs import (
    BeginSpec,
    CompareSpec,
    KeepSpec,
    PredictedSpec,
    PredictSpec,
    StageSpec,
    StageTrainingSpec,
)
from tasks.on_demand import OnDemand
from tasks.specs import BackboneSpec, InputError, PoolSpec, RuntimeSpec

if TYPE_CHECKING:
    from flows import demo as demo_flow
    from flows import harmony as harmony_flow
    from tasks import startup
    from tasks.harmony import checks, files, page, prediction, record, summary
    from tasks.harmony import compare as comparing
    from tasks.harmony.compare import Comparison
    from tasks.harmony.record import StateRef
    from tasks.harmony.summary import Summary
    from tasks.tracking import registry_model, versions
else:
    startup, harmony_flow = OnDemand("tasks.startup"), OnDemand("flows.harmony")
    demo_flow = OnDemand("flows.demo")
    checks, page = OnDemand("tasks.harmony.checks"), OnDemand("tasks.harmony.page")
    files, comparing = OnDemand("tasks.harmony.files"), OnDemand("tasks.harmony.compare")
    prediction = OnDemand("tasks.harmony.prediction")
    record, summary = OnDemand("tasks.harmony.record"), OnDemand("tasks.harmony.summary")
    registry_model = OnDemand("tasks.tracking.registry_model")
    versions = OnDemand("tasks.tracking.versions")

ABOUT = """One model for kinds of data that arrive one after another.

Our reconstruction of Harmony, arXiv 2504.13218.
"""

harmony = App(name="harmony", help=ABOUT)

State = Annotated[str, Parameter(help="Folder or URI of all that is learned so far.")]
Embeddings = Annotated[
    str | None,
    Parameter(help="Parquet with columns embedding, label, modality, split, sample_id."),
]


@harmony.command
def learn(  # noqa: PLR0913  # a parameter for each option
    *,
    state: State,
    modality: Annotated[str, Parameter(help="Name of what arrives: photo, sketch, sound.")],
    images: Annotated[str | None, Parameter(help="Labelled images of it.")] = None,
    labels: Annotated[
        str | None, Parameter(help="Of the images: 'folders', 'column', or a file.")
    ] = None,
    label_columns: LabelColumns = None,
    predicted: Annotated[
        PredictedSpec | None, Parameter(group="Labels by a model", negative="")
    ] = None,
    split_folders: SplitFolders = default_of(PoolSpec, "split_folders"),
    embeddings: Embeddings = None,
    classes: Classes = None,
    test: Annotated[
        tuple[str, ...],
        Parameter(
            help="Test data of any modality: Parquet, or NAME=IMAGES. May be repeated.", negative=""
        ),
    ] = (),
    backbone: Annotated[
        str | None, Parameter(help="Of class names and images; later that of the first stage.")
    ] = None,
    begin: Annotated[BeginSpec, Parameter(group="First stage", negative="")] = BeginSpec(),
    training: Annotated[
        StageTrainingSpec, Parameter(group="Training", negative="")
    ] = StageTrainingSpec(),
    keep: Annotated[
        KeepSpec, Parameter(group="Keeping earlier modalities", negative="")
    ] = KeepSpec(),
    seed: Seed = default_of(StageSpec, "seed"),
    register: Register = None,
    max_forgetting: Annotated[
        float, Parameter(help="A stage after which more is lost is no candidate.")
    ] = default_of(StageSpec, "max_forgetting"),
    rows_per_shard: RowsPerShard = None,
    where: Where = Where(),
) -> None:
    """Learn one more kind of data of the same classes; no earlier sample is needed or kept.

    Each stage is a folder in the state; the same command goes on where a killed one stopped.
    """
    name = versions.check_name(register or name_from(state, otherwise="harmony"))
    pool = None
    if images is not None:
        pool = PoolSpec(
            images=images,
            labels=labels,
            label_columns=label_columns,
            split_folders=split_folders,
            **given(rows_per_shard=rows_per_shard),
        )
    spec = StageSpec(
        state=state,
        modality=modality,
        pool=pool,
        predicted=predicted,
        embeddings=embeddings,
        classes=classes,
        tests=test,
        backbone=None if backbone is None else BackboneSpec(name=backbone),
        begin=begin,
        training=training,
        keep=keep,
        seed=seed,
        register_as=name,
        max_forgetting=max_forgetting,
        runtime=where.runtime,
        command=command_line(),
    )
    if images is None and labels is not None:
        raise InputError("--labels: features have theirs in the column label; leave it out.")
    checks.check_stage(spec)
    startup.begin(spec.runtime, "flows.harmony")
    stage = harmony_flow.learn(spec)
    found = record.read_state(state)
    said = summary.summarize(found)
    _conclude(found, said, None, where.summary, {"stage": stage.model_dump()})


@harmony.command
def predict(  # noqa: PLR0913  # a parameter for each option
    *,
    state: Annotated[str | None, Parameter(help="Folder or URI of what was learned.")] = None,
    model: Annotated[str | None, Parameter(help="Or models:/NAME@ALIAS, models:/NAME/3.")] = None,
    images: Annotated[str | None, Parameter(help="Images of which nobody knows the class.")] = None,
    embeddings: Annotated[
        str | None, Parameter(help="Or Parquet with columns embedding, modality, sample_id.")
    ] = None,
    modality: Annotated[
        str | None, Parameter(help="What they are; by default each looks most like one.")
    ] = None,
    rows_per_shard: RowsPerShard = None,
    where: Where = Where(),
) -> None:
    """Classify images, or features of any kind that was learned; one row a sample, in Parquet."""
    pool = None
    if images is not None:
        pool = PoolSpec(images=images, **given(rows_per_shard=rows_per_shard))
    asked = PredictSpec(
        state=state,
        model=model,
        pool=pool,
        embeddings=embeddings,
        modality=modality,
        runtime=where.runtime,
    )
    spec = prediction.check_prediction(asked)
    tracked = spec.model is not None and registry_model.is_registered(spec.model)
    startup.begin(spec.runtime, "flows.harmony", tracked=tracked)
    found = harmony_flow.predict(spec)
    lines = [
        f"{one.modality}: {one.count:,} samples, mean certainty {one.certainty:.3f}"
        for one in found.taken
    ]
    lines.append(f"{found.rows:,} predictions in {found.uri}")
    conclude(where.summary, found.model_dump(mode="json"), lines)


@harmony.command
def show(
    *,
    state: State,
    compare: Annotated[
        str | None,
        Parameter(help="Parquet of all modalities: run other methods on it, for the page."),
    ] = None,
    methods: Annotated[
        tuple[str, ...],
        Parameter(help="Which ones; more than the usual ones are there.", negative=""),
    ] = default_of(CompareSpec, "methods"),
    seeds: Annotated[int, Parameter(help="How many, from 0.")] = default_of(CompareSpec, "seeds"),
    orders: Annotated[
        int, Parameter(help="How many orders: as the modalities came, then with others first.")
    ] = default_of(CompareSpec, "orders"),
    where: Where = Where(),
) -> None:
    """Show what is left of each kind of data and what is kept of it, and draw it.

    With --compare: what keeping the earlier data would be worth, on data that may be kept.
    """
    found, compared = record.existing_state(state), None
    if compare is not None:
        spec = CompareSpec(
            state=state,
            data=compare,
            methods=methods,
            seeds=seeds,
            orders=orders,
            runtime=where.runtime,
        )
        files.check_all(compare, found.modalities)
        comparing.check_methods(methods)
        startup.begin(spec.runtime, "flows.harmony", tracked=False)
        compared = harmony_flow.compare_methods(spec)
    said = summary.summarize(found)
    page.write_page(found, said)
    _conclude(found, said, compared, where.summary, {})


def run_demo(folder: str, seed: int, summary_file: str | None, *, dry_run: bool) -> None:
    """Learn ten digits in four modalities, one after another, and compare other methods."""
    runtime = RuntimeSpec(workspace=folder)
    if dry_run:
        startup.check_place(runtime)
        tell(f"would learn digits as images, sounds, strokes and words in {folder}")
        conclude(summary_file, {}, [])
        return
    startup.begin(runtime, "flows.harmony", "flows.demo")
    stages, compared = demo_flow.harmony_specs(folder, seed=seed)
    for stage in stages:
        harmony_flow.learn(stage)
    found = harmony_flow.compare_methods(compared)
    state = record.existing_state(compared.state)
    said = summary.summarize(state)
    page.write_page(state, said, "coft demo --harmony")
    _conclude(state, said, found, summary_file, {})


def _conclude(
    state: "StateRef",
    said: "Summary",
    compared: "Comparison | None",
    summary_file: str | None,
    facts: Mapping[str, object],
) -> None:
    report = f"{state.uri}/{page.PAGE}"
    lines = summary.lines_of(said)
    lines += [summary.HONEST] if compared is None else ["", *comparing.lines_of(compared)]
    comparison = {} if compared is None else {"comparison": compared.model_dump()}
    told = {**said.model_dump(), **facts, **comparison, "report": report}
    conclude(summary_file, told, [*lines, f"report     {report}"])
