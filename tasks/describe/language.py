"""The language model of a run: checked before anything slow begins, converted once, mapped."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from clipcore.libra.shape import CONFIG, UnsupportedLanguage, read_shape
from tasks.compute.calls import run_tasks
from tasks.describe.checks import GGUF, HUB, LOCAL, check_language, split_name
from tasks.describe.specs import LanguageSpec
from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.specs import InputError, RuntimeSpec, Spec
from tasks.storage.digests import fingerprint
from tasks.storage.files import content_hash, local_copy, open_write
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join

if TYPE_CHECKING:
    import huggingface_hub
    from huggingface_hub import errors

    from clipcore.libra import captions, gguf_file, language
else:  # a refusal does not wait for PyTorch
    captions = OnDemand("clipcore.libra.captions")
    huggingface_hub, errors = OnDemand("huggingface_hub"), OnDemand("huggingface_hub.errors")
    language, gguf_file = OnDemand("clipcore.libra.language"), OnDemand("clipcore.libra.gguf_file")

FILES = ("config.json", "tokenizer.json", "*.safetensors", "model.safetensors.index.json")


class LanguageRef(Spec):
    """A language model that was found, fits, and can be loaded again by any worker."""

    name: str
    uri: str
    sha256: str
    num_layers: int
    hidden_size: int


@step("find language model")
def find_language(spec: LanguageSpec, runtime: RuntimeSpec) -> LanguageRef:
    """Find a language model; a GGUF file is converted once, in a worker, into the workspace.

    Raises:
        InputError: it cannot be run, or is another one than was asked for.
    """
    check_language(spec)
    kind, place = split_name(spec.name)
    uri = place
    if kind != LOCAL:
        digest = fingerprint(Folder.LANGUAGES, _identity(kind, place))
        uri = in_workspace(runtime.workspace, Folder.LANGUAGES, digest)

        def compute() -> Outcome:
            if kind == HUB:
                _download(place, uri)
            else:
                say(f"Converting {place} once, half a minute.")
                list(run_tasks(_convert, [(place, uri)], runtime=runtime))
            return Outcome(parts=())

        once(uri, kind=Folder.LANGUAGES, digest=digest, label="Language model", compute=compute)
    ((_, found),) = run_tasks(_identify, [(spec.name, uri)], runtime=runtime)
    if kind != GGUF and spec.sha256 not in (None, found.sha256):
        raise InputError(
            f"--llm {spec.name}: expected weights with the SHA-256 {spec.sha256}, found "
            f"{found.sha256}. Bring these, or leave --llm-sha256 out."
        )
    say(
        f"Language model {spec.name}: {found.num_layers} layers of {found.hidden_size}, weights "
        f"{found.sha256[:12]}; it stays as it is"
    )
    reference: LanguageRef = found
    return reference


def _identity(kind: str, place: str) -> str:
    return content_hash(place) if kind == GGUF else f"{kind}{place}"


def _download(name: str, folder: str) -> None:
    """Fetch a model of the hub into the workspace, where a person sees how far it is."""
    try:
        found = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(FILES)))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--llm hf-hub:{name}: it cannot be fetched: {reason}") from error
    try:
        read_shape(found)
        captions.load_vocabulary(found)
    except UnsupportedLanguage as error:
        raise InputError(f"--llm hf-hub:{name}: {error}") from error
    _copy(found, folder)


def _copy(source: Path, folder: str) -> None:
    names = sorted({path for pattern in FILES for path in source.glob(pattern)})
    for path in sorted(names, key=lambda path: path.name == CONFIG):
        with path.open("rb") as source_file, open_write(join(folder, path.name)) as target:
            shutil.copyfileobj(source_file, target)


def _convert(path: str, folder: str) -> None:
    with TemporaryDirectory(prefix="coft-language-") as temporary:
        try:
            gguf_file.convert(Path(path), Path(temporary))
        except UnsupportedLanguage as error:
            raise InputError(str(error)) from error
        _copy(Path(temporary), folder)


def _identify(name: str, uri: str) -> LanguageRef:
    """Load a language model once, to know that it fits and which one it is."""
    with local_copy(uri) as folder:
        try:
            found = language.load(folder)
        except UnsupportedLanguage as error:
            raise InputError(f"--llm {name}: {error}") from error
        return LanguageRef(
            name=name,
            uri=uri,
            sha256=found.sha256(),
            num_layers=found.shape.num_hidden_layers,
            hidden_size=found.shape.hidden_size,
        )
