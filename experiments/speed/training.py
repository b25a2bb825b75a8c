"""Training steps of four networks, each beside those that others make of the same shape.

All have no dropout, AdamW in its fused form, and the mean cross-entropy as their loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch._dynamo
import torch.nn.functional as F
from contest import OURS, Contestant, autocast
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tfzoo.backbone import TransformerConfig
from tfzoo.backbone.attention import Attention, explicit
from tfzoo.layout import Layout
from tfzoo.models import ImageClassifier, LanguageModel, Seq2Seq, TextClassifier
from tfzoo.training.blocks import blocks

Logits = Callable[[], Tensor]
"""A forward pass over the batch: (positions, classes)."""
Maker = Callable[[], tuple[nn.Module, Logits]]
BY_BLOCKS = f"{OURS}, blocks"


@dataclass(frozen=True)
class Shape:
    """width, blocks (of each stack), heads; tokens a sequence, or the side of an image; sequences a batch."""

    dim: int
    depth: int
    heads: int
    length: int
    batch: int
    vocabulary: int = 10
    patch: int = 4
    channels: int = 1

    @property
    def config(self) -> TransformerConfig:
        return TransformerConfig(
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            dropout=0.0,
            activation="gelu",
            positions="learned",
            max_length=self.length,
        )

    def small(self) -> Shape:
        """To try the benchmark itself."""
        length = min(self.length, 16)
        return replace(self, dim=32, depth=2, heads=2, batch=2, length=length, patch=4)


@dataclass
class Work:
    """A training step. unit: what a batch holds `count` of; makers: by name, who makes a network, and its pass."""

    unit: str
    count: int
    targets: Tensor
    makers: dict[str, Maker]

    def contestants(
        self, precision: str, compiled: bool, device: torch.device
    ) -> Iterator[Contestant]:
        """Compiled: each with its loss as one program, and ours block by block, too."""
        if compiled:
            torch._dynamo.reset()  # programs of other contests count towards its limit
            torch._dynamo.config.recompile_limit = 64
        for name, make in self.makers.items():
            for called in [name, BY_BLOCKS] if compiled and name == OURS else [name]:
                torch.manual_seed(0)
                module, logits = make()
                loss = self.loss(logits)
                if called == BY_BLOCKS:
                    for block in blocks(module):
                        block.compile()
                elif compiled:
                    loss = torch.compile(loss)
                yield trained(called, module.to(device).train(), loss, precision, device)

    def loss(self, logits: Logits) -> Callable[[], Tensor]:
        return lambda: F.cross_entropy(logits().float(), self.targets)

    def flops(self) -> float:
        """Floating-point operations of a step of ours, forward and back: those of all, for the shapes are the same."""
        with FakeTensorMode(allow_non_fake_inputs=True), torch.device(self.targets.device):
            module, logits = self.makers[OURS]()
            for part in module.modules():
                if isinstance(part, Attention):
                    part.kernel = explicit  # the counter knows no fused one of a CPU
            with FlopCounterMode(display=False) as counted:
                self.loss(logits)().backward()
        return counted.get_total_flops()


def trained(
    name: str,
    module: nn.Module,
    loss: Callable[[], Tensor],
    precision: str,
    device: torch.device,
) -> Contestant:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with autocast(precision, device):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    def kept() -> Iterator[Tensor]:
        yield from module.parameters()
        yield from module.buffers()
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    return Contestant(name, step, kept)


def language(shape: Shape, device: torch.device) -> Work:
    """A GPT: every token of a window predicted from those before it."""
    tokens, targets = (
        torch.randint(shape.vocabulary, (shape.batch, shape.length), device=device)
        for _ in range(2)
    )

    def ours() -> tuple[nn.Module, Logits]:
        model = LanguageModel(shape.config, shape.vocabulary)
        layout = Layout.full(shape.batch, shape.length, device)
        return model, lambda: model(tokens, layout).flatten(0, 1)

    def gpt2() -> tuple[nn.Module, Logits]:
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=shape.vocabulary,
            n_positions=shape.length,
            n_embd=shape.dim,
            n_layer=shape.depth,
            n_head=shape.heads,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
        return model, lambda: model(tokens).logits.flatten(0, 1)

    def x_transformers() -> tuple[nn.Module, Logits]:
        from x_transformers import Decoder, TransformerWrapper

        layers = Decoder(
            dim=shape.dim,
            depth=shape.depth,
            heads=shape.heads,
            attn_dim_head=shape.dim // shape.heads,
            attn_flash=True,
        )
        model = TransformerWrapper(
            num_tokens=shape.vocabulary,
            max_seq_len=shape.length,
            attn_layers=layers,
            tie_embedding=True,
        )
        return model, lambda: model(tokens).flatten(0, 1)

    def torch_nn() -> tuple[nn.Module, Logits]:
        model = TorchEncoder(shape, causal=True)
        return model, lambda: F.linear(model(tokens), model.embedding.weight).flatten(0, 1)

    makers = {
        OURS: ours,
        "transformers GPT-2": gpt2,
        "x-transformers": x_transformers,
        "torch.nn": torch_nn,
    }
    return Work("tokens", tokens.numel(), targets.flatten(), makers)


class TorchEncoder(nn.Module):
    """torch.nn.TransformerEncoder behind token and learned position embeddings."""

    def __init__(self, shape: Shape, causal: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.dim)
        self.positions = nn.Parameter(torch.randn(shape.length, shape.dim) * 0.02)
        layer = torch_layer(nn.TransformerEncoderLayer, shape)
        self.stack = nn.TransformerEncoder(
            layer, shape.depth, nn.LayerNorm(shape.dim), enable_nested_tensor=False
        )
        self.causal = causal

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        mask = None
        if self.causal:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], x.device, x.dtype)
        return self.stack(x, mask, is_causal=self.causal)


def torch_layer(kind: type[nn.Module], shape: Shape) -> nn.Module:
    return kind(
        shape.dim,
        shape.heads,
        4 * shape.dim,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )


def classifier(shape: Shape, device: torch.device) -> Work:
    """A BERT-like encoder: a class for each text, read from its first token."""
    classes = 2
    tokens = torch.randint(shape.vocabulary, (shape.batch, shape.length), device=device)
    targets = torch.randint(classes, (shape.batch,), device=device)

    def ours() -> tuple[nn.Module, Logits]:
        model = TextClassifier(shape.config, shape.vocabulary, classes)
        layout = Layout.full(shape.batch, shape.length, device)
        first = torch.arange(shape.batch, device=device) * shape.length
        return model, lambda: model(tokens, layout, first)

    def bert() -> tuple[nn.Module, Logits]:
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.dim,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.dim,
            max_position_embeddings=shape.length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=classes,
        )
        model = BertForSequenceClassification._from_config(config, attn_implementation="sdpa")
        return model, lambda: model(tokens).logits

    def torch_nn() -> tuple[nn.Module, Logits]:
        model = TorchEncoder(shape, causal=False)
        model.output = nn.Linear(shape.dim, classes)
        return model, lambda: model.output(model(tokens)[:, 0])

    makers = {OURS: ours, "transformers BERT": bert, "torch.nn": torch_nn}
    return Work("tokens", tokens.numel(), targets, makers)


def images(shape: Shape, device: torch.device) -> Work:
    """A ViT: a class for each image, read from the class token."""
    classes = shape.vocabulary
    pixels = torch.randn(shape.batch, shape.channels, shape.length, shape.length, device=device)
    targets = torch.randint(classes, (shape.batch,), device=device)

    def ours() -> tuple[nn.Module, Logits]:
        config = replace(shape.config, max_length=(shape.length // shape.patch) ** 2 + 1)
        model = ImageClassifier(config, shape.length, shape.patch, shape.channels, classes)
        return model, lambda: model(pixels)

    def timm() -> tuple[nn.Module, Logits]:
        from timm.models.vision_transformer import VisionTransformer

        model = VisionTransformer(
            img_size=shape.length,
            patch_size=shape.patch,
            in_chans=shape.channels,
            num_classes=classes,
            embed_dim=shape.dim,
            depth=shape.depth,
            num_heads=shape.heads,
        )
        return model, lambda: model(pixels)

    def vit() -> tuple[nn.Module, Logits]:
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(
            hidden_size=shape.dim,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.dim,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            image_size=shape.length,
            patch_size=shape.patch,
            num_channels=shape.channels,
            num_labels=classes,
        )
        model = ViTForImageClassification._from_config(config, attn_implementation="sdpa")
        return model, lambda: model(pixels).logits

    makers = {OURS: ours, "timm": timm, "transformers ViT": vit}
    return Work("images", shape.batch, targets, makers)


def translator(shape: Shape, device: torch.device) -> Work:
    """An encoder-decoder: every token of a target from its source and the target before it."""
    source, target, targets = (
        torch.randint(1, shape.vocabulary, (shape.batch, shape.length), device=device)
        for _ in range(3)
    )

    def ours() -> tuple[nn.Module, Logits]:
        config = replace(shape.config, positions="sinusoidal")
        model = Seq2Seq(config, shape.vocabulary, shape.vocabulary, tie="all")
        layout = Layout.full(shape.batch, shape.length, device)
        return model, lambda: model(source, layout, target, layout).flatten(0, 1)

    def torch_nn() -> tuple[nn.Module, Logits]:
        model = TorchTranslator(shape)
        return model, lambda: model(source, target).flatten(0, 1)

    def marian_() -> tuple[nn.Module, Logits]:
        model = marian(shape)
        return model, lambda: model(source, decoder_input_ids=target, use_cache=False).logits.flatten(0, 1)  # fmt: skip

    makers = {OURS: ours, "transformers Marian": marian_, "torch.nn": torch_nn}
    return Work("tokens", 2 * source.numel(), targets.flatten(), makers)


def marian(shape: Shape) -> nn.Module:
    """Token 0 pads; every token but that may be generated, and none ends a sentence."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=shape.vocabulary,
        max_position_embeddings=4 * shape.length,
        encoder_layers=shape.depth,
        decoder_layers=shape.depth,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.dim,
        decoder_ffn_dim=4 * shape.dim,
        activation_function="gelu",
        d_model=shape.dim,
        dropout=0.0,
        scale_embedding=True,
        pad_token_id=0,
        decoder_start_token_id=0,
        eos_token_id=None,
        forced_eos_token_id=None,
    )
    return MarianMTModel._from_config(config, attn_implementation="sdpa")


