"""The command that looks for the sentences that CLIP should know classes by."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import (
    Backbone,
    ClassColumn,
    Classes,
    DryRun,
    Images,
    RowsPerShard,
    SplitFolders,
    Test,
    Where,
    command_line,
    conclude,
    default_of,
    given,
)
from flows.commands.planning import announce, end_dry_run, with_plan
from tasks.on_demand import OnDemand
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    EndpointSpec,
    InputError,
    LabelSpec,
    PoolSpec,
    SentencesSpec,
)

if TYPE_CHECKING:
    from flows import templates as templates_flow
    from tasks import startup
    from tasks.sentences import record as records
    from tasks.sentences import words
else:
    startup, words = OnDemand("tasks.startup"), OnDemand("tasks.sentences.words")
    records = OnDemand("tasks.sentences.record")
    templates_flow = OnDemand("flows.templates")

File = Annotated[
    str | None,
    Parameter(
        name="--from",
        help='JSON: {"cat": ["a sleeping cat.", "tabby"], ...}; a sentence ends with a mark.',
    ),
]


Url = Annotated[
    str | None,
    Parameter(help="Base of an API like OpenAI's, https://host/v1; its key is COFT_ENDPOINT_KEY."),
]
Model = Annotated[str | None, Parameter(help="Of the endpoint, as it calls it.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Limits:
    """How much of an endpoint may be used."""

    timeout: Annotated[float | None, Parameter(help="Seconds of a call; 60.")] = None
    at_once: Annotated[int | None, Parameter(help="Calls side by side; 4.")] = None
    max_calls: Annotated[int | None, Parameter(help="Calls of the endpoint; 3000.")] = None
    max_tokens: Annotated[int | None, Parameter(help="Tokens of the endpoint; 500000.")] = None


def templates(  # noqa: PLR0913  # one option each
    *,
    images: Images,
    classes: Classes = None,
    class_column: ClassColumn = None,
    test: Test = None,
    split_folders: SplitFolders = default_of(PoolSpec, "split_folders"),
    file: File = None,
    endpoint: Url = None,
    model: Model = None,
    limits: Limits = Limits(),
    backbone: Backbone = default_of(BackboneSpec, "name"),
    label: Annotated[LabelSpec, Parameter(group="First labels", negative="")] = LabelSpec(),
    rows_per_shard: RowsPerShard = None,
    dry_run: DryRun = False,
    where: Where = Where(),
) -> None:
    """Choose class sentences without labels: synonyms, descriptions, a file against plain ones.

    Prints how well each set tells the images apart, and writes the best one for --templates of
    adapt.
    """
    pool = PoolSpec(
        images=images,
        classes=classes,
        class_column=class_column,
        test=test,
        split_folders=split_folders,
        **given(rows_per_shard=rows_per_shard),
    )
    spec = CoftSpec(
        pool=pool,
        backbone=BackboneSpec(name=backbone),
        label=label,
        sentences=SentencesSpec(file=file, endpoint=_endpoint(endpoint, model, limits)),
        runtime=where.runtime,
        command=command_line(),
    )
    plan = announce(spec, "templates", dry_run=dry_run)
    if dry_run:
        end_dry_run(plan, spec, where.summary, tracked=False)
        return
    startup.begin(spec.runtime, "flows.templates", tracked=False)
    chosen = templates_flow.templates(
        spec.pool, spec.sentences, spec.label, spec.backbone, spec.runtime, plan
    )
    record = records.read_record(chosen.file)
    facts = {**record.model_dump(mode="json"), "file": chosen.file, "digest": chosen.digest}
    lines = [*words.table(record), f"chosen     {record.why}", f"file       {chosen.file}"]
    conclude(where.summary, with_plan(facts, plan), lines)


def _endpoint(url: str | None, model: str | None, limits: Limits) -> EndpointSpec | None:
    if (url is None) != (model is None):
        raise InputError("--endpoint URL and --model NAME belong together; give both, or neither.")
    return EndpointSpec(url=url, model=model, **given(**asdict(limits))) if url and model else None
