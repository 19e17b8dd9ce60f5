"""Which hidden state is meant: one numbering for students and teachers."""

__all__ = ["choose_layers", "resolve_layer"]


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


def choose_layers(word: str, student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    r"""The pairs that a word in the configuration stands for, blocks only, embeddings left out.

    .. math::
        \text{last:}\ (n_S, n_T) \qquad \text{all:}\ (k, k) \qquad
        \text{every\_m:}\ (k, m k) \qquad \text{uniform:}\ (k, \mathrm{round}(k \, n_T / n_S)),
        \qquad k = 1 \dots n_S

    Args:
        word: ``last``, ``all``, ``uniform``, or ``every_2``, ``every_3`` and so on.
        student_layers: Blocks of the student, :math:`n_S`.
        teacher_layers: Blocks of the teacher, :math:`n_T`.

    Returns:
        Pairs (student, teacher) of hidden states, 1 … n: the output of block k is k.

    Raises:
        ValueError: the word does not fit these depths, with what would.

    Example:
        >>> choose_layers("uniform", 4, 12), choose_layers("every_2", 3, 6)
        ([(1, 3), (2, 6), (3, 9), (4, 12)], [(1, 2), (2, 4), (3, 6)])

    References:
        Sun et al., *Patient Knowledge Distillation*, 2019, arXiv:1908.09355: last and every second.
        Jiao et al., *TinyBERT*, 2019, arXiv:1909.10351, section 3.1: uniform.
    """
    if 0 in (student_layers, teacher_layers):
        raise ValueError(
            f"'{word}' pairs blocks, and one side has none. Write pairs, e.g. [[0, -1]]."
        )
    own = range(1, student_layers + 1)
    if word == "last":
        return [(student_layers, teacher_layers)]
    if word == "uniform":
        # Half up, not half to even: 1.5 -> 2 and 2.5 -> 3, so that steps are as even as they can be.
        return [(k, (2 * k * teacher_layers + student_layers) // (2 * student_layers)) for k in own]
    if word == "all":
        if student_layers != teacher_layers:
            raise ValueError(
                f"'all' needs as many blocks on both sides, got {student_layers} and {teacher_layers}. "
                "Write uniform."
            )
        return [(k, k) for k in own]
    every = int(word.removeprefix("every_"))
    if every * student_layers > teacher_layers:
        raise ValueError(
            f"'{word}' needs {every * student_layers} blocks of the teacher for {student_layers} of the "
            f"student, it has {teacher_layers}. Write uniform."
        )
    return [(k, every * k) for k in own]
