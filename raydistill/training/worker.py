"""What every training worker does, from its first weights to its last report."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from raydistill.evaluation.evaluator import metrics_of
from raydistill.evaluation.metrics import greater_is_better
from raydistill.objective import Moment, Objective
from raydistill.pipeline import Fed, Feed, MicroBatch, Window, copied_ahead
from raydistill.schedules import stage_at
from raydistill.signals import Ask
from raydistill.teachers.line import open_source
from raydistill.terms import Seen
from raydistill.training import checkpoint
from raydistill.training.checkpoint import Progress
from raydistill.training.job import WorkerJob
from raydistill.training.meter import Meter
from raydistill.training.parallel import parallelize
from raydistill.training.planning import Planner, read_task
from raydistill.training.predicting import Predictor
from raydistill.training.recorder import RecorderClient
from raydistill.training.step import (
    StudentModule,
    build_optimizer,
    build_scheduler,
    frozen_parameters,
    train_step,
)
from raydistill.training.student import make_student, make_tokenizer

if TYPE_CHECKING:
    from raydistill.training.several import TaskStudents

__all__ = ["Worker", "rest_of_step"]

_PROGRESS_S = 0.5  # between two signs of life from worker 0


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
        self.planner = Planner(self.tokenizer, self.rank, self.world)
        self.predictor = Predictor(self.core, self.tokenizer, self.device, self.rank, self.world)
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
        return self.planner.plan(job, self.core.objective, first, total)

    def _asks_at(self, step: int) -> Mapping[str, Ask]:
        return self.job.objective.asks_at(step)

    def _agree_to_stop(self) -> bool:
        """Whether the user asked to stop; all workers hear the same at the same step."""
        flag = torch.tensor([float(self.recorder.stop_asked())], device=self.device)
        if self.world > 1:
            dist.all_reduce(flag)
        return bool(flag.item())

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
        task = read_task(job, ray.get(job.validation))
        return metrics_of(self.predictor.predict(job, task), task, "validation")

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
