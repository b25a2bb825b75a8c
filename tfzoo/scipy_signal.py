"""Spares a start the second in which torchmetrics imports scipy.signal, wherever scipy is installed.

torchmetrics gives it back an old name, for a package that nothing here uses. While torchmetrics is imported, a module
that knows this name stands in its place; whatever else is asked of it comes from the real one.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType

NAME = "scipy.signal"


class _BeforeTorchmetrics(importlib.abc.MetaPathFinder):
    """Finds torchmetrics alone, once: it is imported with the stand-in in place, which then goes."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "torchmetrics":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec("torchmetrics")
        if spec is not None and spec.loader is not None and NAME not in sys.modules:
            usual = spec.loader.exec_module

            def exec_module(module):
                stand_in = sys.modules[NAME] = _StandIn(NAME)
                try:
                    usual(module)
                finally:
                    if sys.modules.get(NAME) is stand_in:
                        del sys.modules[NAME]

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _StandIn(ModuleType):
    hamming = None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(
                name
            )  # which modules are asked for by whoever looks through them all
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def spare() -> None:
    """Arrange for it before torchmetrics' first import; does nothing after it."""
    if "torchmetrics" not in sys.modules and not any(
        isinstance(finder, _BeforeTorchmetrics) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _BeforeTorchmetrics())
