"""Students without attention: an LSTM or GRU over embeddings, or the mean of embeddings alone.

A Hugging Face model like any other: saved, loaded, trained and served as those are. ``save_pretrained``
puts a copy of this file beside the weights, so that ``from_pretrained(folder, trust_remote_code=True)``
loads them without raydistill; nothing of the package may be imported here.

Legend: B rows, S tokens of the longest row, E width of the embeddings, H of a cell, D of hidden states.

Both directions are plain passes from the left over padded rows. For the second, each row's own tokens are
turned round before and after, so that it starts at the row's own end and never sees padding. That takes no
packed sequences, which are slower to train on CPUs, need the lengths on the host and cannot be exported.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

__all__ = ["RecurrentConfig", "RecurrentForSequenceClassification"]

_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
_POOLINGS = ("last", "max", "mean", "attention")


class RecurrentConfig(PreTrainedConfig):  # type: ignore[misc]
    """The shape of such a student.

    Attributes:
        vocab_size: Rows of the embedding matrix.
        cell: ``lstm``, ``gru``, or ``average``, which has no recurrent layer.
        num_hidden_layers: Recurrent layers; 0 for ``average``.
        cell_size: Width of each direction, H.
        bidirectional: Whether rows are read from both ends.
        embedding_size: What goes into the first layer, E.
        embedding_width: Of the embedding matrix; a linear layer leads to ``embedding_size`` if it is
            another. None: ``embedding_size``.
        head_size: Width of a layer with ReLU before the classes; None: there is none.
        pooling: What of the last layer's states the classes are told from: ``last`` (of each direction
            where it ends), ``max``, ``mean``, ``attention`` (a learned weighted mean).
        uncounted_ids: Tokens that ``average`` leaves out: unknown and special ones.
        freeze_embeddings: Whether the embedding matrix stays as it is in training.
        dropout: After embeddings, between layers, and before the classes.
        initializer_range: Standard deviation of new embeddings.
        pad_token_id: Its embedding is not trained.
    """

    model_type = "raydistill_recurrent"

    vocab_size: int = 30522
    cell: str = "lstm"
    num_hidden_layers: int = 1
    cell_size: int = 256
    bidirectional: bool = True
    embedding_size: int = 300
    embedding_width: int | None = None
    head_size: int | None = None
    pooling: str = "last"
    uncounted_ids: list[int] | None = None
    freeze_embeddings: bool = False
    dropout: float | int = 0.0
    initializer_range: float = 0.1
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse what makes no model.

        Raises:
            ValueError: ``cell`` or ``pooling`` is not known, or the layers do not go with the cell.
        """
        super().__post_init__(**kwargs)
        for name, known in (("cell", (*_CELLS, "average")), ("pooling", _POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if (self.cell == "average") != (self.num_hidden_layers == 0):
            raise ValueError(
                f"num_hidden_layers must be 0 for the cell average and only for it, got "
                f"{self.num_hidden_layers} for {self.cell}"
            )

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states, D."""
        if self.cell == "average":
            return self.embedding_size
        return self.cell_size * (1 + self.bidirectional)

    @property
    def num_attention_heads(self) -> int:
        """There is no attention."""
        return 0


class _Layer(nn.Module):
    """One recurrent layer in one or both directions."""

    def __init__(self, config: RecurrentConfig, width: int) -> None:
        super().__init__()
        cell = _CELLS[config.cell]
        self.ahead = cell(width, config.cell_size, batch_first=True)
        self.back = (
            cell(width, config.cell_size, batch_first=True) if config.bidirectional else None
        )

    def forward(self, states: Tensor, turned: Tensor) -> Tensor:
        ahead: Tensor = self.ahead(states)[0]
        if self.back is None:
            return ahead
        back = self.back(_taken(states, turned))[0]
        return torch.cat([ahead, _taken(back, turned)], dim=-1)  # [B, S, 2 H]


class RecurrentForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """Embeddings, recurrent layers, a pooled state, classes."""

    config_class = RecurrentConfig
    base_model_prefix = "recurrent"

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        width = config.embedding_width or config.embedding_size
        self.num_labels = config.num_labels
        self.embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.narrow = (
            nn.Linear(width, config.embedding_size) if width != config.embedding_size else None
        )
        widths = [config.embedding_size] + [config.hidden_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(
            _Layer(config, width) for width in widths[: config.num_hidden_layers]
        )
        self.dropout = nn.Dropout(config.dropout)
        wide, narrow = config.hidden_size, config.head_size
        attends = config.pooling == "attention" and config.cell != "average"
        self.attention = (
            nn.Sequential(nn.Linear(wide, wide), nn.Tanh(), nn.Linear(wide, 1)) if attends else None
        )
        self.head = nn.Linear(wide, narrow) if narrow is not None else None
        self.classifier = nn.Linear(narrow or wide, config.num_labels)
        self.embeddings.weight.requires_grad_(not config.freeze_embeddings)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding matrix."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Another embedding matrix."""
        self.embeddings = value

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if module.padding_idx is not None and not getattr(
                module.weight, "_is_hf_initialized", False
            ):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM | nn.GRU):
            for name, parameter in module.named_parameters():
                if name.startswith("weight_hh"):
                    init.orthogonal_(parameter)
                elif name.startswith("weight_ih"):
                    init.xavier_uniform_(parameter)
                else:
                    bias = torch.zeros_like(parameter)
                    if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                        size = module.hidden_size
                        bias[size : 2 * size] = 1.0  # remembers, until it learns to forget
                    init.copy_(parameter, bias)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_unused: Any,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Classify rows; what lies under the mask changes nothing.

        Args:
            input_ids: ``[B, S]``.
            attention_mask: 1 for tokens, ``[B, S]``; None: all are.
            inputs_embeds: Embeddings instead of tokens, ``[B, S, width of the matrix]``.
            labels: Classes, ``[B]``, for the cross-entropy in ``loss``.
            output_hidden_states: Whether to give out the embeddings and each layer's states, ``[B, S, D]``,
                0 under the mask. Only the embeddings may be of another width.
            return_dict: False: a tuple.
            _unused: Of tokenizers, such as ``token_type_ids``.
        """
        if inputs_embeds is None:
            inputs_embeds = self.embeddings(input_ids)
        mask = torch.ones_like(inputs_embeds[..., 0]) if attention_mask is None else attention_mask
        mask = mask.bool()
        states = inputs_embeds if self.narrow is None else self.narrow(inputs_embeds)
        states = self.dropout(states) * mask.unsqueeze(-1)
        all_states = [states]
        # Rows that are padded in front begin there as if they were not.
        aside = bool((mask[:, 1:] & ~mask[:, :-1]).any())
        places = torch.argsort((~mask).int(), dim=1, stable=True) if aside else None
        inner = mask if places is None else mask.gather(1, places)
        turned = _turned(inner)
        if places is not None:
            states = _taken(states, places)
        for number, layer in enumerate(self.layers):
            states = layer(self.dropout(states) if number else states, turned)
            states = states * inner.unsqueeze(-1)
            all_states.append(
                states if places is None else _taken(states, torch.argsort(places, dim=1))
            )
        logits = self._classify(states, inner, input_ids)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.float(), labels)
        hidden = tuple(all_states) if output_hidden_states else None
        outputs = SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=hidden)
        return outputs.to_tuple() if return_dict is False else outputs

    def _classify(self, states: Tensor, mask: Tensor, input_ids: Tensor | None) -> Tensor:
        if self.config.cell == "average":
            pooled = self._mean_of_words(states, mask, input_ids)
        else:
            pooled = self._pool(states, mask)
        if self.head is not None:
            pooled = self.head(self.dropout(pooled)).relu()
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits

    def _mean_of_words(self, states: Tensor, mask: Tensor, input_ids: Tensor | None) -> Tensor:
        """Of tokens that count; 0 if none does."""
        if input_ids is not None and self.config.uncounted_ids:
            left_out = torch.tensor(self.config.uncounted_ids, device=input_ids.device)
            mask = mask & (input_ids.unsqueeze(-1) != left_out).all(-1)
        counts = mask.unsqueeze(-1).to(states.dtype)
        return (states * counts).sum(1) / counts.sum(1).clamp(min=1.0)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """``[B, S, D]``, 0 under the mask, to ``[B, D]``; 0 for a row without tokens."""
        inside = mask.unsqueeze(-1)
        lowest = torch.finfo(states.dtype).min
        if self.config.pooling == "last":
            last = (mask.sum(1) - 1).clamp(min=0)
            ahead = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)
            if not self.config.bidirectional:
                return ahead
            size = self.config.cell_size
            return torch.cat([ahead[:, :size], states[:, 0, size:]], dim=-1)
        if self.config.pooling == "mean":
            return states.sum(1) / inside.sum(1).clamp(min=1)
        if self.config.pooling == "max":
            return states.masked_fill(~inside, lowest).amax(1) * inside.any(1)
        assert self.attention is not None, "made with this pooling"
        weights: Tensor = self.attention(states).masked_fill(~inside, lowest).softmax(1)
        return (states * weights).sum(1)


def _turned(mask: Tensor) -> Tensor:
    """Places that turn each row's own tokens round and leave its padding, ``[B, S]``."""
    place = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0)
    length = mask.sum(1, keepdim=True)
    return torch.where(place < length, length - 1 - place, place)


def _taken(states: Tensor, places: Tensor) -> Tensor:
    """``[B, S, D]`` with the tokens of each row in another order."""
    return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


# A copy of this file goes wherever a model is saved.
RecurrentConfig.register_for_auto_class()
RecurrentForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
