"""Numbers as people read them, in one place: for report, command line, pictures. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "MISSING",
    "Column",
    "Headline",
    "comparison_rows",
    "format_amount",
    "format_bytes",
    "format_count",
    "format_duration",
    "format_integer",
    "format_megabytes",
    "format_ms",
    "format_score",
    "format_share",
    "headline",
    "number",
    "ordered_models",
    "result_sentence",
]

MISSING = "–"
_ROLES = {"student": 0, "model": 0, "baseline": 1, "teacher": 2, "ensemble": 3}
_MINUTE, _HOUR = 60, 3600
_SCORE_DIGITS = 4


def number(value: object) -> float | None:
    """The value as a finite number, or none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def format_score(value: object) -> str:
    """A share of one with four decimals and no leading zero.

    Example:
        >>> format_score(0.81234), format_score(1), format_score(-0.01), format_score(None)
        ('.8123', '1.0000', '-.0100', '–')
    """
    score = number(value)
    if score is None:
        return MISSING
    return f"{score:.{_SCORE_DIGITS}f}".replace("-0.", "-.").removeprefix("0")


def format_amount(value: object) -> str:
    """A number in a unit of its own, with four significant digits.

    Example:
        >>> format_amount(0.81234), format_amount(1234.5), format_amount(12.345), format_amount(0)
        ('0.8123', '1,234', '12.35', '0')
    """
    amount = number(value)
    if amount is None:
        return MISSING
    if amount and not 1e-3 <= abs(amount) < 1e6:  # noqa: PLR2004
        return f"{amount:.3e}"
    decimals = max(0, _SCORE_DIGITS - 1 - math.floor(math.log10(abs(amount)))) if amount else 0
    return f"{amount:,.{min(decimals, _SCORE_DIGITS)}f}"


def format_count(value: object) -> str:
    """A large count with three or four digits.

    Example:
        >>> (
        ...     format_count(22_713_216),
        ...     format_count(1_340_000_000),
        ...     format_count(4_386),
        ...     format_count(7),
        ... )
        ('22.7 M', '1.3 B', '4.4 k', '7')
    """
    count = number(value)
    if count is None:
        return MISSING
    # Half a unit of the last digit below, so that 999 960 is 1.0 M and not 1000.0 k.
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size * (1 - 5e-5):
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def format_integer(value: object) -> str:
    """All digits, in groups of three.

    Example:
        >>> format_integer(1234567)
        '1,234,567'
    """
    count = number(value)
    return MISSING if count is None else f"{count:,.0f}"


def format_ms(value: object) -> str:
    """Milliseconds with one decimal, without the unit.

    Example:
        >>> format_ms(12.345), format_ms(float("nan"))
        ('12.3', '–')
    """
    time_ms = number(value)
    return MISSING if time_ms is None else f"{time_ms:,.1f}"


def format_bytes(value: object) -> str:
    """Bytes with a unit that suits them, powers of ten.

    Example:
        >>> format_bytes(90_900_000), format_bytes(999_960), format_bytes(12)
        ('90.9 MB', '1.0 MB', '12 B')
    """
    size = number(value)
    if size is None:
        return MISSING
    for step, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= step * (1 - 5e-5):
            return f"{size / step:,.1f} {unit}"
    return f"{size:.0f} B"


def format_megabytes(value: object) -> str:
    """Megabytes (10⁶) with one decimal, without the unit, for a column.

    Example:
        >>> format_megabytes(90_900_000)
        '90.9'
    """
    size = number(value)
    return MISSING if size is None else f"{size / 1e6:,.1f}"


def format_share(value: object) -> str:
    """A share as a percentage with two or three digits.

    Example:
        >>> format_share(0.2345), format_share(0.0123), format_share(1.5)
        ('23 %', '1.2 %', '150 %')
    """
    share = number(value)
    if share is None:
        return MISSING
    percent = 100.0 * share
    return f"{percent:.1f} %" if 0 < abs(percent) < 9.95 else f"{percent:.0f} %"  # noqa: PLR2004


def format_duration(value: object) -> str:
    """Seconds as people say them.

    Example:
        >>> format_duration(7.25), format_duration(492), format_duration(8040)
        ('7.2 s', '8 min 12 s', '2 h 14 min')
    """
    duration_s = number(value)
    if duration_s is None:
        return MISSING
    if round(duration_s) < _MINUTE:
        return f"{duration_s:.1f} s"
    if round(duration_s) < _HOUR:
        minutes, seconds = divmod(round(duration_s), _MINUTE)
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(round(duration_s / _MINUTE), _MINUTE)
    return f"{hours} h {minutes} min"


@dataclass(frozen=True)
class Column:
    """Of a table of models.

    Attributes:
        header: With its unit.
        key: Of a model's figures.
        show: As text.
    """

    header: str
    key: str
    show: Callable[[object], str]


_COLUMNS = (
    Column("F1", "f1", format_score),
    Column("Precision", "precision", format_score),
    Column("Recall", "recall", format_score),
    Column("Accuracy", "accuracy", format_score),
    Column("Micro F1", "micro_f1", format_score),
    Column("Macro F1", "macro_f1", format_score),
    Column("Exact match", "exact_match", format_score),
    Column("Mean AP", "mean_average_precision", format_score),
    Column("RMSE", "rmse", format_amount),
    Column("MAE", "mae", format_amount),
    Column("Pearson", "pearson", format_score),
    Column("Spearman", "spearman", format_score),
    Column("R²", "r2", format_score),
    Column("nDCG@10", "ndcg_at_10", format_score),
    Column("MRR@10", "mrr_at_10", format_score),
    Column("Recall@10", "recall_at_10", format_score),
    Column("MAP", "map", format_score),
    Column("nDCG@10, corpus", "corpus_ndcg_at_10", format_score),
    Column("Recall@100, corpus", "corpus_recall_at_100", format_score),
    Column("ECE", "ece", format_score),
    Column("Parameters", "parameters", format_count),
    Column("On disk (MB)", "disk_bytes", format_megabytes),
    Column("Latency, 1 row (ms)", "latency_ms_batch1", format_ms),
    Column("Latency, 32 rows (ms)", "latency_ms_batch32", format_ms),
)


