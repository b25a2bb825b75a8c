"""What tensors without contents need so that a step with them can be accounted for: bytes, operations, kernels."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

from tfzoo.backbone import units
from tfzoo.backbone.attention import Attention, blinded
from tfzoo.layout import Mask

aten = torch.ops.aten


class Held(TorchDispatchMode):
    """The bytes of tensors alive, now and at the most: of those it was told of, and those made while it lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.gradients = self.peak = self.peak_without_gradients = 0
        self.known = WeakIdKeyDictionary()  # storage -> what it counts for

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.hold(value for value in tree_leaves(made) if isinstance(value, Tensor))
        return made

    def hold(self, tensors: Iterable[Tensor]) -> int:
        """Count tensors from now on until they are freed; returns the bytes of those that are new."""
        before = self.now
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage not in self.known:
                self.known[storage] = entry = _Entry(storage.nbytes())
                self.now += entry.size
                weakref.finalize(storage, self._free, entry)
        self._look()
        return self.now - before

    def hold_gradient(self, parameter: Tensor) -> int:
        """The same for the gradient of a parameter, if it has one."""
        if parameter.grad is None:
            return 0
        made = self.hold([parameter.grad])
        entry = self.known[parameter.grad.untyped_storage()]
        if not entry.gradient:
            entry.gradient = True
            self.gradients += entry.size
        return made

    def hear(self, parameter: Tensor) -> None:
        """The hook by which a parameter tells of its gradient."""
        self.hold_gradient(parameter)

    def forget_peaks(self) -> None:
        self.peak = self.peak_without_gradients = 0
        self._look()

    def _free(self, entry: _Entry) -> None:
        self.now -= entry.size
        self.gradients -= entry.gradient * entry.size

    def _look(self) -> None:
        self.peak = max(self.peak, self.now)
        self.peak_without_gradients = max(self.peak_without_gradients, self.now - self.gradients)


class _Entry:
    def __init__(self, size: int) -> None:
        self.size, self.gradient = size, False


def model_flops() -> FlopCounterMode:
    """Counts matrix products, of attention's backward pass the four that its gradients are made of.

    A fused kernel computes the scores a fifth time because it has not kept them; that is its own affair.
    """

    def twice_forward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return 2 * sdpa_flop_count(query, key, value)

    fused = (
        aten._scaled_dot_product_flash_attention_backward,
        aten._scaled_dot_product_efficient_attention_backward,
    )
    return FlopCounterMode(display=False, custom_mapping=dict.fromkeys(fused, twice_forward))


def gpu_kernel(query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout: float) -> Tensor:
    """Attention by the kernel that torch takes on a GPU: the same tensors are kept for the backward pass."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    grouped = query.shape[1] != key.shape[1]
    if mask.visible is None and query.dtype in (torch.float16, torch.bfloat16):
        return aten._scaled_dot_product_flash_attention(query, key, value, dropout, mask.is_causal)[
            0
        ]
    if grouped or query.dtype == torch.float64:  # written out: the others know neither
        return aten._scaled_dot_product_attention_math(
            query, key, value, mask.visible, dropout, mask.is_causal, enable_gqa=grouped
        )[0]
    bias = None
    if mask.visible is not None:
        shape = (*query.shape[:3], key.shape[2])
        bias = torch.empty_like(mask.visible, dtype=query.dtype).expand(shape)
    heads = aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, dropout, mask.is_causal
    )[0]
    return blinded(heads, mask)


class GPU(TorchFunctionMode):
    """As a GPU computes what a CPU computes otherwise, and what hangs on contents that are not there.

    Args:
        selected: share of its places that a boolean mask picks out.
    """

    def __init__(self, selected: float) -> None:
        super().__init__()
        self.selected = selected

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if func in RECURRENCES:
            return recurrence(func, *args)
        if func is Tensor.__getitem__:
            x, index = args
            if isinstance(index, Tensor) and index.dtype == torch.bool:
                rows = torch.zeros(round(self.selected * index.numel()), dtype=torch.long)
                return x.flatten(0, index.dim() - 1)[rows]
        return func(*args, **kwargs)

    def _dropout(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """Keeps one byte for each element, not a factor of its own type."""
        return torch.native_dropout(x, p, True)[0] if training and p else x


RECURRENCES = (torch.lstm, torch.rnn_tanh)


def recurrence(func: Any, x: Tensor, state: Any, weights: list[Tensor], *_: Any) -> tuple[Any, ...]:
    """What cuDNN's recurrence over x (N, L, D) computes and keeps, all steps at a time.

    The products of one step depend on those of the step before; of how many operations they are, and how large, not.
    """
    gates = F.linear(x, weights[0])
    first, *cells = state if func is torch.lstm else [state]
    hidden = gates[..., : weights[1].shape[1]] + first[0][:, None]
    gates = gates + F.linear(hidden, weights[1])
    if func is torch.rnn_tanh:
        made = gates.tanh()
        return made, made[:, -1][None]
    entry, forget, cell, exit_ = gates.chunk(4, dim=-1)
    cell = entry.sigmoid() * cell.tanh() + forget.sigmoid() * cells[0][0][:, None]
    made = exit_.sigmoid() * cell.tanh()
    return made, made[:, -1][None], cell[:, -1][None]


@contextmanager
def gpu_kernels(module: nn.Module) -> Iterator[None]:
    """Let all attention in a module run by `gpu_kernel`."""
    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, Attention):
                stack.enter_context(patch.object(part, "kernel", gpu_kernel))
        yield


@contextmanager
def checkpointed(module: nn.Module, mode: Callable[[], Any] = nullcontext) -> Iterator[None]:
    """Let each block keep its inputs alone, and compute the rest once more in the backward pass (Chen et al. 2016).

    mode: makes what the second computation happens in; the backward pass is outside of any mode of functions.
    """
    with ExitStack() as stack:
        for block in units(module):
            stack.enter_context(patch.object(block, "forward", _again(block.forward, mode)))
        yield


def _again(forward: Any, mode: Callable[[], Any]) -> Any:
    def run(*inputs: Any) -> Any:
        return checkpoint(
            forward,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), mode()),
        )

    return run
