"""Write a bundle as a model folder that MLflow loads without coft, pickle or network.

The folder holds the bundle (JSON and safetensors), the file `tasks/serving/pyfunc_model.py` as
code, and the modules of clipcore that it needs. It contains no pickled Python object.
"""

import ast
import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import clipcore
from clipcore.image_files import FORMATS
from clipcore.rows import INPUTS
from tasks import serving
from tasks.specs import InputError

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature

BUNDLE = "bundle"  # name of the folder among the artifacts of the pyfunc
CODE = Path(serving.__file__).parent / "pyfunc_model.py"
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
        bundle: Folder that `save_classifier` wrote.
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
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        mlflow.pyfunc.save_model(
            path=str(target),
            python_model=str(CODE),
            artifacts={BUNDLE: str(bundle)},
            code_paths=[str(_copy_clipcore(Path(folder)))],
            signature=signature(),
            input_example=input_example(),
            pip_requirements=requirements(),
            model_config={"device": "auto"},  # only what is named here can be chosen at load
            mlflow_model=model,
        )
    _make_relocatable(model, target)
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)


def signature() -> "ModelSignature":
    """Return the columns of requests and answers; the docstring of `predict` explains each.

    `probabilities` is a map and not an array, so that an answer holds the class names, and can be
    cut to the first `top_k`. `image` is a string and not binary, because MLflow's server fails on
    null in a binary column; bytes pass all the same.
    """
    from mlflow.models import ModelSignature  # noqa: PLC0415 # slow to import, see store.connect
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415
    from mlflow.types.schema import Map  # noqa: PLC0415

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, name, required=False) for name in INPUTS]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "label"),
                ColSpec(DataType.double, "score"),
                ColSpec(Map(DataType.double), "probabilities"),
                ColSpec(DataType.string, "error", required=False),
            ]
        ),
        params=ParamSchema([ParamSpec("top_k", DataType.long, 0)]),
    )


def input_example() -> "tuple[object, dict[str, int]]":
    """Return a request: a table with one PNG of 32 x 32 pixels, and parameters."""
    import pandas as pd  # noqa: PLC0415 # comes with MLflow, and is as slow to import

    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32))], axis=2)
    pixels = np.concatenate([pixels, np.full((32, 32, 1), 128, np.uint8)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return pd.DataFrame({"image": [buffer.getvalue()]}), {"top_k": 3}


def requirements() -> list[str]:
    """Return the packages of the model, pinned to the installed versions.

    The local part of a version ("+cpu") is left out, because package indexes do not have it.
    """
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _PACKAGES]


def _make_relocatable(model: "Model", target: Path) -> None:
    """Replace absolute paths in the model's description by paths inside the model folder."""
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    flavor["artifacts"][BUNDLE]["uri"] = flavor["artifacts"][BUNDLE]["path"]
    model.save(str(target / "MLmodel"))


def _copy_clipcore(folder: Path) -> Path:
    """Copy the modules of clipcore that a served classifier imports, and no weights."""
    source, target = Path(clipcore.__file__).parent, folder / "clipcore"
    for module in _closure(source, _imports(CODE, source.name)):
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
