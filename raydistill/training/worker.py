"""What every training worker does, from its first import to its last report."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from raydistill.config.task import RANKED
from raydistill.config.training import PipelineSection, TrainingSection
from raydistill.data import Stream
from raydistill.data.order import Rows
from raydistill.evaluation.evaluator import metrics_of
from raydistill.evaluation.metrics import greater_is_better
from raydistill.models import tokenize
from raydistill.objective import Moment, Objective, ObjectivePlan
from raydistill.pipeline import (
    Drawing,
    Fed,
    Feed,
    FreshRows,
    MicroBatch,
    StepRows,
    StreamedRows,
    Window,
    copied_ahead,
    plan_groups,
    plan_micro_batches,
    table_steps,
)
from raydistill.schedules import stage_at
from raydistill.signals import Ask
from raydistill.tasks import Reranking, Retrieval, TextTask, task_of
from raydistill.teachers.line import TeacherLine, open_source
from raydistill.terms import Seen
from raydistill.training import checkpoint
from raydistill.training.checkpoint import Progress
from raydistill.training.meter import Meter
from raydistill.training.parallel import is_sharded, parallelize
from raydistill.training.recorder import RecorderClient
from raydistill.training.schedule import Steps
from raydistill.training.step import (
    StudentModule,
    build_optimizer,
    build_scheduler,
    frozen_parameters,
    train_step,
)
from raydistill.training.student import StudentPlan, make_student, make_tokenizer

if TYPE_CHECKING:
    from raydistill.training.several import TaskStudents

__all__ = ["Worker", "WorkerJob", "rest_of_step", "run_worker"]

_PROGRESS_S = 0.5  # between two signs of life from worker 0


@dataclass(frozen=True)
class WorkerJob:
    """Everything a worker needs; tables and teachers are references, not contents.

    Attributes:
        seed: Of the run.
        student: How the student is made.
        objective: What is minimised.
        training: The section.
        pipeline: The section.
        steps: When what happens.
        teachers: By name.
        train: Reference to the training table, or a stream.
        fresh: References to rows that are added to it, for each epoch its own.
        shuffle_rows: How many rows of a stream are mixed at a time.
        validation: Reference to the validation table, or None.
        labels: Of the task.
        max_bytes_ahead: Of this worker.
        row_bytes: First estimate of a row's answers.
        group_rows: Rows that must stay together, since a loss compares them; 1 if none does.
        eval_rows: Rows of a forward pass while evaluating.
        manifest: What the run is made of.
        recorder: The actor.
        embeddings: Reference to the student's first embedding matrix, or None.
        max_positives: Of candidates of a query, those that are relevant in a group.
        pause_at: The step after which the workers save and stop for now; None: none.
        block_queries: Queries that must stay together, since a loss compares their passages; 1 if none does.
    """

    seed: int
    student: StudentPlan
    objective: ObjectivePlan
    training: TrainingSection
    pipeline: PipelineSection
    steps: Steps
    teachers: Mapping[str, TeacherLine]
    train: Any
    shuffle_rows: int
    validation: Any
    labels: tuple[str, ...]
    max_bytes_ahead: int
    row_bytes: float
    group_rows: int
    eval_rows: int
    manifest: Mapping[str, Any]
    recorder: Any
    embeddings: Any = None
    max_positives: int = 1
    block_queries: int = 1
    fresh: tuple[Any, ...] = ()
    pause_at: int | None = None

    def worker(self, scratch: Path) -> "Worker":
        """One that does it, with a folder of its own."""
        return Worker(self, scratch)


def run_worker(config: dict[str, Any]) -> None:
    """Ray Train's entry: train from the latest checkpoint, or the beginning, to the end."""
    job: WorkerJob = config["job"]
    with tempfile.TemporaryDirectory() as scratch:
        job.worker(Path(scratch)).run()


