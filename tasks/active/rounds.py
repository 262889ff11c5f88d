"""Rounds as files: one folder a round, never changed once its `state.json` is there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout
from pydantic import Field

from tasks.active.checks import check_strategies, settle_start
from tasks.active.specs import RoundsSpec
from tasks.answers.record import merge
from tasks.plan.facts import Plan
from tasks.refs import AnswersRef, BackboneRef, ImagesRef, TaskRef
from tasks.specs import InputError, RuntimeSpec, Spec
from tasks.storage.files import content_hash, exists, names_in, read_json, write_json
from tasks.storage.layout import Folder, check_workspace, claim_workspace, in_workspace
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import absolute, is_local, join, local_path, redact
from tasks.tracking.versions import check_name

SESSION = "session.json"
PIN = "pin.json"
PLAN = "plan.json"  # what was understood when the rounds began; may be absent
STATE = "state.json"
QUERY_FILE = "query.parquet"
ANSWERS_FILE = "answers.parquet"
SHEET = "contact-sheet.html"
LABEL_STUDIO = "label-studio"
SCORES = "scores"
COURSE = "report.html"
LOCK = "lock"


class Outlook(Spec):
    """What one more round may bring, as shares of the images; see `clipcore.active.stopping`."""

    most: float
    expected: float
    worth_it: bool


class RoundState(Spec):
    """What a finished round says of itself; its `state.json`."""

    number: int = Field(ge=0)
    num_labels: int = Field(ge=0, description="Answers that the round was trained on.")
    num_asked: int = Field(ge=0, description="Images asked about so far, this query included.")
    query_size: int = Field(ge=0)
    accuracy: float | None = None
    zero_shot_accuracy: float | None = None
    transductive: bool = Field(default=False, description="Measured on unanswered pool images.")
    healthy: bool = True
    verdict: str = ""
    answers_per_class: dict[str, int] = Field(default_factory=dict)
    predicted_per_class: dict[str, int] = Field(default_factory=dict)
    churn: float | None = Field(None, description="Share of predictions that changed.")
    surer: float | None = Field(None, description="Rise of the clean probability where they did.")
    outlook: Outlook | None = None
    model_uri: str | None = None
    model_version: str | None = None
    seconds: float = 0.0


class Rounds(Spec):
    """Rounds under a name, and how far they are."""

    spec: RoundsSpec
    folder: str
    states: tuple[RoundState, ...] = ()

    @property
    def number(self) -> int:
        """Return the number of the next round."""
        return len(self.states)

    @property
    def finished(self) -> bool:
        """Say whether the last round asked nothing: the budget is spent, or the pool."""
        return bool(self.states) and self.states[-1].query_size == 0

    def round_folder(self, number: int) -> str:
        """Return where a round's files are."""
        return join(self.folder, f"round-{number:02d}")


def rounds_folder(workspace: str, name: str) -> str:
    """Return where rounds are kept."""
    return in_workspace(workspace, Folder.ROUNDS, name)


def start_rounds(spec: RoundsSpec, plan: Plan | None = None) -> Rounds:
    """Write down what was asked for, under its name; the same again changes nothing.

    Where the rounds run is not written down: the next command may come from elsewhere.

    Args:
        spec: What was asked for.
        plan: What was understood of it, for the report.

    Raises:
        InputError: the name is taken by rounds with other settings, or one of them is wrong.
    """
    spec = check_rounds(spec)
    runtime = spec.active.run.runtime
    claim_workspace(runtime.workspace)
    folder = rounds_folder(runtime.workspace, spec.name)
    uri = join(folder, SESSION)
    if exists(uri):
        return open_rounds(runtime, spec.name)
    if plan is not None:
        write_json(join(folder, PLAN), plan)
    nowhere = _with_runtime(spec, RuntimeSpec(workspace="memory://"))
    write_json(uri, nowhere.model_dump(mode="json"))
    return Rounds(spec=spec, folder=folder)


