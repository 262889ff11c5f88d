"""The commands that ask: SQL over a workspace, four named questions, and is all well here."""

import sys
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from flows.commands.options import Workspace, workspace_of
from tasks.specs import InputError

questions = App()

Pool = Annotated[str | None, Parameter(help="Start of a pool's digest; the newest by default.")]
Embeddings = Annotated[str | None, Parameter(help="Start of a digest; the backbone's by default.")]
Format = Annotated[
    Literal["csv", "json", "parquet"] | None, Parameter(help="Else a table, or the file's ending.")
]
Output = Annotated[str | None, Parameter(help="File or URI to write to.")]


@questions.command
def query(  # a person's choices
    sql: str,
    *,
    workspace: Workspace = None,
    pool: Pool = None,
    embeddings: Embeddings = None,
    format: Format = None,  # noqa: A002  # the option's name
    output: Output = None,
) -> None:
    """Ask in SQL: views images, quarantine, embeddings, labels, predictions; reading only."""
    from tasks.query.sandbox import run_sql  # noqa: PLC0415  # seconds that `--help` need not wait for

    found = run_sql(workspace_of(workspace), sql, pool=pool, embeddings=embeddings)
    _show(found, format, output)


@questions.command
def similar(  # noqa: PLR0913  # a person's choices
    image: Annotated[str, Parameter(help="Image id, URI, or the start of one.")],
    *,
    k: int = 10,
    workspace: Workspace = None,
    pool: Pool = None,
    embeddings: Embeddings = None,
    format: Format = None,  # noqa: A002
    output: Output = None,
) -> None:
    """Show the images most like one image."""
    from tasks.query.questions import similar as ask  # noqa: PLC0415

    _show(ask(workspace_of(workspace), image, k, pool=pool, embeddings=embeddings), format, output)


@questions.command
def duplicates(  # a person's choices
    *,
    threshold: Annotated[
        float, Parameter(help="Cosine from which two images are the same.")
    ] = 0.95,
    workspace: Workspace = None,
    pool: Pool = None,
    embeddings: Embeddings = None,
    format: Format = None,  # noqa: A002
    output: Output = None,
) -> None:
    """Show images that are equal, or nearly."""
    from tasks.query.questions import duplicates as ask  # noqa: PLC0415

    place = workspace_of(workspace)
    _show(ask(place, threshold, pool=pool, embeddings=embeddings), format, output)


@questions.command
def outliers(  # a person's choices
    *,
    k: int = 20,
    workspace: Workspace = None,
    pool: Pool = None,
    embeddings: Embeddings = None,
    format: Format = None,  # noqa: A002
    output: Output = None,
) -> None:
    """Show the images least like the others of the class they were put in."""
    from tasks.query.questions import outliers as ask  # noqa: PLC0415

    _show(ask(workspace_of(workspace), k, pool=pool, embeddings=embeddings), format, output)


@questions.command
def disagreements(  # a person's choices
    *,
    k: int = 20,
    workspace: Workspace = None,
    pool: Pool = None,
    format: Format = None,  # noqa: A002
    output: Output = None,
) -> None:
    """Show the images on which the models disagree most surely."""
    from tasks.query.questions import disagreements as ask  # noqa: PLC0415

    _show(ask(workspace_of(workspace), k, pool=pool), format, output)


@questions.command
def doctor(
    *,
    backbone: Annotated[str | None, Parameter(help="Also say whether this one fits.")] = None,
    workspace: Workspace = None,
) -> None:
    """Say what is installed, which devices and servers answer, what would be downloaded."""
    from tasks.doctor.checks import diagnose, to_text  # noqa: PLC0415

    found = diagnose(backbone, workspace_of(workspace))
    sys.stdout.write(f"{to_text(found).rstrip()}\n")
    if bad := [check.name for check in found if check.ok is False]:
        raise InputError(f"not well: {', '.join(bad)}; the lines above say what to do")


def _show(table: Any, form: Format, output: str | None) -> None:
    """Write a table to a file, or to the terminal as a person or a program reads it."""
    from tasks.query.output import to_bytes, to_text, write_output  # noqa: PLC0415

    if output is not None:
        write_output(table, output, form)
    elif form is None:
        sys.stdout.write(f"{to_text(table).rstrip()}\n")
    elif form == "parquet" and sys.stdout.isatty():
        raise InputError("Parquet is not for a terminal: add --output FILE.")
    else:
        sys.stdout.buffer.write(to_bytes(table, form))
