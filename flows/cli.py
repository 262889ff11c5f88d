"""The `coft` command. Each command checks its words, runs a flow or a task, and says what came."""

import atexit
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError
from rich.console import Console

from flows.commands.options import (
    About,
    Backbone,
    Images,
    Summary,
    Where,
    Workspace,
    given,
    tell,
    workspace_of,
    write_summary,
)
from flows.commands.questions import questions
from flows.commands.rounds import active
from infra import offline
from tasks.specs import InputError, Phase2Spec

if TYPE_CHECKING:
    from tasks.refs import RunSummary
    from tasks.tracking.store import Tracking

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = App(
    name="coft",
    help="Adapt CLIP to your own images without labels.",
    version_flags=["--version"],
    result_action="return_value",
)
models = App(name="models", help="The registry: versions, and which of them is in use.")
app.command(models)
app.command(active)
app.command(questions, name="*")


@app.command
def adapt(  # noqa: PLR0913  # a person's choices
    about: About,
    *,
    method: Literal["coft", "zero-shot"] = "coft",
    answers: Annotated[
        str | None,
        Parameter(help="Labels to learn from: a file of answers, or a folder of rounds."),
    ] = None,
    phase2: Annotated[Phase2Spec, Parameter(group="Phase II", negative="")] = Phase2Spec(),
    register: Annotated[str | None, Parameter(help="Name in the model registry.")] = None,
    summary: Summary = None,
    where: Where = Where(),
) -> None:
    """Adapt CLIP to a folder or bucket of images, without labels or with a few: the main job.

    The same command goes on where a killed one stopped, and computes nothing twice.
    """
    name = register or Path(about.images.rstrip("/")).stem or "coft"
    _check_answers(answers, method)
    spec = about.spec(where, method=method, phase2=phase2, register_as=name, answers=answers)
    from flows.coft import coft  # noqa: PLC0415  # seconds that a typo need not wait for

    _conclude(coft(spec), summary)


@app.command
def embed(
    *,
    images: Images,
    backbone: Backbone = "embedded",
    rows_per_shard: int | None = None,
    where: Where = Where(),
) -> None:
    """Write the features of every image to Parquet, and nothing else."""
    from tasks.backbone import check_backbone  # noqa: PLC0415

    check_backbone(backbone)
    from flows.embed import embed as embed_flow  # noqa: PLC0415
    from tasks.specs import BackboneSpec, CoftSpec, PoolSpec  # noqa: PLC0415

    spec = CoftSpec(
        pool=PoolSpec(images=images, **given(rows_per_shard=rows_per_shard)),
        backbone=BackboneSpec(name=backbone),
        runtime=where.runtime,
    )
    found = embed_flow(spec)
    tell(f"{found.rows:,} embeddings of {found.dim} dimensions in {found.uri}")


@app.command
def predict(
    *,
    model: Annotated[str, Parameter(help="models:/NAME@champion, models:/NAME/3, or a folder.")],
    images: Images,
    rows_per_shard: int | None = None,
    where: Where = Where(),
) -> None:
    """Classify every image with a registered model; one row an image, in Parquet."""
    from flows.predict import predict as predict_flow  # noqa: PLC0415
    from tasks.specs import CoftSpec, PoolSpec  # noqa: PLC0415

    spec = CoftSpec(
        pool=PoolSpec(images=images, **given(rows_per_shard=rows_per_shard)),
        runtime=where.runtime,
    )
    found = predict_flow(spec, model)
    bad = f", {found.num_quarantined:,} could not be read" if found.num_quarantined else ""
    tell(f"{found.rows:,} predictions in {found.uri}{bad}")


@app.command
def demo(
    *,
    workspace: Workspace = None,
    seed: int = 0,
    summary: Summary = None,
) -> None:
    """Adapt a CLIP that has seen only printed characters to handwriting: minutes, offline."""
    from flows.coft import coft  # noqa: PLC0415
    from flows.demo import demo_spec  # noqa: PLC0415

    folder = workspace or str(Path(workspace_of(None)) / "demo")
    _conclude(coft(demo_spec(folder, seed=seed)), summary)


