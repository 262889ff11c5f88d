"""What `coft describe` is refused for before anything slow begins."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from clipcore.libra.shape import (
    UnsupportedLanguage,
    architecture_of_gguf,
    check_architecture,
    read_shape,
)
from tasks.describe.specs import DescribeSpec, LanguageSpec
from tasks.on_demand import OnDemand
from tasks.pool.listed import handed_over
from tasks.specs import InputError
from tasks.storage.files import content_hash

if TYPE_CHECKING:
    from clipcore.libra import captions
    from clipcore.libra.captions import Captions, Vocabulary
else:  # its package may be missing, which is told in a sentence
    captions = OnDemand("clipcore.libra.captions")

GGUF, LOCAL, HUB = "gguf:", "local-dir:", "hf-hub:"
OF_GGUF = ("transformers", "gguf", "accelerate")


def check_language(spec: LanguageSpec) -> None:
    """Refuse a language model that cannot be run, from the first bytes of its files.

    Raises:
        InputError: says what was expected, and what to do.
    """
    kind, place = split_name(spec.name)
    _check_installed(spec.name, "tokenizers", *(OF_GGUF if kind == GGUF else ()))
    try:
        if kind == GGUF:
            _check_gguf(Path(place), spec.sha256)
        elif kind == LOCAL:
            read_shape(Path(place))
            captions.load_vocabulary(Path(place))
    except UnsupportedLanguage as error:
        raise InputError(f"--llm {spec.name}: {error}") from error


def check_words(spec: DescribeSpec) -> None:
    """Refuse names and prompts that the language model cannot write, where it is here already.

    Raises:
        InputError: says which one, and why.
    """
    kind, place = split_name(spec.llm.name)
    found = handed_over(spec.pool, for_training=True)
    names = ("one", "two") if found is None else found.classes.names
    try:
        captions.check_template(spec.template)
    except captions.UnwritableName as error:
        raise InputError(f"--template {error}") from error
    if kind == LOCAL:
        vocabulary = captions.load_vocabulary(Path(place))
        write_sentences(vocabulary, names, spec.template, spec.prompts)


def write_sentences(
    vocabulary: "Vocabulary", classes: tuple[str, ...], template: str, prompts: tuple[str, ...]
) -> "list[Captions]":
    """Return the captions of the template, and those of each further prompt.

    Raises:
        InputError: a name or a prompt cannot be written.
    """
    mark = template.rpartition("{}")[2]
    try:
        return [
            captions.write_captions(vocabulary, classes, one)
            for one in (template, *(f"{prompt.strip()} {{}}{mark}" for prompt in prompts))
        ]
    except captions.UnwritableName as error:
        raise InputError(str(error)) from error


def split_name(name: str) -> tuple[str, str]:
    """Return the kind of a language model's name, and where it is.

    Raises:
        InputError: it has none.
    """
    for kind in (GGUF, LOCAL, HUB):
        if name.startswith(kind) and len(name) > len(kind):
            place = name.removeprefix(kind)
            return kind, place if kind == HUB else os.path.expanduser(place)  # noqa: PTH111
    raise InputError(
        f"--llm {name}: expected gguf:PATH, local-dir:PATH (transformers' layout) or "
        "hf-hub:ORG/NAME."
    )


def _check_installed(name: str, *packages: str) -> None:
    if missing := [package for package in packages if find_spec(package) is None]:
        raise InputError(
            f"--llm {name} needs the packages {', '.join(missing)}; install coft with its extra "
            "libra: pip install 'coft[libra]'."
        )


def _check_gguf(path: Path, sha256: str | None) -> None:
    check_architecture(architecture_of_gguf(path), str(path))
    if sha256 is not None and (found := content_hash(str(path))) != sha256:
        raise InputError(
            f"--llm gguf:{path}: expected a file with the SHA-256 {sha256}, found {found}. Fetch "
            "it again, or leave --llm-sha256 out."
        )
