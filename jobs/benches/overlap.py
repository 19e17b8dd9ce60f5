"""overlap: how much of the teacherless student's speed is left when it pulls teachers' answers.

1, 3 and 8 teachers, logits alone or with two hidden layers of each (32 x 64 tokens x 384, float16);
and three teachers with 2 and 4 data-parallel workers that share the cores, with 32 rows each, and with
32 rows together, where a step of four workers is 12 answers for 8 rows. The teachers only sleep, 0.8 of
the student's step: they stand for GPUs elsewhere. Pool, feed, objective and step
are the package's own; alone and accompanied stretches alternate in the same processes, medians of the
ratios are given, and between what the middle half of them lies. The store is left out: every answer
is asked for.
"""

import os
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import ray
import torch

from benches.common import Alternating, line, median, say, spread
from raydistill.config.training import TrainingSection
from raydistill.losses import CATALOG
from raydistill.models import ModelSource, load_tokenizer
from raydistill.objective import Moment, Objective, ObjectivePlan, Term
from raydistill.pipeline import Feed, Window, plan_micro_batches, table_steps
from raydistill.signals import Ask, HiddenAsk
from raydistill.tasks import TextClassification
from raydistill.teachers.actor import TeacherActor
from raydistill.teachers.pool import TeacherPool
from raydistill.teachers.simulated import SimulatedSettings, SimulatedTeacher
from raydistill.teachers.transport import ActorTransport
from raydistill.terms import FeatureMatch, HardMatch, LayerPair, SoftMatch
from raydistill.training.step import StudentModule, build_optimizer, train_step
from raydistill.training.student import StudentPlan, make_student
from raydistill.training.worker import rest_of_step

LABELS = ("negative", "positive")
ROWS, TOKENS, WIDTH, LAYERS = 32, 64, 384, 6
STUDENT = {
    "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": 12, "intermediate_size": 4 * WIDTH,
}  # fmt: skip
AHEAD = 4
TEACHERS = (1, 3, 8)
WORKERS, SHARED = (2, 4), 3
LATENCY = 0.8  # of the student's step


def word_tokenizer(folder: Path) -> ModelSource:
    """A vocabulary of 1,000 words, so that 62 words are 64 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(1000))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    return ModelSource("bench", str(folder), str(folder))


def rows_of_words(count: int) -> TextClassification:
    """Rows of exactly TOKENS tokens."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(0, 1000, (count, TOKENS - 2), generator=draw).tolist()
    return TextClassification(
        pa.table({
            "text": [" ".join(f"w{i}" for i in row) for row in words],
            "label": pa.array([i % 2 for i in range(len(words))], pa.int32()),
            "row_id": pa.array(range(len(words)), pa.int64()),
        }),
        LABELS,
    )  # fmt: skip


def objective_plan(teachers: list[str], hidden: bool) -> ObjectivePlan:
    """Hard labels; with teachers also soft ones, and two pairs of layers a teacher."""
    terms = [Term("0.cross_entropy", HardMatch(CATALOG["cross_entropy"]))]
    if teachers:
        terms.append(Term("1.forward_kl", SoftMatch(CATALOG["forward_kl"], temperature=2.0)))
    layers = [3, 6] if hidden else []
    if layers:
        pairs = tuple(LayerPair(t, (layer,), (layer,)) for t in teachers for layer in layers)
        name = "2.hidden_mse"
        terms.append(Term(name, FeatureMatch(name, CATALOG["hidden_mse"], pairs)))
    ask = Ask(tuple(HiddenAsk(layer) for layer in layers), (), "float16")
    return ObjectivePlan(
        terms=tuple(terms),
        weights={name: 1 / len(teachers) for name in teachers},
        columns=dict.fromkeys(teachers, (0, 1)),
        asks=dict.fromkeys(teachers, ask),
    )


class Case:
    """One student with its teachers; runs stretches of steps."""

    def __init__(  # noqa: PLR0917 - plain fields
        self,
        name: str,
        source: ModelSource,
        task: TextClassification,
        teachers: dict,
        hidden: bool,
        rank: int = 0,
        world: int = 1,
        rows: int = ROWS,
    ) -> None:
        self.name, self.task, self.teachers = name, task, teachers
        self.rank, self.world, self.rows = rank, world, rows
        self.tokenizer = load_tokenizer(source)
        torch.manual_seed(0)
        plan = StudentPlan(source, LABELS, TOKENS, 0.0, random_config=STUDENT)
        self.plan = objective_plan(list(teachers), hidden)
        self.core = StudentModule(make_student(plan, self.tokenizer), Objective(self.plan)).train()
        self.optimizer = build_optimizer(self.core, TrainingSection())
        self.module: torch.nn.Module = self.core
        if world > 1:
            self.module = torch.nn.parallel.DistributedDataParallel(self.core)
        self.wait_fraction = 0.0
        self.sources: dict | None = None  # instead of pools of the teachers

    def seconds_per_step(self, steps: int, warm: int = 2) -> float:
        """Mean over a stretch, the first steps left out: there the line to the teachers fills."""
        sources = self.sources or {
            name: TeacherPool(name, ActorTransport(name, [actor]), timeout_s=120, max_retries=0)
            for name, actor in self.teachers.items()
        }
        world = self.world
        plan = plan_micro_batches(
            table_steps(self.task.num_rows, batch_rows=self.rows, seed=0, first_step=0, total_steps=steps + warm),
            micro_batch_rows=None, rank=self.rank, world=world,
            make_batch=lambda rows, filler: self.task.batch(rows, self.tokenizer, TOKENS, filler=filler),
            count=self.core.objective.counts,
        )  # fmt: skip
        feed = Feed(plan, sources, self.plan.asks_at, Window(AHEAD, 1 << 30))
        items = iter(feed)
        for done in range(steps + warm):
            if done == warm:
                begin, waited = time.perf_counter(), feed.wait_s
            train_step(
                self.module, rest_of_step(next(items), items), optimizer=self.optimizer,
                moment=Moment(done, steps + warm), max_grad_norm=1.0, device=torch.device("cpu"), world=world,
            )  # fmt: skip
        elapsed = time.perf_counter() - begin
        self.wait_fraction = (feed.wait_s - waited) / elapsed
        return elapsed / steps


