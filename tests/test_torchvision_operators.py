"""torchvision can be imported beside a torch that cannot load its compiled operators, and only there is it helped."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tfzoo import torchvision_operators
from tfzoo.torchvision_operators import declare_missing_operators

needs_cpu_build = pytest.mark.skipif(
    bool(torch.version.cuda or torch.version.hip), reason="a CUDA build declares nothing"
)


def package(folder: Path, *operators: str, library: bytes | None = None) -> Path:
    """A fake torchvision that gives fake kernels to `operators`, with or without a compiled library."""
    folder = folder / "torchvision"
    folder.mkdir()
    lines = ["import torch"]
    for name in operators:
        lines += [
            f'@torch.library.register_fake("torchvision::{name}")',
            f"def {name}(x): return x",
        ]
    (folder / "_meta_registrations.py").write_text("\n".join(lines))
    (folder / "__init__.py").write_text("from torchvision import _meta_registrations\n")
    if library is not None:
        (folder / "_C.so").write_bytes(library)
    return folder


def python(code: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """Run `code` in a fresh interpreter that finds packages in `path` first."""
    code = code if path is None else f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@needs_cpu_build
def test_what_gets_fake_kernels_is_declared(tmp_path):
    folder = package(tmp_path, "probe_one", "probe_two", library=b"no library at all")
    names = ["torchvision::probe_one", "torchvision::probe_two"]
    assert declare_missing_operators(folder) == names
    assert torch.ops.torchvision.probe_one.default is not None
    assert declare_missing_operators(folder) == []  # they are there now


@needs_cpu_build
def test_a_package_without_library_is_helped(tmp_path):
    assert declare_missing_operators(package(tmp_path, "probe_three")) == [
        "torchvision::probe_three"
    ]


@needs_cpu_build
def test_nothing_is_declared_where_the_library_loads(tmp_path, monkeypatch):
    folder = package(tmp_path, "probe_four", library=b"")
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert declare_missing_operators(folder) == []
    assert loaded == [str(folder / "_C.so")]


@pytest.mark.parametrize("build", ["cuda", "hip"])
def test_nothing_is_declared_where_torch_has_an_accelerator(tmp_path, monkeypatch, build):
    monkeypatch.setattr(torch.version, build, "13.0")
    assert declare_missing_operators(package(tmp_path, "probe_five")) == []


@pytest.mark.slow
@needs_cpu_build
def test_an_import_that_fails_without_tfzoo_succeeds_with_it(tmp_path):
    """The hook waits for torchvision, whatever else is imported, and then retires."""
    package(tmp_path, "probe_six")
    done = python(
        "def hooks(): return [type(f).__name__ for f in sys.meta_path].count('_BeforeTorchvision')\n"
        "try: import torchvision\n"
        "except RuntimeError as error: print(error)\n"
        "import tfzoo, json, torch\n"
        "assert hooks() == 1 and not hasattr(torch.ops.torchvision, 'probe_six')\n"
        "import torchvision\n"
        "assert hooks() == 0 and hasattr(torch.ops.torchvision, 'probe_six')\n",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "torchvision::probe_six does not exist" in done.stdout


def test_a_missing_torchvision_stays_an_ordinary_import_error():
    done = python(
        "import sys, tfzoo, importlib.machinery\n"
        "importlib.machinery.PathFinder.find_spec = lambda *arguments: None\n"
        "import torchvision\n"
    )
    assert "ModuleNotFoundError: No module named 'torchvision'" in done.stderr


def test_installing_twice_hooks_once(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    torchvision_operators.install()
    torchvision_operators.install()
    hooks = [f for f in sys.meta_path if type(f).__name__ == "_BeforeTorchvision"]
    assert len(hooks) == 1


@pytest.mark.slow
def test_the_real_torchvision():
    done = python(
        "import tfzoo, torchvision, torch\n"
        "from torchvision.transforms import v2\n"
        "print(v2.Resize(4)(torch.zeros(1, 8, 8)).shape)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([1, 4, 4])"
