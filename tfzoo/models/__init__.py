"""Tokens or pixels to logits: the three shapes of the Transformer, and decoding."""

from tfzoo.models.beams import Beam
from tfzoo.models.classifier import ImageClassifier, Pooling, TextClassifier
from tfzoo.models.decoder_only import DecoderOnly
from tfzoo.models.decoding import Hypothesis, Limits, decode
from tfzoo.models.embedding import PatchEmbedding, TokenEmbedding, Tying
from tfzoo.models.language_model import LanguageModel
from tfzoo.models.one_by_one import Greedy, Sampling
from tfzoo.models.seq2seq import Seq2Seq

__all__ = [
    "Beam",
    "DecoderOnly",
    "Greedy",
    "Hypothesis",
    "ImageClassifier",
    "LanguageModel",
    "Limits",
    "PatchEmbedding",
    "Pooling",
    "Sampling",
    "Seq2Seq",
    "TextClassifier",
    "TokenEmbedding",
    "Tying",
    "decode",
]
