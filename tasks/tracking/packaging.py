"""Write a bundle as a model folder that MLflow loads without coft, pickle or network.

The folder holds the bundle (JSON and safetensors), the file of `tasks/serving/` that answers for
its kind as code, and the modules of clipcore that it needs. It contains no pickled Python object.
"""

import ast
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import clipcore
from clipcore.image_files import FORMATS
from tasks.specs import InputError
from tasks.tracking.bundles import Bundle

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import Model

BUNDLE = "bundle"  # name of the folder among the artifacts of the pyfunc
_SAFE = {".json", ".safetensors"}
_CHUNK = 1 << 20
# Imports of clipcore, and packages for serving, pinned to the installed versions.
_PACKAGES = (
    "mlflow",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "safetensors",
    "pillow",
    "numpy",
    "pandas",
    "jaxtyping",
    *(["pillow-heif"] if "HEIF" in FORMATS else []),
)


def check_bundle(bundle: Path) -> None:
    """Refuse a folder that is no bundle, or holds other files than JSON and safetensors.

    Raises:
        InputError: names the files.
    """
    files = _files(bundle) if bundle.is_dir() else []
    if not (bundle / "model.json").is_file():
        msg = f"expected the folder of a classifier with a model.json at {bundle}, found none"
        raise InputError(msg)
    unsafe = [path.name for path in files if path.suffix not in _SAFE]
    if unsafe:
        msg = f"only JSON and safetensors are registered; {bundle} also holds {', '.join(unsafe)}"
        raise InputError(msg)


def bundle_digest(bundle: Path) -> str:
    """Digest the names and contents of a bundle to 16 hex digits."""
    digest = hashlib.sha256()
    for path in _files(bundle):
        digest.update(f"{path.relative_to(bundle)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def write_model(target: Path, bundle: Path, logged: "LoggedModel") -> None:
    """Write the model folder of a bundle.

    Args:
        target: The folder.
        bundle: Folder of a model, of any kind.
        logged: MLflow's record of the model.
    """
    # Slow to import, see store.connect.
    import mlflow.pyfunc  # noqa: PLC0415
    from mlflow.models import Model  # noqa: PLC0415

    model = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    kind = Bundle.of(bundle)
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        mlflow.pyfunc.save_model(
            path=str(target),
            python_model=str(kind.code),
            artifacts={BUNDLE: str(bundle)},
            code_paths=[str(_copy_clipcore(Path(folder), kind.code))],
            signature=kind.signature(),
            input_example=kind.input_example(),
            pip_requirements=requirements(kind.packages),
            model_config={"device": "auto"},  # only what is named here can be chosen at load
            mlflow_model=model,
        )
    _make_relocatable(model, target)
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)


def requirements(further: Iterable[str] = ()) -> list[str]:
    """Return the packages of the model, and further ones, pinned to the installed versions.

    The local part of a version ("+cpu") is left out, because package indexes do not have it.
    """
    return [
        f"{name}=={metadata.version(name).partition('+')[0]}" for name in (*_PACKAGES, *further)
    ]


def _make_relocatable(model: "Model", target: Path) -> None:
    """Replace absolute paths in the model's description by paths inside the model folder."""
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    flavor["artifacts"][BUNDLE]["uri"] = flavor["artifacts"][BUNDLE]["path"]
    model.save(str(target / "MLmodel"))


def _copy_clipcore(folder: Path, code: Path) -> Path:
    """Copy the modules of clipcore that the code of a served model imports, and no weights."""
    source, target = Path(clipcore.__file__).parent, folder / "clipcore"
    for module in _closure(source, _imports(code, source.name)):
        copy = target / module.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, copy)
    return target


def _closure(source: Path, names: Iterable[str]) -> set[Path]:
    """Return the files of modules in `source`, of their packages, and of all that they import."""
    files: set[Path] = set()
    queue = list(names)
    while queue:
        parts = queue.pop().split(".")[1:]
        packages = [source.joinpath(*parts[:depth], "__init__.py") for depth in range(len(parts))]
        own = [source.joinpath(*parts, "__init__.py"), source.joinpath(*parts).with_suffix(".py")]
        for file in {path for path in (*packages, *own) if path.is_file()} - files:
            files.add(file)
            queue += _imports(file, source.name)
    return files


def _imports(file: Path, package: str) -> Iterator[str]:
    """Yield the names that a file imports from a package: modules, and names inside of modules."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