def check_rounds(spec: RoundsSpec) -> RoundsSpec:
    """Return rounds as they are to be written down; nothing is.

    Raises:
        InputError: the name is taken by rounds with other settings, or one of them is wrong.
    """
    check_strategies(spec.active.query.strategy, option="--strategy")
    if spec.active.run.register_as is not None:
        check_name(spec.active.run.register_as)
    runtime, spec = spec.active.run.runtime, _settled(spec)
    uri = join(rounds_folder(runtime.workspace, spec.name), SESSION)
    if exists(uri):
        existing = _with_runtime(RoundsSpec.model_validate(read_json(uri)), runtime)
        if differing := _differing(existing, spec):
            raise InputError(
                f"Rounds named {spec.name!r} exist with other settings ({', '.join(differing)}). "
                f"Go on with `coft active next --name {spec.name}`, or give the new ones another "
                "--name."
            )
    return spec


def _settled(spec: RoundsSpec) -> RoundsSpec:
    """Return the spec as it is to be read in another folder, and another day."""
    pool = spec.active.run.pool
    given = {name: getattr(pool, name) for name in ("images", "test", "classes", "labels")}
    paths = {
        name: absolute(value)
        for name, value in given.items()
        if value is not None and (name in ("images", "test") or exists(value))
    }
    run = spec.active.run.model_copy(update={"pool": pool.model_copy(update=paths)})
    start = settle_start(spec.active.start, run.runtime)
    return spec.model_copy(
        update={"active": spec.active.model_copy(update={"run": run, "start": start})}
    )


def _with_runtime(spec: RoundsSpec, runtime: RuntimeSpec) -> RoundsSpec:
    run = spec.active.run.model_copy(update={"runtime": runtime})
    return spec.model_copy(update={"active": spec.active.model_copy(update={"run": run})})


def open_rounds(runtime: RuntimeSpec, name: str) -> Rounds:
    """Return rounds as far as they are, to go on where and how wide `runtime` says.

    Raises:
        InputError: there are none of that name.
    """
    check_workspace(runtime.workspace)
    folder = rounds_folder(runtime.workspace, name)
    uri = join(folder, SESSION)
    if not exists(uri):
        raise InputError(
            f"No rounds named {name!r} in {redact(runtime.workspace)}. Start them with "
            "`coft active start --images ... --budget N --per-round B`."
        )
    spec = _with_runtime(RoundsSpec.model_validate(read_json(uri)), runtime)
    states: list[RoundState] = []
    while exists(state := join(folder, f"round-{len(states):02d}", STATE)):
        states.append(RoundState.model_validate(read_json(state)))
    return Rounds(spec=spec, folder=folder, states=tuple(states))


@contextmanager
def hold_rounds(runtime: RuntimeSpec, name: str) -> Iterator[Rounds]:
    """Open rounds for one command alone; however its process ends, the next one can follow.

    Only on a disk: a bucket knows no locks, and there the caller sees to it.

    Raises:
        InputError: there are no such rounds, or another command is at work on them.
    """
    rounds = open_rounds(runtime, name)
    if not is_local(rounds.folder):
        yield rounds
        return
    lock = FileLock(local_path(join(rounds.folder, LOCK)), blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"Another command is at work on the rounds {name!r}. Wait until it ends; "
            f"`coft active status --name {name}` shows how far they are."
        ) from error
    try:
        yield open_rounds(runtime, name)  # the other command may have finished a round
    finally:
        lock.release()


def num_answered(answers: AnswersRef) -> int:
    """Return how much of the budget is spent: labels and "none of these", no skips or conflicts."""
    kinds = read_table(answers.uri, ["kind"])["kind"].to_pylist()
    return sum(kind in ("label", "none") for kind in kinds)


def has_labels(answers: AnswersRef) -> bool:
    """Return whether anybody named the class of an image."""
    return "label" in read_table(answers.uri, ["kind"])["kind"].to_pylist()


def read_query(rounds: Rounds, number: int) -> pa.Table:
    """Return what a finished round asked."""
    return read_table(join(rounds.round_folder(number), QUERY_FILE))


def asked_ids(rounds: Rounds) -> set[str]:
    """Return the ids of all images that were asked about."""
    asked = [read_query(rounds, state.number)["image_id"].to_pylist() for state in rounds.states]
    return {image for ids in asked for image in ids}


