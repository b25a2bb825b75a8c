"""tfzoo: one Transformer, every task."""

from tfzoo import scipy_signal, torchvision_operators

__version__ = "0.1.0"

torchvision_operators.install()
scipy_signal.spare()
