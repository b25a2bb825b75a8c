"""tfzoo: one Transformer, every task."""

from tfzoo import torchvision_operators

__version__ = "0.1.0"

torchvision_operators.install()
