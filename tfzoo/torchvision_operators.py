"""Lets `import torchvision` succeed where its compiled operators cannot be loaded.

A torch build without CUDA beside a CUDA-built torchvision wheel cannot load torchvision's compiled library, and
`torchvision/_meta_registrations.py` then fails with `operator torchvision::nms does not exist`, and with it
lightning, torchmetrics and timm. Image transforms need none of these operators, so declaring their names is enough.
The declaration waits until torchvision is about to be imported: `import tfzoo` alone stays free of torch.
"""

import importlib.abc
import importlib.machinery
import re
import sys
from pathlib import Path


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """A finder that finds nothing: it declares the operators when torchvision is first looked for, and retires."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            spec = importlib.machinery.PathFinder.find_spec("torchvision")
            if spec is not None and spec.origin is not None:
                declare_missing_operators(Path(spec.origin).parent)
        return None


def install() -> None:
    """Arrange for the operators to be declared before torchvision's first import; does nothing after it."""
    if "torchvision" not in sys.modules and not any(
        isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _BeforeTorchvision())


def declare_missing_operators(package: Path) -> list[str]:
    """Declare the operators that torchvision in `package` gives fake kernels to, if its library does not load.

    Returns the names declared: none where torch has CUDA (or ROCm) or where the compiled library loads, since its
    own definitions would then clash with ours.
    """
    import torch

    if torch.version.cuda or torch.version.hip or _library_loads(package):
        return []
    source = (package / "_meta_registrations.py").read_text(encoding="utf-8")
    names = [
        f"torchvision::{name}"
        for name in re.findall(r"""register_fake\(\s*["']torchvision::(\w+)["']""", source)
        if not hasattr(torch.ops.torchvision, name)  # declared before an import that failed
    ]
    for name in names:
        torch.library.define(name, "(Tensor _) -> Tensor")
    return names


def _library_loads(package: Path) -> bool:
    import torch

    libraries = [*package.glob("_C*.so"), *package.glob("_C*.pyd")]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return bool(libraries)
