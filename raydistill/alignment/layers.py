"""Which hidden state is meant: one numbering for students and teachers."""

__all__ = ["resolve_layer"]


def resolve_layer(index: int, num_layers: int) -> int:
    """The place of a hidden state, counted from the front.

    A model of n blocks has n + 1 hidden states: 0 the embeddings, k after block k. Negative ones
    count from the end, so -1 is the last whatever the depth.

    Args:
        index: As in the configuration, ``-(n+1) … n``.
        num_layers: Blocks of the model, n.

    Returns:
        ``0 … n``: the index into ``hidden_states``.

    Raises:
        ValueError: there is no such hidden state.

    Example:
        >>> resolve_layer(-1, 12), resolve_layer(4, 12), resolve_layer(-13, 12)
        (12, 4, 0)
    """
    if not -(num_layers + 1) <= index <= num_layers:
        raise ValueError(
            f"layer must lie between {-(num_layers + 1)} and {num_layers} for a model of "
            f"{num_layers} blocks (0 = embeddings, k = after block k, -1 = last), got {index}."
        )
    return index if index >= 0 else index + num_layers + 1