class Worker:
    """One worker's state."""

    def __init__(self, job: WorkerJob, scratch: Path) -> None:
        context = ray.train.get_context()
        self.job, self.scratch = job, scratch
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.recorder = RecorderClient(job.recorder)
        if job.training.gpus_per_worker > 0:
            self.device = ray.train.torch.get_device()
        else:
            self.device = torch.device("cpu")
            torch.set_num_threads(max(1, int(job.training.cpus_per_worker)))
        self.tokenizer = make_tokenizer(job.student)
        torch.manual_seed(job.seed)  # the same first weights everywhere
        self.core = self._make_core()
        self.core.train()
        students = (p for part in self.core.parts for p in part.student.parameters())
        self.trainable = [p for p in students if p.requires_grad]
        self.module = parallelize(
            self.core,
            device=self.device,
            world=self.world,
            sharding=job.training.sharding,
            example=self.tokenizer(["a"], return_tensors="pt"),
        )
        self._begin_stage(0)
        torch.manual_seed(job.seed * 1_000_003 + self.rank + 1)  # dropout differs between workers
        self.progress = Progress(world=self.world, manifest=job.manifest)
        self._last_sign = 0.0
        self.best_file = scratch / "best.safetensors"
        self._restore()

    def _make_core(self) -> "StudentModule | TaskStudents":
        """What is trained, with its first weights."""
        job, matrix = self.job, None
        if job.embeddings is not None:  # what Ray gives out cannot be written to
            matrix = torch.from_numpy(ray.get(job.embeddings).copy())
        student = make_student(job.student, self.tokenizer, matrix)
        return StudentModule(student, Objective(job.objective), job.training.precision)

    def _turn_to(self, step: int) -> Sequence[torch.nn.Parameter]:  # noqa: ARG002 - where there are turns
        """Make ready for a step; what stays as it is in it."""
        return self.frozen

    def _term_names(self) -> Sequence[str]:
        """Of all terms."""
        return self.job.objective.names

    def _first_term(self) -> int:
        """Place among them of the first of the present step."""
        return 0

    def _seen(self) -> Mapping[str, Seen]:
        """What teachers counted, by what stands before their names."""
        return {"": self.core.objective.weighting.seen}

    def _begin_stage(self, step: int) -> None:
        """A new optimizer for the stage of a step."""
        training = self.job.training
        self.stage = stage_at(self.job.objective.stages, step)
        self.frozen = frozen_parameters(self.core, self.stage)
        if self.world == 1:  # DDP expects a gradient of each; here it need not be computed
            frozen = set(self.frozen)
            for parameter in self.trainable:
                parameter.requires_grad_(parameter not in frozen)
        self.optimizer = build_optimizer(self.core, training, self.stage)
        self.scheduler = build_scheduler(self.optimizer, training, self.stage.steps)

    def _restore(self) -> None:
        latest = ray.train.get_checkpoint()
        if latest is None:
            return
        with latest.as_directory() as folder:
            done = checkpoint.read_progress(Path(folder)).step
            self._begin_stage(max(0, done - 1))
            self.progress = checkpoint.restore(
                Path(folder),
                rank=self.rank,
                world=self.world,
                stochastic=self.job.student.dropout > 0,
                module=self.core,
                optimizer=self.optimizer,
                scheduler=self.scheduler,
            )
            self.progress = replace(self.progress, world=self.world)
            best = Path(folder) / "best.safetensors"
            if best.exists():
                self.best_file.write_bytes(best.read_bytes())
            elif self.progress.best_step:
                self._save_best()
        if done >= self.stage.end:
            self._begin_stage(done)

    def run(self) -> None:
        """Train to the end, evaluating and saving on the way."""
        job, steps = self.job, self.job.steps
        if self.progress.end:
            return
        if self.progress.step == job.pause_at:
            self._tell_again()
            return
        feed = self._feed()
        items = copied_ahead(feed, self.device)
        meter = Meter(
            self._term_names(),
            world=self.world,
            device=self.device,
            seconds_before=self.progress.seconds,
        )
        stopping = False
        done = self.progress.step
        while done < steps.total and not stopping:
            if done >= self.stage.end:
                self._begin_stage(done)
            first = next(items)
            stopping = self._agree_to_stop() or done + 1 == job.pause_at
            frozen = self._turn_to(done)
            metrics = train_step(
                self.module,
                rest_of_step(first, items),
                optimizer=self.optimizer,
                moment=Moment(done, steps.total),
                max_grad_norm=job.training.max_grad_norm,
                device=self.device,
                world=self.world,
                frozen=frozen,
            )
            rate = float(self.scheduler.get_last_lr()[0])
            self.scheduler.step()
            done += 1
            self.progress = replace(self.progress, step=done)
            meter.add(metrics, rate, self._first_term())
            if done % job.training.log_every_steps == 0 or done == steps.total:
                values = meter.means(feed, self._seen())
                if self.rank == 0:
                    self.recorder.metrics(done, values)
            self._sign_of_life(feed)
            early = False
            if steps.evaluate_at(done):
                with meter.paused():
                    early = self._evaluate()
            if done == steps.total or early:
                self.progress = replace(
                    self.progress, end="early_stopping" if early else "finished"
                )
                stopping = True
            if steps.checkpoint_at(done) or stopping:
                with meter.paused():
                    self.progress = replace(self.progress, seconds=meter.seconds)
                    self._save(meter.summary(feed, self._seen()) if self.progress.end else {})
        feed.close()

    def _sign_of_life(self, feed: Feed) -> None:
        """Let the driver show progress, and hear whether to stop and which replicas to ask."""
        now = time.monotonic()
        if now - self._last_sign <= _PROGRESS_S:
            return
        self._last_sign = now
        if self.rank == 0:
            self.recorder.progress(self.progress.step)
        if any(line.elastic for line in self.job.teachers.values()):
            self.recorder.waited(self.rank, feed.waited_s)
            for name, actors in self.recorder.new_replicas().items():
                feed.set_replicas(name, actors)

    def _feed(self) -> Feed:
        job = self.job
        sources = {
            name: open_source(name, line, offset=self.rank, say=self.recorder.say)
            for name, line in job.teachers.items()
        }
        if self.rank == 0:
            for name, source in sources.items():
                if (said := source.describe()) is not None:
                    self.recorder.described(name, said)
        window = Window(job.pipeline.batches_ahead, job.max_bytes_ahead, job.row_bytes)
        return Feed(self._plan(), sources, self._asks_at, window)

    def _plan(self) -> Iterator[MicroBatch]:
        """This worker's micro-batches, from the first step that is left."""
        job, first, total = self.job, self.progress.step, self.job.steps.total
        return self._plan_task(job, self.core.objective, first, total)

    def _asks_at(self, step: int) -> Mapping[str, Ask]:
        return self.job.objective.asks_at(step)

    def _plan_task(
        self, job: WorkerJob, objective: Objective, first: int, total: int
    ) -> Iterator[MicroBatch]:
        """This worker's micro-batches of some steps."""
        if job.objective.task in RANKED:
            return self._groups(job, objective, first, total)
        data, steps, lengths = self._steps(job, first, total)
        return plan_micro_batches(
            steps,
            micro_batch_rows=job.training.micro_batch_rows,
            rank=self.rank,
            world=self.world,
            make_batch=lambda rows, filler: data.batch(
                rows, self.tokenizer, job.student.max_tokens, filler=filler
            ),
            count=objective.counts,
            lengths=lengths,
            group_rows=job.group_rows,
        )

    def _groups(
        self, job: WorkerJob, objective: Objective, first: int, total: int
    ) -> Iterator[MicroBatch]:
        """The micro-batches where rows are candidates of queries."""
        training = job.training
        task = self._task(job, ray.get(job.train))
        assert isinstance(task, Reranking), "its rows are candidates of queries"
        options = {"most": training.group_rows, "positives": job.max_positives, "seed": job.seed}
        return plan_groups(
            Drawing(
                task.queries().number,
                training.group_rows,
                lambda group, epoch: task.draw(group, epoch=epoch, **options),
                job.block_queries,
            ),
            batch_rows=training.batch_rows,
            micro_batch_rows=training.micro_batch_rows,
            seed=job.seed,
            rank=self.rank,
            world=self.world,
            first_step=first,
            total_steps=total,
            make_batch=lambda rows, filler: task.batch(
                rows, self.tokenizer, job.student.max_tokens, filler=filler
            ),
            count=objective.counts,
            lengths=task.lengths(),
        )

    def _steps(
        self, job: WorkerJob, first: int, total: int
    ) -> tuple[
        TextTask | FreshRows | StreamedRows, Iterator[StepRows], Callable[[Rows], NDArray[np.int64]]
    ]:
        """The rows to train on, which of them come when, and how long they are."""
        batch_rows, seed = job.training.batch_rows, job.seed
        if isinstance(job.train, Stream):
            streamed = StreamedRows(
                job.train,
                kind=job.objective.task,
                batch_rows=batch_rows,
                window_rows=job.shuffle_rows,
                seed=seed,
            )
            return streamed, streamed.steps(first, total), streamed.lengths
        table, teachers = ray.get(job.train), tuple(job.objective.columns)
        if job.fresh:
            fresh = FreshRows(
                lambda epoch: self._task_of_epoch(job, epoch),
                num_rows=table.num_rows + ray.get(job.fresh[0]).num_rows,
                batch_rows=batch_rows,
                seed=seed,
            )
            return fresh, fresh.steps(first, total), fresh.lengths
        task = task_of(job.objective.task, table, job.labels, teachers)
        steps = table_steps(
            task.num_rows, batch_rows=batch_rows, seed=seed, first_step=first, total_steps=total
        )
        return task, steps, task.lengths().__getitem__

    @staticmethod
    def _task_of_epoch(job: WorkerJob, epoch: int) -> TextTask:
        """The training rows and those that are added in one epoch."""
        table = pa.concat_tables([ray.get(job.train), ray.get(job.fresh[epoch])])
        return task_of(job.objective.task, table, job.labels)

    @staticmethod
    def _task(job: WorkerJob, table: Any) -> TextTask:
        """Rows that the student reads."""
        return task_of(job.objective.task, table, job.labels, embedder=job.student.embedder)

    def _agree_to_stop(self) -> bool:
        """Whether the user asked to stop; all workers hear the same at the same step."""
        flag = torch.tensor([float(self.recorder.stop_asked())], device=self.device)
        if self.world > 1:
            dist.all_reduce(flag)
        return bool(flag.item())

    @torch.no_grad()
    def _predict(self, task: TextTask) -> Tensor:
        """Logits of all rows of a task, or of their words, each worker a slice of them."""
        if isinstance(task, Retrieval):
            return self._predict_pairs(task)
        size = -(-task.num_rows // self.world)
        mine = range(
            min(self.rank * size, task.num_rows), min((self.rank + 1) * size, task.num_rows)
        )
        # Rows of like length share a forward pass; the order is put back below.
        order = mine.start + np.argsort(task.lengths()[mine.start : mine.stop], kind="stable")
        logits, places = [], []
        self.core.eval()
        # A sharded student passes forward on all workers or none, so it does for no rows of its own.
        last = size if is_sharded(self.core) else len(order)
        for begin in range(0, last, self.job.eval_rows):
            rows = order[begin : begin + self.job.eval_rows].tolist()
            batch = task.batch(rows or [0], self.tokenizer, self.job.student.max_tokens)
            answer = self.core.logits(batch.to(self.device)).cpu()
            places.append(task.places(rows))
            logits.append(answer[: len(places[-1])])
        self.core.train()
        part = torch.zeros(len(task.places(mine)), len(task.labels))
        if logits:
            where = torch.cat(places)
            part[where - (where.min() if len(where) else 0)] = torch.cat(logits)
        if self.world == 1:
            return part
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, part)
        return torch.cat(parts)

    def _predict_pairs(self, task: Retrieval) -> Tensor:
        """Scores of all pairs, ``[N, 1]``: each distinct text is embedded once, by one of the workers."""
        job, core, found = self.job, self.core, {}
        assert isinstance(core, StudentModule), "of several tasks none is of this kind"
        core.eval()
        for side, texts in task.prompted.items():
            order = np.argsort([len(text) for text in texts], kind="stable")
            mine = order[self.rank :: self.world]  # of like length, and as much for each
            part: list[Tensor] = []
            for begin in range(0, len(mine), job.eval_rows):
                some = [texts[i] for i in mine[begin : begin + job.eval_rows]]
                inputs = tokenize(self.tokenizer, [some], job.student.max_tokens)
                inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
                part.append(core.embeddings(inputs).cpu())
            found[side] = self._gathered(mine, part, len(texts))
        core.train()
        scorer, places = job.objective.scorer, task.pair_texts.places
        assert scorer is not None, "a student of pairs has one"
        rows = {side: found[side][torch.from_numpy(places[side])] for side in found}
        return scorer.pairs(rows["query"], rows["passage"]).unsqueeze(1)

    def _gathered(self, mine: NDArray[np.intp], part: list[Tensor], number: int) -> Tensor:
        """What all workers embedded, ``[number, D]``."""
        parts: list[Any] = [(mine, part)]
        if self.world > 1:
            parts = [None] * self.world
            dist.all_gather_object(parts, (mine, part))
        places = np.concatenate([where for where, _ in parts])
        values = torch.cat([piece for _, pieces in parts for piece in pieces])
        out = torch.empty_like(values)
        out[torch.from_numpy(places)] = values
        assert len(out) == number, "each worker embeds its share"
        return out

    def _evaluate(self) -> bool:
        """Measure on the validation rows, keep the best student; whether to stop early."""
        training = self.job.training
        metrics = self._validate()
        self.progress = replace(self.progress, last_metrics=dict(metrics))
        name = training.select_by
        patience = training.early_stopping
        if self.stage.end < self.job.steps.total:
            self._log_metrics(metrics)
            return False
        before = self.progress.best_step
        self.progress = self.progress.evaluated(
            metrics,
            name,
            greater_is_better=greater_is_better(name),
            margin=patience.min_improvement if patience else 0.0,
        )
        if self.progress.best_step != before:
            self._save_best()
        self._log_metrics(metrics)
        return patience is not None and self.progress.since_best >= patience.patience

    def _validate(self) -> dict[str, float]:
        return self._validate_task(self.job)

    def _validate_task(self, job: WorkerJob) -> dict[str, float]:
        """Metrics of the validation rows; none, if there are none."""
        if job.validation is None:
            return {}
        task = self._task(job, ray.get(job.validation))
        return metrics_of(self._predict(task), task, "validation")

    def _tell_again(self) -> None:
        """What the checkpoint was measured with: whoever waits for it may have died before hearing it."""
        if self.job.steps.evaluate_at(self.progress.step):
            self._log_metrics(self.progress.last_metrics)
            self.recorder.flush()

    def _log_metrics(self, metrics: Mapping[str, float]) -> None:
        if metrics and self.rank == 0:
            self.recorder.metrics(self.progress.step, metrics)

    def _save_best(self) -> None:
        """Keep the student as it is now, in a file of worker 0."""
        checkpoint.save_module(self._best(), self.best_file, keep=self.rank == 0)

    def _best(self) -> torch.nn.Module:
        """What is kept of the best."""
        return self.core.student

    def _save(self, summary: Mapping[str, float]) -> None:
        """Report a checkpoint made by all workers together."""
        with tempfile.TemporaryDirectory() as folder:
            other_best = 0 < self.progress.best_step != self.progress.step
            checkpoint.write(
                Path(folder),
                rank=self.rank,
                progress=self.progress,
                module=self.core,
                optimizer=self.optimizer,
                scheduler=self.scheduler,
                best=self.best_file if other_best else None,
            )
            ray.train.report(
                {"step": self.progress.step, **summary},
                checkpoint=ray.train.Checkpoint.from_directory(folder),
            )


def rest_of_step(first: Fed, items: Iterator[Fed]) -> Iterator[Fed]:
    """The micro-batches of one step, up to the last."""
    for item in chain([first], items):
        yield item
        if item.micro_batch.last:
            return
