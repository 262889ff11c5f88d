"""The command that says in words what images show."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import (
    Backbone,
    ClassColumn,
    Classes,
    DryRun,
    Images,
    LabelColumns,
    Labels,
    Register,
    RowsPerShard,
    Seed,
    SplitFolders,
    Test,
    Where,
    command_line,
    conclude,
    default_of,
    given,
)
from flows.commands.planning import announce, end_dry_run, with_plan
from tasks.describe.specs import CaptionTrainingSpec, DescribeSpec, LanguageSpec, VisionSpec
from tasks.on_demand import OnDemand
from tasks.specs import BackboneSpec, LabelSpec, PoolSpec

if TYPE_CHECKING:
    from flows import describe as describe_flow
    from tasks import startup
    from tasks.describe import checks
    from tasks.describe import words as telling
    from tasks.tracking import versions
else:
    startup, describe_flow = OnDemand("tasks.startup"), OnDemand("flows.describe")
    checks, telling = OnDemand("tasks.describe.checks"), OnDemand("tasks.describe.words")
    versions = OnDemand("tasks.tracking.versions")


def describe(  # noqa: PLR0913  # a parameter for each option
    *,
    images: Images,
    llm: Annotated[
        str,
        Parameter(help="Language model: gguf:PATH, local-dir:PATH or hf-hub:ORG/NAME; a LLaMA."),
    ],
    llm_sha256: Annotated[
        str | None, Parameter(help="Of the GGUF file, or of the weights: another one is refused.")
    ] = None,
    model: Annotated[
        str | None,
        Parameter(help="Classifier whose labels are learned: models:/NAME@champion, or a folder."),
    ] = None,
    classes: Classes = None,
    class_column: ClassColumn = None,
    test: Test = None,
    labels: Labels = None,
    label_columns: LabelColumns = None,
    split_folders: SplitFolders = default_of(PoolSpec, "split_folders"),
    prompt: Annotated[
        tuple[str, ...],
        Parameter(help='Another beginning: "This picture shows a". May be repeated.', negative=""),
    ] = (),
    template: Annotated[
        str, Parameter(help="The sentence that is learned: words, {}, and a mark.")
    ] = default_of(DescribeSpec, "template"),
    confused: Annotated[
        bool, Parameter(help="Show the images about which classes are mixed up.", negative="")
    ] = False,
    include_llm: Annotated[
        bool, Parameter(help="Copy the language model into the registered model.", negative="")
    ] = False,
    backbone: Backbone = default_of(BackboneSpec, "name"),
    label: Annotated[LabelSpec, Parameter(group="First labels", negative="")] = LabelSpec(),
    vision: Annotated[VisionSpec, Parameter(group="Vision")] = VisionSpec(),
    training: Annotated[
        CaptionTrainingSpec, Parameter(group="Training", negative="")
    ] = CaptionTrainingSpec(),
    seed: Seed = default_of(DescribeSpec, "seed"),
    register: Register = None,
    rows_per_shard: RowsPerShard = None,
    dry_run: DryRun = False,
    where: Where = Where(),
) -> None:
    """Say what each image shows, by a language model that learns to see and stays as it is.

    It learns from labels of CLIP or of a classifier, of no person. Captions, the probability of
    each class and where both differ go to Parquet and to a page.
    """
    if register is not None:
        versions.check_name(register)
    pool = PoolSpec(
        images=images,
        classes=classes,
        class_column=class_column,
        test=test,
        labels=labels,
        label_columns=label_columns,
        split_folders=split_folders,
        **given(rows_per_shard=rows_per_shard),
    )
    spec = DescribeSpec(
        pool=pool,
        llm=LanguageSpec(name=llm, sha256=llm_sha256),
        model=model,
        backbone=BackboneSpec(name=backbone),
        label=label,
        template=template,
        prompts=prompt,
        confused=confused,
        vision=vision,
        training=training,
        seed=seed,
        register_as=register,
        include_llm=include_llm,
        runtime=where.runtime,
        command=command_line(),
    )
    checks.check_language(spec.llm)
    plan = announce(spec.labelling, "describe", dry_run=dry_run, model=model)
    checks.check_words(spec)
    if dry_run:
        end_dry_run(plan, spec.labelling, where.summary)
        return
    startup.begin(spec.runtime, "flows.describe")
    found = describe_flow.describe(spec)
    conclude(where.summary, with_plan(found.model_dump(mode="json"), plan), telling.lines_of(found))