@dataclass(frozen=True)
class Headline:
    """The figure that models are compared by first.

    Attributes:
        key: In the summary.
        name: On an axis.
        phrase: In a sentence.
        show: As text.
        sign: 1 if more is better, else -1.
    """

    key: str
    name: str
    phrase: str
    show: Callable[[object], str] = format_score
    sign: int = 1


_HEADLINES = (
    Headline("f1", "F1 of spans", "F1"),
    Headline("accuracy", "Accuracy", "accuracy"),
    Headline("micro_f1", "Micro F1", "micro F1"),
    Headline("ndcg_at_10", "nDCG@10", "nDCG@10"),
    Headline("rmse", "RMSE, smaller is better", "RMSE (smaller is better)", format_amount, -1),
)


def headline(models: Sequence[Mapping[str, Any]]) -> Headline:
    """The first that any model has.

    Example:
        >>> headline([{"role": "student", "rmse": 0.7}]).name
        'RMSE, smaller is better'
    """
    there = (
        one for one in _HEADLINES if any(number(model.get(one.key)) is not None for model in models)
    )
    return next(there, _HEADLINES[0])


def ordered_models(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Student, baseline, teachers from the best down, ensemble; those of unknown role last."""
    models = [dict(model) for model in summary.get("models") or ()]

    first = headline(models)

    def place(model: Mapping[str, Any]) -> tuple[int, float]:
        role = _ROLES.get(str(model.get("role")), len(_ROLES))
        return role, -first.sign * (number(model.get(first.key)) or 0)

    return sorted(models, key=place)


def comparison_rows(
    summary: Mapping[str, Any], more: Sequence[Column] = (), *, in_order: bool = False
) -> tuple[list[str], list[list[str]]]:
    """The student beside everything it was measured against.

    Args:
        summary: Of a run, as in its ``summary.json``; only ``models`` is read.
        more: Columns behind the usual ones.
        in_order: Whether models stay in the order they are in.

    Returns:
        Headers with their units, and a row of strings for each model: role and name, then numbers.
        A column that no model has is left out; a single missing number is shown as –. No models: no
        headers either.

    Example:
        >>> models = [
        ...     {"role": "teacher", "name": "large", "accuracy": 0.9, "parameters": 109_000_000},
        ...     {"role": "student", "name": "small", "accuracy": 0.875},
        ... ]
        >>> headers, rows = comparison_rows({"models": models})
        >>> headers
        ['Role', 'Model', 'Accuracy', 'Parameters']
        >>> rows
        [['student', 'small', '.8750', '–'], ['teacher', 'large', '.9000', '109.0 M']]
    """
    models = list(summary.get("models") or ()) if in_order else ordered_models(summary)
    if not models:
        return [], []
    columns = [
        column
        for column in (*_COLUMNS, *more)
        if any(number(model.get(column.key)) is not None for model in models)
    ]
    headers = ["Role", "Model", *(column.header for column in columns)]
    rows = [
        [
            str(model.get("role") or MISSING),
            str(model.get("name") or MISSING),
            *(column.show(model.get(column.key)) for column in columns),
        ]
        for model in models
    ]
    return headers, rows


def result_sentence(summary: Mapping[str, Any]) -> str:
    """What came out, in one sentence: the student against its best teacher.

    Args:
        summary: Of a run; only ``models`` is read.

    Returns:
        As much of it as was measured; empty without the student's figure.

    Example:
        >>> models = [
        ...     {"role": "teacher", "name": "large", "accuracy": 0.9, "parameters": 100_000_000},
        ...     {"role": "student", "name": "small", "accuracy": 0.875, "parameters": 25_000_000},
        ... ]
        >>> result_sentence({"models": models})  # doctest: +ELLIPSIS
        'The student reaches .8750 accuracy, .0250 below its best teacher, large, with 25 % ...'
    """
    models = ordered_models(summary)
    student = next((model for model in models if model.get("role") == "student"), {})
    first = headline(models)
    reached = number(student.get(first.key))
    if reached is None:
        return ""
    sentence = f"The student reaches {first.show(reached)} {first.phrase}"
    teachers = [
        (score, model)
        for model in models
        if model.get("role") == "teacher" and (score := number(model.get(first.key))) is not None
    ]
    if not teachers:
        return f"{sentence}."
    score, teacher = max(teachers, key=lambda pair: first.sign * pair[0])
    sentence += f", {_distance(reached - score, first)} its best teacher"
    sentence += f", {teacher['name']}" if teacher.get("name") else ""
    shares = [
        f"{format_share(own / other)} of its {what}"
        for key, what in (("parameters", "parameters"), ("latency_ms_batch1", "latency"))
        if (own := number(student.get(key))) and (other := number(teacher.get(key)))
    ]
    return f"{sentence}{', with ' if shares else ''}{_joined(shares)}."


def _distance(gain: float, first: Headline) -> str:
    if round(abs(gain), _SCORE_DIGITS) == 0:
        return "level with"
    return f"{first.show(abs(gain))} {'above' if gain > 0 else 'below'}"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(parts)