@models.command(name="list")
def list_models(name: str | None = None, *, workspace: Workspace = None) -> None:
    """Show registered models: versions, aliases, and the evidence of each."""
    from tasks.tracking.versions import list_models as registered  # noqa: PLC0415

    found = registered(_tracking(workspace), name)
    if not found:
        tell("No model is registered. `coft adapt --images ...` registers one.")
    for model in found:
        aliases = f" @{', @'.join(model.aliases)}" if model.aliases else ""
        health = "healthy" if model.healthy else "not healthy"
        evidence = ", ".join(f"{key} {value}" for key, value in model.evidence.items())
        tell(f"{model.uri}{aliases}  {health}  {evidence}")


@models.command
def promote(
    name: str,
    version: str | None = None,
    *,
    force: Annotated[bool, Parameter(help="Although its run says that it is not healthy.")] = False,
    workspace: Workspace = None,
) -> None:
    """Make the candidate, or a given version, the champion; the old champion becomes previous."""
    from tasks.tracking.champion import promote as to_champion  # noqa: PLC0415

    tell(f"champion is {to_champion(_tracking(workspace), name, version, force=force).uri}")


@models.command
def rollback(name: str, *, workspace: Workspace = None) -> None:
    """Make the previous champion the champion again."""
    from tasks.tracking.champion import rollback as back  # noqa: PLC0415

    tell(f"champion is {back(_tracking(workspace), name).uri}")


def main() -> None:
    """Run the command line; a person sees a sentence, never a traceback unless `--debug`."""
    atexit.register(_leave_quietly)  # registered first, so it runs after everybody's clean-up
    words = sys.argv[1:]
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    offline.apply()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if debug else "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    sys.exit(run(words, debug=debug))


def run(words: list[str], *, debug: bool = False) -> int:
    """Run one command and return its exit code: 0 done, 2 bad input, 1 anything else."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(words, exit_on_error=False, print_error=False)
    except (InputError, CycloptsError, ValidationError) as error:
        if debug:
            raise
        errors.print(f"coft: {_one_sentence(error)}", markup=False)
        return BAD_INPUT
    except KeyboardInterrupt:
        errors.print("coft: stopped. The same command goes on from here.", markup=False)
        return INTERRUPTED
    except Exception as error:  # the last door before a person
        if debug:
            raise
        name = type(error).__name__
        errors.print(f"coft: {name}: {error}\nRun with --debug for the traceback.", markup=False)
        return FAILED
    return DONE


def _check_answers(answers: str | None, method: str) -> None:
    """Refuse answers that are not there, or that nothing would learn from."""
    from tasks.storage.files import exists  # noqa: PLC0415
    from tasks.storage.uris import redact  # noqa: PLC0415

    if answers is None:
        return
    if method == "zero-shot":
        raise InputError(
            "--answers: nothing learns with --method zero-shot; leave one of them out."
        )
    if not exists(answers):
        raise InputError(
            f"--answers {redact(answers)}: expected a file of answers or the folder of "
            "rounds (coft-workspace/rounds/NAME), found nothing there. Check the path."
        )


def _leave_quietly() -> None:
    """Close standard error to what libraries print while the interpreter goes (DuckDB's leaks)."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _one_sentence(error: Exception) -> str:
    wrong = error if isinstance(error, ValidationError) else error.__cause__
    if not isinstance(wrong, ValidationError):
        return str(error)
    first = wrong.errors()[0]
    argument = getattr(error, "argument", None)  # of a whole spec: `--phase1`
    where = [argument.name] if argument else []
    where += [str(part).replace("_", "-") for part in first["loc"]]
    return f"{'.'.join(where)}: {first['msg']}, not {first['input']!r}"


def _tracking(workspace: str | None) -> "Tracking":
    from tasks.tracking.store import tracking_for  # noqa: PLC0415

    return tracking_for(workspace_of(workspace))


def _conclude(found: "RunSummary", summary: Path | None) -> None:
    """Print what came of a run, and write it where it was asked for."""
    write_summary(summary, found.model_dump_json(indent=1))
    before, after = found.zero_shot_accuracy, found.accuracy
    if before is not None and after is not None:
        tell(f"zero-shot  {before:.3f}\nadapted    {after:.3f}   ({after - before:+.3f})")
    else:
        tell("No labels were given, so accuracy is unknown; the report says what can be said.")
    tell(f"verdict    {found.verdict}\nmodel      {found.model_uri}\nreport     {found.report}")
