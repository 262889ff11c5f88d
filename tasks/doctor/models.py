"""Checks of backbones: those of the package, whether one fits, and whether its weights exist."""

import os
from pathlib import Path

from clipcore import backbone_names, embedded, published
from clipcore.backbone_names import MissingWeights, UnsupportedBackbone
from clipcore.published import CONFIG, WEIGHTS
from tasks.doctor.findings import Check, fine, note, wrong

DEFAULT = "embedded"
_MIB = 2**20


def check_embedded() -> Check:
    """List the backbones that come with the package."""
    folders = sorted(path.parent for path in Path(embedded.__file__).parent.glob(f"*/{CONFIG}"))
    sizes = {folder.name: _size(folder) for folder in folders}
    if not all(sizes.get(name) for name in (*sizes, embedded.DEFAULT)):
        return wrong("embedded backbones", "weights are missing", "install coft again")
    listed = (f"{name} ({size / _MIB:.0f} MiB)" for name, size in sizes.items())
    return fine("embedded backbones", ", ".join(listed))


def check_backbone(name: str) -> Check:
    """Check from its configuration alone whether coft can adapt a backbone."""
    try:
        source, tag = backbone_names.resolve(name)
        if source.startswith("hf-hub:"):
            snapshot = _snapshot(source.removeprefix("hf-hub:"))
            if snapshot is None:
                return note("backbone", f"{name}: known once it has been downloaded")
            source = f"local-dir:{snapshot}"
        config = backbone_names.read_config(source)
        backbone_names.check_supported(config, name)
        backbone_names.quick_gelu_of(source, tag, config)
    except (UnsupportedBackbone, MissingWeights, ValueError, KeyError) as error:
        return wrong("backbone", str(error))
    kind = "timm image tower" if config["vision_cfg"].get("timm_model_name") else "ViT"
    return fine("backbone", f"{name} fits: {kind}, {config['embed_dim']} dimensions")


def check_weights(name: str) -> Check:
    """Check whether the weights of a backbone are on this machine; otherwise name the download."""
    try:
        source, tag = backbone_names.resolve(name)
    except ValueError:
        return note("weights", f"{name}: see backbone")
    if source.startswith("local-dir:"):
        folder = Path(source.removeprefix("local-dir:"))
        if size := _size(folder):
            return fine("weights", f"{name}: {size / _MIB:.0f} MiB, nothing to download")
        return wrong("weights", f"{name}: no weights in {folder}", "copy them there")
    repository = _repository(source, published.weights_of(source, tag) if tag else {})
    cached = _snapshot(repository) if repository else None
    if cached and _size(cached):
        return fine("weights", f"{name}: cached, nothing to download")
    download = f"{repository} of the Hugging Face hub" if repository else "its published file"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        advice = "unset HF_HUB_OFFLINE, or use 'embedded'"
        return wrong("weights", f"{name}: not cached, and downloads are forbidden", advice)
    return note("weights", f"{name}: the first run downloads {download}")


def _repository(source: str, weights: dict[str, str]) -> str:
    """Return the hub's ORG/NAME that has the weights; an empty text if another server has them."""
    if source.startswith("hf-hub:"):
        return source.removeprefix("hf-hub:").partition("@")[0]
    return "/".join(weights.get("hf_hub", "").split("/")[:2])


def _snapshot(repository: str) -> Path | None:
    """Return the newest snapshot of a repository in the cache of huggingface_hub."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{home}/huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()
    name = f"models--{repository.partition('@')[0].replace('/', '--')}"
    snapshots = sorted(
        (cache / name / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime
    )
    return snapshots[-1] if snapshots else None


def _size(folder: Path) -> int:
    """Return the size of the weights in a folder, in bytes."""
    return sum(path.stat().st_size for kind in WEIGHTS for path in folder.glob(kind))
