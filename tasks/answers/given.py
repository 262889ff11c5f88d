"""Whether answers that a run is to learn from are there: known before anything is read."""

from clipcore.baselines.method_names import LABELLED_NAMES, NAMES
from tasks.annotations.reading import read_answers
from tasks.answers.record import FOLDER
from tasks.specs import InputError, Method
from tasks.storage.files import exists, names_in, reaching
from tasks.storage.uris import join, redact


def check_answers(answers: str | None, method: Method, columns: str | None = None) -> None:
    """Refuse answers that are not there, cannot be read, or that nothing would learn from.

    Raises:
        InputError: in all three cases.
    """
    if answers is None:
        if method in LABELLED_NAMES:
            raise InputError(f"--method {method}: learns from labels; name some with --answers.")
        return
    if method in NAMES:
        raise InputError(
            f"--answers: nothing learns from labels with --method {method}; leave one of them out."
        )
    with reaching(answers):
        is_there = exists(answers)
    if not is_there:
        raise InputError(
            f"--answers {redact(answers)}: expected a file of answers or the folder of "
            "rounds (coft-workspace/rounds/NAME), found nothing there. Check the path."
        )
    if not names_in(join(answers, FOLDER)):
        read_answers(answers, (), columns)
