"""Backbones that come with the package, so that a first run needs no network."""

from pathlib import Path

from clipcore.published import CONFIG

DEFAULT = "lite0-wordnet"  # for a person's own photos

_FOLDER = Path(__file__).parent


class UnknownEmbeddedBackbone(ValueError):
    """A name that no backbone of this package has."""


def path(name: str) -> Path:
    """Return the folder of an embedded backbone, in open_clip's `local-dir:` layout.

    Raises:
        UnknownEmbeddedBackbone: no folder of that name holds a backbone.
    """
    names = sorted(config.parent.name for config in _FOLDER.glob(f"*/{CONFIG}"))
    if name not in names:
        msg = f"no embedded backbone is called {name!r}; take one of: {', '.join(names) or 'none'}"
        raise UnknownEmbeddedBackbone(msg)
    return _FOLDER / name
