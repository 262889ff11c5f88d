"""Modules that take seconds to import, imported when one of their names is first used.

A mistyped word is told at once, and so is `--help`: a module of commands imports what its options
and its first checks need, and a worker what it works with. The rest comes with the first call:

    if TYPE_CHECKING:
        from flows import coft
    else:
        coft = OnDemand("flows.coft")
"""

from importlib import import_module
from typing import Any


class OnDemand:
    """Stands for a module; not in `sys.modules`, so nothing but a use of a name imports it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        """Return what the module calls by that name."""
        if name.startswith("__"):  # asked by tools that look at every global, not by our code
            raise AttributeError(name)
        return getattr(import_module(self._module), name)