class _Worker:
    """One of several data-parallel workers, in a process of its own."""

    def __init__(self, rank: int, world: int, rows: int, rendezvous: str, steps: int) -> None:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world
        )
        self.ground = word_tokenizer(Path(tempfile.mkdtemp())), rows_of_words(rows * (steps + 2))
        self.shape, self.steps = (rank, world, rows), steps
        self.cases: dict[str, Case] = {}

    def seconds(self, case: str, teachers: dict) -> float:
        """Of a step."""
        if case not in self.cases:
            self.cases[case] = Case(case, *self.ground, teachers, bool(teachers), *self.shape)
        return self.cases[case].seconds_per_step(self.steps)


def overlap(repeats: int, steps: int) -> list[dict]:
    """All cases against the student alone, in this one process; then with several workers."""
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        found = _one_worker(repeats, steps)
        for world in WORKERS:
            for rows in (ROWS * world, ROWS):
                found.append(_several_workers(world, rows, repeats, steps))
        return found
    finally:
        ray.shutdown()


def _teachers(count: int, seconds: float) -> dict:
    """Actors that sleep."""
    actor = ray.remote(TeacherActor)
    found = {}
    for i in range(count):
        settings = SimulatedSettings(f"t{i}", seconds, LABELS, WIDTH, TOKENS, seed=i)
        found[f"t{i}"] = actor.options(num_cpus=0).remote(SimulatedTeacher, settings)
    ray.get([teacher.ping.remote() for teacher in found.values()])
    return found


def _several_workers(world: int, rows: int, repeats: int, steps: int) -> dict:
    rendezvous = f"{tempfile.mkdtemp()}/rendezvous"  # the file is made by the workers
    worker = ray.remote(_Worker)
    workers = [
        worker.options(num_cpus=0).remote(rank, world, rows, rendezvous, steps)
        for rank in range(world)
    ]

    def stretch(case: str, teachers: dict) -> float:
        return max(ray.get([w.seconds.remote(case, teachers) for w in workers]))

    stretch("alone", {})
    step_s = stretch("alone", {})
    # A request has the rows of one worker: so many are answered in the time of a step.
    teachers = _teachers(SHARED, LATENCY * step_s / world)
    stretch("accompanied", teachers)
    name = (
        f"{SHARED} teachers, logits and 2 hidden layers, {world} workers, {rows // world} rows each"
    )
    found = Alternating(
        lambda: stretch("alone", {}), {name: lambda: stretch("accompanied", teachers)}
    )
    for turn in range(repeats):
        found.turn()
        say(f"{turn + 1}/{repeats} {name}: {found.ratios[name][-1]:.3f}")
    for actor in [*workers, *teachers.values()]:
        ray.kill(actor)
    return _line(found, name, "the same workers without teachers", rows)


def _line(found: Alternating, name: str, against: str, rows: int = ROWS) -> dict:
    return line(
        "overlap", name, rows / median(found.seconds[name]), "rows/s", against,
        rows / median(found.rival_s[name]), median(found.ratios[name]),
        middle_half=spread(found.ratios[name]),
    )  # fmt: skip


def _one_worker(repeats: int, steps: int) -> list[dict]:
    folder = tempfile.mkdtemp()
    source = word_tokenizer(Path(folder))
    task = rows_of_words(ROWS * (steps + 2))
    alone = Case("alone", source, task, {}, hidden=False)
    step_s = alone.seconds_per_step(steps)
    step_s = alone.seconds_per_step(steps)
    say(
        f"student alone: {step_s * 1000:.0f} ms a step; teachers sleep {LATENCY * step_s * 1000:.0f} ms"
    )
    teachers = _teachers(max(TEACHERS), LATENCY * step_s)
    cases = [
        Case(f"{count} teacher{'s' * (count > 1)}, {'logits and 2 hidden layers' if hidden else 'logits'}",
             source, task, dict(list(teachers.items())[:count]), hidden)
        for count in TEACHERS for hidden in (False, True)
    ]  # fmt: skip
    found = Alternating(
        lambda: alone.seconds_per_step(steps, warm=1),
        {case.name: lambda case=case: case.seconds_per_step(steps) for case in cases},  # type: ignore[misc]
    )
    for turn in range(repeats):
        found.turn()
        for case in cases:
            ratio = found.ratios[case.name][-1]
            say(f"{turn + 1}/{repeats} {case.name}: {ratio:.3f} (waiting {case.wait_fraction:.1%})")
    return [_line(found, case.name, "the same student without teachers") for case in cases]
