"""Queries, keys and values of each block, read while a model computes them.

Transformers gives out hidden states and attention maps, but not these. In most encoders the attention of
each block holds one linear layer for each of the three, under one of a few sets of names; forward hooks
take what comes out of them, and gradients flow through it. It is taken as projected: heads side by side,
before positions turn it (rotary embeddings). Which models have such layers can be told without weights,
so a run that needs them from another is refused before anything starts.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.errors import SignalError
from raydistill.models.describe import quiet_transformers

__all__ = ["INSIDE", "InsideReader", "describe_inside"]

INSIDE = ("query", "key", "value")
"""States inside a block; hidden states are what comes out of it."""
_NAMES = (
    ("query", "key", "value"),  # BERT, RoBERTa, XLM-R, ELECTRA, ALBERT
    ("query_proj", "key_proj", "value_proj"),  # DeBERTa-v2 and v3
    ("q_lin", "k_lin", "v_lin"),  # DistilBERT
    ("q", "k", "v"),  # MPNet
    ("q_proj", "k_proj", "v_proj"),  # Nomic BERT, EuroBERT; Llama, Qwen
)
# What comes out of their layers is padded to whole windows, of Longformer with tokens first.
_PADDED = {"big_bird", "longformer"}

_Attention = Mapping[str, nn.Linear]
_Hook = Callable[[nn.Module, Any, Tensor], None]


class InsideReader:
    """Reads queries, keys and values of one model.

    Args:
        model: A Hugging Face model.

    Raises:
        ValueError: it has not exactly one linear layer for each of the three in every block. The
            message continues a sentence that begins with the model.
    """

    def __init__(self, model: nn.Module) -> None:
        config: Any = model.config
        self._name, self._num_blocks = str(config.model_type), int(config.num_hidden_layers)
        attentions = list(_attentions(model))
        # Of one group of shared weights each call is the next block.
        self._shared = len(attentions) == getattr(config, "num_hidden_groups", None) and (
            getattr(config, "inner_group_num", 1) == 1
        )
        blocks = attentions if self._shared else _of_blocks(model, self._num_blocks, attentions)
        widths = {states: {block[states].out_features for block in blocks} for states in INSIDE}
        if self._name in _PADDED or any(len(found) != 1 for found in widths.values()):
            raise ValueError(
                f"is a {self._name}, which does not compute queries, keys and values by one linear layer "
                f"each in each of its {self._num_blocks} blocks"
            )
        self._blocks = blocks
        self.widths: Mapping[str, int] = {states: found.pop() for states, found in widths.items()}

    @contextmanager
    def reading(self, names: Collection[str], tokens: torch.Size) -> Iterator[Mapping[str, Tensor]]:
        """Read one forward pass, which is made within this context.

        Args:
            names: ``query.3``: what, and of which block, from 1.
            tokens: Shape of the model's input, ``[B, S]``.

        Yields:
            Filled while the model computes: ``[B, S, D]`` by name.

        Raises:
            SignalError: the pass was another one than :class:`InsideReader` expects of such a model.
        """
        one = _Pass(frozenset(names))
        if self._shared:
            hooks = [(block[s], one.of_next_block(s)) for block in self._blocks for s in INSIDE]
        else:
            parted = [(name, *name.split(".")) for name in names]
            hooks = [(self._blocks[int(k) - 1][s], one.of_block(name)) for name, s, k in parted]
        handles = [module.register_forward_hook(hook) for module, hook in hooks]
        try:
            yield one.found
        finally:
            for handle in handles:
                handle.remove()
        shapes = {tuple(states.shape[:-1]) for states in one.found.values()}
        calls = set(one.calls.values()) if self._shared else {self._num_blocks}
        if (
            one.found.keys() != one.names
            or shapes != {tuple(tokens)}
            or calls != {self._num_blocks}
        ):
            raise SignalError(
                f"A {self._name} gave out {', '.join(sorted(one.found)) or 'nothing'} in shapes "
                f"{sorted(shapes)}, where {', '.join(sorted(one.names))} for tokens {list(tokens)} was "
                "expected: its queries, keys and values cannot be read. Use states: hidden."
            )


class _Pass:
    """What is read of one forward pass."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.found: dict[str, Tensor] = {}
        self.calls: Counter[str] = Counter()

    def of_block(self, name: str) -> _Hook:
        """For a layer of one block."""

        def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
            # The first call is of the tokens; DeBERTa then projects distances by the same layer.
            self.found.setdefault(name, output)

        return keep

    def of_next_block(self, states: str) -> _Hook:
        """For a layer that blocks share: each call is the next block."""

        def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
            self.calls[states] += 1
            if (name := f"{states}.{self.calls[states]}") in self.names:
                self.found[name] = output

        return keep


def describe_inside(config: Any, *, trust_remote_code: bool = False) -> Mapping[str, int] | str:
    """Widths of queries, keys and values of a classifier; or why it has none that can be read.

    Built without allocating weights.

    Args:
        config: Of Hugging Face.
        trust_remote_code: Whether code beside the weights may run.
    """
    from raydistill.models.auto import AutoModelForSequenceClassification

    try:
        with quiet_transformers(), torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(
                config, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # of the model's own code, of any type
        return f"cannot be built to look for them ({type(error).__name__}: {error})"
    try:
        return InsideReader(model).widths
    except ValueError as error:
        return str(error)


def _attentions(model: nn.Module) -> Iterator[_Attention]:
    """Modules that hold the three, in the order of the model."""
    for parent in model.modules():
        children = dict(parent.named_children())
        for names in _NAMES:
            three = {states: children.get(name) for states, name in zip(INSIDE, names, strict=True)}
            linear = {s: module for s, module in three.items() if isinstance(module, nn.Linear)}
            if len(linear) == len(INSIDE):
                yield linear


def _of_blocks(
    model: nn.Module, num_blocks: int, attentions: Sequence[_Attention]
) -> Sequence[_Attention]:
    """The one attention of each block, if each has just one and there is no other; else nothing."""
    for blocks in model.modules():
        if not isinstance(blocks, nn.ModuleList) or len(blocks) != num_blocks:
            continue
        inside = [set(block.modules()) for block in blocks]
        found = [[one for one in attentions if one["query"] in modules] for modules in inside]
        if all(len(of_block) == 1 for of_block in found) and len(attentions) == num_blocks:
            return [of_block[0] for of_block in found]
    return ()
