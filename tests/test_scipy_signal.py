"""torchmetrics' import goes without scipy.signal, which is there for everybody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy")

AFTER = """
import sys, tfzoo
import torchmetrics, scipy
assert "scipy.signal" not in sys.modules, "torchmetrics has loaded it"
assert torchmetrics.__spec__.loader.get_source("torchmetrics")
from scipy.signal import find_peaks
assert scipy.signal.find_peaks is find_peaks
"""
MEANWHILE = """
import sys
import scipy.signal
scipy.signal.hamming
assert not hasattr(scipy.signal, "__file__"), "the real one was loaded for nothing"
from scipy.signal import find_peaks
assert find_peaks([0, 1, 0])[0].tolist() == [1]
assert sys.modules["scipy.signal"].__file__
"""


@pytest.mark.slow
def test_who_wants_it_has_it_after_torchmetrics() -> None:
    subprocess.run([sys.executable, "-c", AFTER], check=True)


@pytest.mark.slow
def test_who_wants_it_has_it_meanwhile(tmp_path: Path) -> None:
    """What is imported with torchmetrics may want more of it than torchmetrics does."""
    (tmp_path / "torchmetrics.py").write_text(MEANWHILE)
    places = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = "import tfzoo, torchmetrics; from scipy.signal import find_peaks"
    env = os.environ | {"PYTHONPATH": places}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
