"""One optimizer step: pure torch, the same on one process and on many.

DDP and FSDP2 average gradients over the workers, the objective is a sum over all of them divided by
a count over all of them; so each worker's share is multiplied by the number of workers before.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raydistill.config.training import TrainingSection
from raydistill.errors import NotFiniteError
from raydistill.models import first_pieces, logits_of
from raydistill.models.inside import InsideReader
from raydistill.models.spans import lay_out, span_logits, span_table
from raydistill.objective import Moment, Objective
from raydistill.pipeline import Fed
from raydistill.schedules import Stage, frozen_names
from raydistill.signals import TeacherSignal
from raydistill.tasks import Batch, TextPairs
from raydistill.terms import Embedded, StudentOutputs
from raydistill.training.nearby import again
from raydistill.training.parallel import core_of, rounds, sync_of, whole
from raydistill.training.schedule import learning_rate_factor

if TYPE_CHECKING:
    from raydistill.training.several import TaskStudents

__all__ = [
    "StepMetrics",
    "StudentModule",
    "build_optimizer",
    "build_scheduler",
    "frozen_parameters",
    "train_step",
]


class StudentModule(nn.Module):
    """What is trained: the student and, in the objective, all that is learned beside it.

    Args:
        student: A Hugging Face model that classifies texts, or words, or finds answers, or an embedder of texts.
        objective: What is minimised.
        precision: ``bfloat16`` runs the student's forward pass under autocast.
    """

    def __init__(
        self, student: nn.Module, objective: Objective, precision: str = "float32"
    ) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self._autocast = precision == "bfloat16"
        self._wanted = {"output_hidden_states": objective.plan.student_hidden}
        if objective.plan.student_attention:  # fused attention cannot give maps
            self._wanted["output_attentions"] = True
            student.set_attn_implementation("eager")  # type: ignore[operator]
        self._inside = objective.plan.student_inside
        self._reader = InsideReader(student) if self._inside else None

    def forward(
        self, batch: Batch, signals: Mapping[str, TeacherSignal], moment: Moment, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """This micro-batch's share of the step.

        Args:
            batch: The rows.
            signals: The teachers' answers for them.
            moment: Of the step.
            counts: What each term averages over in the whole step, ``[terms]`` float32.

        Returns:
            Shares of the terms' values, ``[terms]``, unweighted, and of what is minimised, a scalar.
        """
        if batch.pairs is not None:
            return self._of_sums(self._of_pairs(batch, batch.pairs), batch, signals, moment, counts)
        adversarial = self.objective.plan.adversarial_at(moment.step)
        nearby = again(self.student, batch, self._autocast) if adversarial else None
        with (
            torch.autocast(batch.labels.device.type, torch.bfloat16, enabled=self._autocast),
            self._reading(batch.token_mask.shape) as inside,
        ):
            outputs = self.student(**batch.inputs, **self._wanted)
        said = StudentOutputs(
            _of_units(logits_of(outputs).float(), batch),
            getattr(outputs, "hidden_states", None) or (),
            getattr(outputs, "attentions", None) or (),
            inside,
            nearby,
        )
        return self._of_sums(said, batch, signals, moment, counts)

    def _of_pairs(self, batch: Batch, pairs: TextPairs) -> StudentOutputs:
        """Queries and passages each by themselves, and the scores of the rows' pairs."""
        scorer = self.objective.plan.scorer
        assert scorer is not None, "pairs are read apart where there is something to score them"
        with torch.autocast(batch.labels.device.type, torch.bfloat16, enabled=self._autocast):
            queries, passages = self.student(**pairs.queries), self.student(**batch.inputs)
        found = Embedded(queries.logits.float(), passages.logits.float())
        scores = scorer.pairs(found.queries[batch.group], found.passages[pairs.passage])
        return StudentOutputs(scores.unsqueeze(1), embedded=found)

    def _of_sums(
        self,
        said: StudentOutputs,
        batch: Batch,
        signals: Mapping[str, TeacherSignal],
        moment: Moment,
        counts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """From what the student says to its share of the step."""
        sums = self.objective(said, batch, signals, moment)
        # A term that nothing counts for is 0; its sum is 0 too.
        terms = sums / counts.clamp(min=1.0)
        loss = self.objective.total(terms, moment, batch, counts)
        # Every parameter takes part in the graph, also where only features are matched: DDP waits
        # for a gradient of each.
        touched = 0.0 * said.logits.sum()
        if len(self.objective.plan.stages) > 1:
            touched = touched + 0.0 * sum(p.sum() for p in self.objective.parameters())
        return terms, loss + touched

    @property
    def parts(self) -> "tuple[StudentModule, ...]":
        """A student and its objective each; here only itself."""
        return (self,)

    def _reading(self, tokens: torch.Size) -> AbstractContextManager[Mapping[str, Tensor]]:
        if self._reader is None:
            return nullcontext({})
        return self._reader.reading(self._inside, tokens)

    def embeddings(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Of texts alone, in the student's own precision, ``[T, D]`` float32."""
        found: Tensor = self.student(**inputs).logits.float()
        return found

    def logits(self, batch: Batch) -> Tensor:
        """The student's answer alone, in its own precision, ``[B, C]`` float32; of words ``[U, C]``, of windows ``[P, 2]``.

        A word that has no token is a row of -inf. Places of windows are as of
        :func:`~raydistill.models.spans.span_table`.
        """
        values = logits_of(self.student(**batch.inputs)).float()
        if batch.spans is not None:
            units, rest = span_logits(values, batch.token_mask, batch.spans)
            sizes = torch.bincount(batch.spans.units.row, minlength=len(rest)).tolist()
            return span_table(units, rest, batch.spans.mapped[:, :2], sizes)
        answer = _of_units(values, batch)
        if batch.words is None:
            return answer
        return answer.masked_fill(~batch.words.mapped.unsqueeze(1), -torch.inf)


def _of_units(logits: Tensor, batch: Batch) -> Tensor:
    """Logits of the rows, or of their words; of windows those of both sides in the student's own classes."""
    if batch.spans is not None:
        units, rest = span_logits(logits, batch.token_mask, batch.spans)
        return lay_out(units, rest, batch.spans.mapped[:, :2], batch.spans.units.row)[0]
    return logits if batch.words is None else first_pieces(logits, batch.words)


@dataclass(frozen=True)
class StepMetrics:
    """One optimizer step, this worker's share.

    Attributes:
        terms: Each term's share of its value over the global batch, ``[terms]``; the sum over workers
            is the value.
        loss: Likewise, weighted and summed; a scalar.
        grad_norm: Of student and projections together, before clipping; the same on all workers.
        rows: Of this worker.
        tokens: Of this worker.
    """

    terms: Tensor
    loss: Tensor
    grad_norm: Tensor
    rows: int
    tokens: int


def frozen_parameters(module: "StudentModule | TaskStudents", stage: Stage) -> list[nn.Parameter]:
    """Of the student, those that stay as they are in a stage."""
    named = dict(module.student.named_parameters())
    return [named[name] for name in sorted(frozen_names(named, stage.freeze))]


def build_optimizer(
    module: "StudentModule | TaskStudents", training: TrainingSection, stage: Stage | None = None
) -> torch.optim.AdamW:
    """AdamW: matrices decay, biases and normalisations do not, what the objective learns has its own rates."""
    rate, decay = training.learning_rate, training.weight_decay
    frozen: set[nn.Parameter] = set()
    if stage is not None:
        rate = stage.learning_rate or rate
        frozen = set(frozen_parameters(module, stage))
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    seen = set(frozen)
    for parameter in chain(*(part.student.parameters() for part in module.parts)):
        if parameter not in seen:
            seen.add(parameter)
            own = decay if parameter.ndim > 1 else 0.0
            groups.setdefault(("student", rate, own), []).append(parameter)
    beside = training.projection_learning_rate or rate
    for learned in chain(*(part.objective.learns(beside, decay) for part in module.parts)):
        key = ("objective", learned.learning_rate, learned.weight_decay)
        groups.setdefault(key, []).append(learned.parameter)
    return torch.optim.AdamW(
        [{"params": some, "lr": lr, "weight_decay": wd} for (_, lr, wd), some in groups.items()],
        lr=rate,
        fused=True,
    )


def build_scheduler(
    optimizer: torch.optim.Optimizer, training: TrainingSection, total: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate of every step."""

    def factor(step: int) -> float:
        return learning_rate_factor(
            step, total=total, warmup_fraction=training.warmup_fraction, schedule=training.schedule
        )

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_step(
    module: nn.Module,
    fed: Iterable[Fed],
    *,
    optimizer: torch.optim.Optimizer,
    moment: Moment,
    max_grad_norm: float | None,
    device: torch.device,
    world: int,
    frozen: Sequence[nn.Parameter] = (),
) -> StepMetrics:
    """Forward and backward over the step's micro-batches, then one update.

    Args:
        module: A StudentModule, as :func:`raydistill.training.parallel.parallelize` gives it back.
        fed: The step's micro-batches with their signals; the first carries the share's counts.
        optimizer: Over all parameters of the module.
        moment: Of the step.
        max_grad_norm: Clip; None does not.
        device: Of the module.
        world: Number of workers.
        frozen: Parameters that stay as they are: their gradients are dropped, before the norm is taken.

    Raises:
        NotFiniteError: The loss, or the gradient of another worker, is not finite; no update is made.
    """
    core: StudentModule | TaskStudents = core_of(module)
    optimizer.zero_grad(set_to_none=True)
    counts = None
    total_terms = torch.zeros(len(core.objective.plan.names), device=device)
    total_loss = torch.zeros((), device=device)
    rows = tokens = 0
    row_ids: list[int] = []
    for part in rounds(module, fed, device):
        micro = part.fed.micro_batch
        if part.counts and micro.share is not None:
            counts = _all_workers(micro.share.clone(), device, world).float()
        if counts is None:
            raise AssertionError("the first micro-batch of a step carries the counts")
        batch = micro.batch.to(device)
        with sync_of(module, last=part.last):
            terms, loss = module(batch, part.fed.signals, moment, counts)
            core.objective.require_finite(terms.detach(), micro.batch)
            (loss * (world if part.counts else 0)).backward()
        if not part.counts:
            continue
        core.objective.note_weights()
        total_terms += terms.detach()
        total_loss += loss.detach()
        rows += micro.batch.num_rows
        tokens += micro.batch.num_tokens
        row_ids.extend(micro.batch.row_ids)
    for parameter in frozen:
        parameter.grad = None
    parameters = [p for p in module.parameters() if p.grad is not None]
    grads = [p.grad for p in parameters if p.grad is not None]
    grad_norm = whole(torch.nn.utils.get_total_norm(grads))
    if not torch.isfinite(grad_norm):
        raise NotFiniteError(
            "the gradient", row_ids, "Lower training.learning_rate, or train in float32."
        )
    if max_grad_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, grad_norm)
    optimizer.step()
    if core.objective.balance_needs_values and counts is not None:
        values = _all_workers(total_terms.clone(), device, world)
        core.objective.update_balance(values, counts, moment)
    return StepMetrics(total_terms, total_loss, grad_norm, rows, tokens)


def _all_workers(share: Tensor, device: torch.device, world: int) -> Tensor:
    """Sum over the workers."""
    share = share.to(device)
    if world > 1:
        dist.all_reduce(share)
    return share
