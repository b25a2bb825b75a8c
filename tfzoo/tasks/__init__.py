"""LightningModules: loss, metrics, optimiser of each task."""

from tfzoo.tasks.classification import ImageClassification, TextClassification
from tfzoo.tasks.generation import Generation
from tfzoo.tasks.task import Loss, Task
from tfzoo.tasks.translation import Translation

__all__ = [
    "Generation",
    "ImageClassification",
    "Loss",
    "Task",
    "TextClassification",
    "Translation",
]
