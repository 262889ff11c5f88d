"""Class sentences that a language model writes: asked for once, kept by content, checked."""

from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from pydantic import Field, ValidationError

from tasks.progress import progress, say
from tasks.sentences.address import check_endpoint
from tasks.sentences.candidates import ENDPOINT, Candidate
from tasks.sentences.checking import add_up
from tasks.sentences.endpoint import Endpoint, Failure, NoAnswer
from tasks.sentences.question import body, question, sentences_in
from tasks.sentences.record import Asked, Exchange
from tasks.sentences.words import reasons
from tasks.specs import EndpointSpec, GaveUp, Spec
from tasks.storage.digests import ShardMismatch, fingerprint
from tasks.storage.files import exists, names_in, read_bytes, write_json
from tasks.storage.layout import Folder, in_workspace

PATIENCE = 3  # classes in a row without an answer, after which no more are asked about
SHOWN = 2000  # characters of an answer in the report


class Answer(Spec):
    """What a model wrote about a class, as it is kept in the workspace."""

    text: str
    num_tokens: int = Field(0, ge=0)


def ask(
    classes: Sequence[str], spec: EndpointSpec, workspace: str, *, first_pause: float = 1.0
) -> tuple[Candidate, Asked]:
    """Return the sentences that an endpoint wrote, and what it was asked and answered.

    Answers that are in the workspace are not asked for again; those that failed are.

    Args:
        classes: The classes.
        spec: The endpoint, and how much may be used of it.
        workspace: Where answers are kept.
        first_pause: Seconds before a call is tried again; they double.

    Raises:
        InputError: its address cannot be used, or it refuses.
        GaveUp: it answered nothing at all.
    """
    with Endpoint(spec, check_endpoint(spec), first_pause=first_pause) as endpoint:
        answers, failures = _all_answers(classes, spec, workspace, endpoint)
    checked = {name: sentences_in(text, name, classes) for name, text in answers.items()}
    own = {name: tuple(kept) for name, (kept, _) in checked.items() if kept}
    exchanges = tuple(
        Exchange(about=name, answer=answers[name][:SHOWN], dropped=dict(dropped))
        for name, (_, dropped) in checked.items()
    )
    used = endpoint.budget
    asked = Asked(
        url=spec.url,
        model=spec.model,
        prompt=question("{class}"),
        exchanges=exchanges,
        num_calls=used.used_calls,
        num_tokens=used.used_tokens,
        failures=dict(failures),
    )
    return Candidate(ENDPOINT, own, add_up(dropped for _, dropped in checked.values())), asked


def check_asking(classes: Sequence[str], spec: EndpointSpec, workspace: str) -> None:
    """Refuse an endpoint that cannot be asked, unless all that it would be asked is known.

    Raises:
        InputError: its address cannot be used, nobody answers, or it refuses the key.
    """
    key = check_endpoint(spec)
    known = names_in(in_workspace(workspace, Folder.COMPLETIONS))
    if any(_file_name(name, spec) not in known for name in classes):
        with Endpoint(spec, key) as endpoint:
            endpoint.check()


def _all_answers(
    classes: Sequence[str], spec: EndpointSpec, workspace: str, endpoint: Endpoint
) -> tuple[dict[str, str], Counter[str]]:
    """Return the answers, and how many classes have none for which reason."""
    answers, failures = dict[str, str](), Counter[str]()
    in_a_row, last = 0, ""
    names, waiting = iter(classes), deque[tuple[str, Future[str]]]()
    with (
        progress("Ask for class sentences", len(classes), unit="classes") as advance,
        ThreadPoolExecutor(spec.at_once) as threads,
    ):
        while len(answers) + failures.total() < len(classes):
            width = spec.at_once if answers else 1  # one at a time, until it is seen to work
            for name in islice(names, width - len(waiting)):
                is_well = in_a_row < PATIENCE
                answer = threads.submit(_answer, name, spec, workspace, endpoint, asking=is_well)
                waiting.append((name, answer))
            name, answer = waiting.popleft()
            try:
                answers[name] = answer.result()
                in_a_row = 0
            except NoAnswer as error:
                failures[error.failure] += 1
                in_a_row, last = in_a_row + 1, str(error) if in_a_row < PATIENCE else last
            advance(1)
    if not answers:
        msg = f"--endpoint {spec.url}: nothing was answered; the last call: {last}. Check that the "
        raise GaveUp(f"{msg}server is well; the same command goes on from here.")
    if failures:
        say(f"Class sentences: no answer about some classes ({reasons(failures)})")
    return answers, failures


def _answer(
    name: str, spec: EndpointSpec, workspace: str, endpoint: Endpoint, *, asking: bool
) -> str:
    """Return the answer about a class, from the workspace if it is there.

    Raises:
        NoAnswer: there is none.
    """
    uri = in_workspace(workspace, Folder.COMPLETIONS, _file_name(name, spec))
    if (known := _known(uri)) is not None:
        return known
    if not asking:
        raise NoAnswer(Failure.NOT_ASKED)
    text, num_tokens = endpoint.complete(body(spec.model, name))
    write_json(uri, Answer(text=text, num_tokens=num_tokens))
    return text


def _file_name(name: str, spec: EndpointSpec) -> str:
    """Return where the answer to a question is kept: by its content."""
    return f"{fingerprint(Folder.COMPLETIONS, spec.url, body(spec.model, name))}.json"


def _known(uri: str) -> str | None:
    if not exists(uri):
        return None
    try:
        return Answer.model_validate_json(read_bytes(uri)).text
    except (ValidationError, ShardMismatch):  # half of a file: asked for again
        return None