def only_name(workspace: str) -> str:
    """Return the name of the rounds in a workspace that has one.

    Raises:
        InputError: there is none, or a name has to say which.
    """
    names = sorted(names_in(in_workspace(workspace, Folder.ROUNDS)))
    if len(names) == 1:
        return names[0]
    where = redact(workspace)
    if names:
        raise InputError(f"There are several rounds in {where}; say --name {' or '.join(names)}.")
    raise InputError(
        f"There are no rounds in {where}. Start some with `coft active start --images ... "
        "--budget N --per-round B`, or name the --workspace that has them."
    )


def unanswered(rounds: Rounds) -> int:
    """Return how many images of the last query have no answer yet; a conflict is none."""
    if not rounds.states or rounds.finished:
        return 0
    decided = merge(rounds.folder)
    answered = decided.filter(pc.not_equal(decided["kind"], "conflict"))["image_id"].to_pylist()
    last = read_query(rounds, rounds.number - 1)["image_id"].to_pylist()
    return len(set(last) - set(answered))


def has_news(rounds: Rounds) -> bool:
    """Say whether answers came in, or changed, since the last round was trained."""
    if not rounds.states:
        return True
    last = join(rounds.round_folder(rounds.number - 1), ANSWERS_FILE)
    return not merge(rounds.folder).equals(read_table(last))


def pin(rounds: Rounds, images: ImagesRef, task: TaskRef, backbone: BackboneRef) -> None:
    """Hold the rounds to the images, classes and backbone that their first round saw.

    The images count by their content: a copy of them on another machine is as good.

    Raises:
        InputError: they are others now, so that scores of one round would not fit the next.
    """
    uri = join(rounds.folder, PIN)
    now = {
        "images": images.digest,
        "classes": list(task.classes),
        "backbone": backbone.weights_sha256,
    }
    if not exists(uri):
        write_json(uri, now)
        return
    if changed := [name for name, value in read_json(uri).items() if value != now[name]]:
        raise InputError(
            f"The {' and '.join(changed)} of the rounds {rounds.spec.name!r} changed since they "
            "began. Put them back, or start rounds with another --name; the answers so far can be "
            "given to those too."
        )


def check_next(rounds: Rounds) -> None:
    """Refuse a round that would repeat the last one.

    Raises:
        InputError: nothing of the last query is answered.
    """
    last = rounds.states[-1].query_size if rounds.states else 0
    if last and not exists(_fixed(rounds)) and unanswered(rounds) == last:
        raise InputError(
            f"None of the {last} images of round {rounds.number - 1} is answered. Give answers "
            f"with `coft active answer FILE --name {rounds.spec.name}`; some are enough."
        )


def _fixed(rounds: Rounds) -> str:
    """Return where the answers are that the next round is trained on."""
    return join(rounds.round_folder(rounds.number), ANSWERS_FILE)


def fix_answers(rounds: Rounds) -> AnswersRef:
    """Return what the next round knows, fixed in its folder at its first attempt.

    A round that was killed is repeated with the answers that it had; later ones are for the next.

    Raises:
        InputError: nothing of the last query is answered, so the round would repeat the last one.
    """
    check_next(rounds)
    uri = _fixed(rounds)
    if not exists(uri):
        write_table(uri, merge(rounds.folder))
    kinds = read_table(uri, ["kind"])["kind"].to_pylist()
    return AnswersRef(
        uri=uri,
        digest=content_hash(uri)[:16],
        rows=len(kinds),
        num_labels=kinds.count("label"),
    )


def _differing(one: RoundsSpec, two: RoundsSpec) -> Sequence[str]:
    """Return the settings, by dotted name, in which two specs differ; where they run is none."""
    left, right = (flatten(spec.model_dump(mode="json")) for spec in (one, two))
    ignored = ("active.run.runtime.", "active.run.command")
    return sorted(
        name
        for name in left.keys() | right.keys()
        if left.get(name) != right.get(name) and not name.startswith(ignored)
    )


def flatten(value: object, name: str = "") -> dict[str, object]:
    """Return nested settings by dotted name."""
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, object] = {}
    for key, inner in value.items():
        flat.update(flatten(inner, f"{name}.{key}" if name else str(key)))
    return flat