class TorchTranslator(nn.Module):
    """torch.nn.Transformer behind one embedding, which is the output layer too."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.dim)
        self.positions = nn.Parameter(torch.randn(shape.length, shape.dim) * 0.02)
        encoder, decoder = (
            torch_layer(kind, shape)
            for kind in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
        )
        norm = nn.LayerNorm(shape.dim)
        self.encoder = nn.TransformerEncoder(encoder, shape.depth, norm, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, shape.depth, nn.LayerNorm(shape.dim))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        source, target = (
            self.embedding(tokens) + self.positions[: tokens.shape[1]]
            for tokens in (source, target)
        )
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], target.device, target.dtype)  # fmt: skip
        x = self.decoder(target, self.encoder(source), tgt_mask=mask, tgt_is_causal=True)
        return F.linear(x, self.embedding.weight)


WORKS: dict[str, tuple[Callable[[Shape, torch.device], Work], Shape]] = {
    "gpt": (language, Shape(384, 6, 6, 256, 16, 65)),
    "classifier": (classifier, Shape(384, 6, 6, 128, 32, 8000)),
    "vit": (images, Shape(192, 6, 3, 28, 64)),
    "translator": (translator, Shape(256, 4, 4, 32, 64, 8000)),
}
ON_CUDA: dict[str, tuple[Callable[[Shape, torch.device], Work], Shape]] = {
    "gpt2-124m": (language, Shape(768, 12, 12, 1024, 16, 50257)),
    "vit-s16": (images, Shape(384, 12, 6, 224, 128, 1000, 16, 3)),
}
"""Too large for a CPU."""
