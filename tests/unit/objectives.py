"""Objectives, batches and teachers' answers made on the spot; answers depend on the row alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raydistill.alignment import ProjectionSpec
from raydistill.config.losses import (
    CrossEntropyLoss,
    ForwardKLLoss,
    HiddenMSELoss,
    SoftCrossEntropyLoss,
)
from raydistill.config.training import TrainingSection
from raydistill.losses import CATALOG
from raydistill.models import ModelSource, build_student, load_tokenizer, tokenize
from raydistill.objective import Moment, Objective, ObjectivePlan, Term
from raydistill.pipeline import Fed, MicroBatch
from raydistill.signals import Ask, HiddenAsk, TeacherSignal, pack_signal
from raydistill.tasks import Batch
from raydistill.terms import FeatureMatch, HardMatch, LayerPair, SoftMatch
from raydistill.training.step import StudentModule, build_optimizer, build_scheduler
from tests.conftest import make_rows

NUM_ROWS = 12
TEXTS = [row["text"] for row in make_rows(NUM_ROWS, seed=21)]
LABELS = [0, 1, -100, 1, 0, -100, -100, 1, 0, 0, 1, 1]
WIDTHS = {"wide": 6, "deep": 5}
WEIGHTS = {"wide": 0.75, "deep": 0.25}
COLUMNS = {"wide": (1, 0), "deep": (0, 1)}
LAYER = {"wide": 3, "deep": 2}


def cross_entropy(weight: float = 0.3) -> CrossEntropyLoss:
    return CrossEntropyLoss(kind="cross_entropy", weight=weight)


def forward_kl(weight: float = 0.7, **options: Any) -> ForwardKLLoss:
    return ForwardKLLoss(kind="forward_kl", weight=weight, **options)


def soft_cross_entropy(weight: float = 1.0, **options: Any) -> SoftCrossEntropyLoss:
    return SoftCrossEntropyLoss(kind="soft_cross_entropy", weight=weight, **options)


def hidden_mse(positions: Any = "all", weight: float = 0.5) -> HiddenMSELoss:
    return HiddenMSELoss(
        kind="hidden_mse", weight=weight, layers=[[1, 3]], positions=positions, projection="linear"
    )


def make_plan(
    losses: Sequence[Any], combine: Any = "probabilities", width: int = 32
) -> ObjectivePlan:
    """Hidden losses pair the student's layers 1 and 2 with one layer of each teacher."""
    terms, projections = [], []
    asks: dict[str, set[HiddenAsk]] = {"wide": set(), "deep": set()}
    for index, loss in enumerate(losses):
        entry, name = CATALOG[loss.kind], f"{index}.{loss.kind}"
        match: Any = HardMatch(entry)
        if isinstance(loss, HiddenMSELoss):
            pairs = []
            for teacher, student_layer in (("wide", 1), ("wide", 2), ("deep", 2)):
                key = f"loss{index}_{teacher}_{student_layer}"
                pairs.append(LayerPair(teacher, (student_layer,), (LAYER[teacher],), key))
                projections.append(ProjectionSpec(key, "linear", width, WIDTHS[teacher]))
                asks[teacher].add(HiddenAsk(LAYER[teacher], loss.positions))
            match = FeatureMatch(name, entry, tuple(pairs), positions=loss.positions)
        elif not isinstance(loss, CrossEntropyLoss):
            squared = {"scale_by_temperature_squared": loss.scale_by_temperature_squared}
            match = SoftMatch(entry, squared, loss.temperature)
        terms.append(Term(name, match, loss.weight))
    return ObjectivePlan(
        terms=tuple(terms), combine=combine, weights=WEIGHTS, columns=COLUMNS,
        asks={name: Ask(tuple(sorted(hidden))) for name, hidden in asks.items()},
        projections=tuple(projections), seed=3,
    )  # fmt: skip


NOW = Moment(0, 10)


def make_tokenizer(folder: Path) -> Any:
    return load_tokenizer(ModelSource("student", str(folder), str(folder)))


def make_batch(rows: Sequence[int], tokenizer: Any, *, filler: bool = False) -> Batch:
    texts = (tuple(TEXTS[row] for row in rows),)
    return Batch(
        tuple(rows), texts, tokenize(tokenizer, texts, 16),
        torch.tensor([LABELS[row] for row in rows]), torch.full((len(rows),), not filler),
    )  # fmt: skip


def make_signals(plan: ObjectivePlan, batch: Batch) -> dict[str, TeacherSignal]:
    """Random answers, the same for a row in whatever batch it stands."""
    signals = {}
    lengths = batch.token_mask.sum(1).tolist()
    for number, (name, ask) in enumerate(plan.asks.items()):
        parts: dict[str, list[Tensor]] = {"logits": []}
        for row, length in zip(batch.row_ids, lengths, strict=True):
            draw = torch.Generator().manual_seed(1000 * number + row)
            parts["logits"].append(2 * torch.randn(1, 2, generator=draw))
            for hidden in ask.hidden:
                size = length if hidden.pooling == "all" else 1
                part = torch.randn(size, WIDTHS[name], generator=draw)
                parts.setdefault(hidden.key, []).append(part)
        whole = {key: torch.cat(pieces) for key, pieces in parts.items()}
        signals[name] = pack_signal(name, batch.row_ids, lengths, whole, ask.dtype)
    return signals


def make_module(folder: Path, plan: ObjectivePlan, dropout: float = 0.0) -> StudentModule:
    torch.manual_seed(0)
    source = ModelSource("student", str(folder), str(folder))
    student = build_student(
        labels=("negative", "positive"), dropout=dropout, source=source, head_columns=[0, 1]
    )
    return StudentModule(student.train(), Objective(plan)).train()


def make_fed(
    plan: ObjectivePlan, objective: Objective, tokenizer: Any, pieces: Sequence[Sequence[int]],
    *, filler: bool = False,
) -> list[Fed]:  # fmt: skip
    """One step of one worker, cut into these micro-batches."""
    batches = [make_batch(rows, tokenizer, filler=filler) for rows in pieces]
    share = torch.stack([objective.counts(batch) for batch in batches]).sum(0)
    return [
        Fed(
            MicroBatch(0, 0, batch, i == len(batches) - 1, share if i == 0 else None),
            make_signals(plan, batch),
        )
        for i, batch in enumerate(batches)
    ]


def make_optimizer(module: StudentModule, **changes: Any) -> tuple[Any, Any]:
    training = TrainingSection(**{"learning_rate": 0.01, "epochs": 1, **changes})
    optimizer = build_optimizer(module, training)
    return optimizer, build_scheduler(optimizer, training, 10)


LOSSES = (cross_entropy(), forward_kl(temperature=2.0), hidden_mse(), hidden_mse("mean"))
"""One of each kind."""
