"""The commands that ask: SQL over a workspace, four named questions, and is all well here."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from flows.commands.options import Workspace, workspace_of
from tasks.on_demand import OnDemand
from tasks.specs import InputError

if TYPE_CHECKING:
    from tasks.doctor import checks, repair
    from tasks.query import output as outputs
    from tasks.query import questions, sandbox
else:
    repair = OnDemand("tasks.doctor.repair")
    checks, sandbox = OnDemand("tasks.doctor.checks"), OnDemand("tasks.query.sandbox")
    outputs, questions = OnDemand("tasks.query.output"), OnDemand("tasks.query.questions")

Embeddings = Annotated[str | None, Parameter(help="Start of a digest; the backbone's by default.")]
Format = Annotated[
    Literal["csv", "json", "parquet"] | None, Parameter(help="Else a table, or the file's ending.")
]
Output = Annotated[str | None, Parameter(help="File or URI to write to.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Asked:
    """Which images are asked about, and where the answer goes."""

    workspace: Workspace = None
    pool: Annotated[
        str | None, Parameter(help="Start of a pool's digest; the newest by default.")
    ] = None
    format: Format = None
    output: Output = None

    @property
    def place(self) -> str:
        """Return the workspace."""
        return workspace_of(self.workspace)

    def show(self, table: Any) -> None:
        """Write a table to a file, or to the terminal as a person or a program reads it."""
        if self.output is not None:
            outputs.write_output(table, self.output, self.format)
        elif self.format is None:
            sys.stdout.write(f"{outputs.to_text(table).rstrip()}\n")
        elif self.format == "parquet" and sys.stdout.isatty():
            raise InputError("Parquet is not for a terminal: add --output FILE.")
        else:
            sys.stdout.buffer.write(outputs.to_bytes(table, self.format))


def query(sql: str, *, embeddings: Embeddings = None, asked: Asked = Asked()) -> None:
    """Ask in SQL: views images, quarantine, embeddings, labels, predictions; reading only."""
    asked.show(sandbox.run_sql(asked.place, sql, pool=asked.pool, embeddings=embeddings))


def similar(
    image: Annotated[str, Parameter(help="Image id, URI, or the start of one.")],
    *,
    k: int = 10,
    embeddings: Embeddings = None,
    asked: Asked = Asked(),
) -> None:
    """Show the images most like one image."""
    asked.show(questions.similar(asked.place, image, k, pool=asked.pool, embeddings=embeddings))


def duplicates(
    *,
    threshold: Annotated[
        float, Parameter(help="Cosine from which two images are the same.")
    ] = 0.95,
    embeddings: Embeddings = None,
    asked: Asked = Asked(),
) -> None:
    """Show images that are equal, or nearly."""
    asked.show(questions.duplicates(asked.place, threshold, pool=asked.pool, embeddings=embeddings))


def outliers(*, k: int = 20, embeddings: Embeddings = None, asked: Asked = Asked()) -> None:
    """Show the images least like the others of the class they were put in."""
    asked.show(questions.outliers(asked.place, k, pool=asked.pool, embeddings=embeddings))


def disagreements(*, k: int = 20, asked: Asked = Asked()) -> None:
    """Show the images on which the models disagree most surely."""
    asked.show(questions.disagreements(asked.place, k, pool=asked.pool))


def doctor(
    *,
    backbone: Annotated[str | None, Parameter(help="Also say whether this one fits.")] = None,
    repair_dead: Annotated[
        bool,
        Parameter(
            name="--repair", help="End what dead processes left as running here.", negative=""
        ),
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Say what is installed, which devices and servers answer, what would be downloaded."""
    if repair_dead:
        for line in repair.repair(workspace_of(workspace)):
            sys.stdout.write(f"repaired  {line}\n")
    results = checks.diagnose(backbone, workspace_of(workspace))
    sys.stdout.write(f"{checks.to_text(results).rstrip()}\n")
    if bad := [check.name for check in results if check.ok is False]:
        raise InputError(f"not well: {', '.join(bad)}; the lines above say what to do")
