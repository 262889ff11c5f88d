"""The language model of a model that captions: refused before PyTorch is there, where it can be."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clipcore.libra.shape import UnsupportedLanguage, read_shape
from tasks.on_demand import OnDemand
from tasks.refs import ModelKind
from tasks.specs import InputError, RuntimeSpec
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.uris import is_local, local_path
from tasks.tracking.registry_model import evidence_of, is_registered
from tasks.tracking.versions import KIND, LLM_HASH, LLM_INCLUDED, LLM_NAME

if TYPE_CHECKING:
    from clipcore.libra import source
else:  # needs a package of the extra `libra`
    source = OnDemand("clipcore.libra.source")


def check_language(meant: str, llm: str | None, runtime: RuntimeSpec) -> None:
    """Refuse a model whose language model nobody names, or names in vain.

    The weights are compared when they are loaded. A model of another kind has none.

    Args:
        meant: A version or a folder, of `check_model`.
        llm: Folder of the language model; by default what the environment names.
        runtime: Workspace and cluster.

    Raises:
        InputError: says what was expected, and what to do.
    """
    with told(meant):
        if is_registered(meant):
            _check_registered(evidence_of(meant, runtime), llm)
        elif is_local(meant):
            _check_folder(Path(local_path(meant)), llm)


def named(llm: str | None) -> Path | None:
    """Return the folder that was named, here or in the environment."""
    return Path(llm) if llm else source.language_from_environment()


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Tell what is wrong with a language model in words for a person.

    Raises:
        InputError: names the model that needs it.
    """
    try:
        yield
    except UnsupportedLanguage as error:
        raise InputError(f"{uri}: {error}") from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"{uri} needs the package {error.name}; install coft with its extra libra: "
            "pip install 'coft[libra]'."
        ) from error


def _check_folder(folder: Path, llm: str | None) -> None:
    description = read_json(str(folder / DESCRIPTION))
    if description.get(KIND) != ModelKind.LIBRA:
        return
    found = source.find_source(folder, description["language"], named(llm))
    source.read_sentences(found, description["classes"], description["template"])


def _check_registered(evidence: Mapping[str, str], llm: str | None) -> None:
    """Check what can be known before the files of a version are fetched."""
    if evidence.get(KIND) != ModelKind.LIBRA or evidence.get(LLM_INCLUDED) != str(False):
        return
    folder = named(llm)
    if folder is None:
        about = f"{evidence.get(LLM_NAME)}, whose weights have the hash"
        raise source.not_named(f"{about} {evidence.get(LLM_HASH, '')[:12]}")
    read_shape(folder)
