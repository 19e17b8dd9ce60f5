"""overlap: how much of the teacherless student's speed is left when it pulls teachers' answers.

1, 3 and 8 teachers, logits alone or with two hidden layers of each (32 x 64 tokens x 384, float16).
The teachers only sleep, 0.8 of the student's step: they stand for GPUs elsewhere. Pool, feed,
objective and step are the package's own; alone and accompanied stretches alternate in one process,
medians are compared. The store is left out: every answer is asked for.
"""

import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import ray
import torch

from benches.common import line, say
from raydistill.config.losses import CrossEntropyLoss, ForwardKLLoss, HiddenMSELoss
from raydistill.config.training import TrainingSection
from raydistill.models import ModelSource, load_tokenizer
from raydistill.objective import HiddenPair, Objective, ObjectivePlan, Term
from raydistill.pipeline import Feed, Window, plan_micro_batches
from raydistill.signals import Ask, HiddenAsk
from raydistill.tasks import TextClassification
from raydistill.teachers.actor import ActorTransport, TeacherActor
from raydistill.teachers.pool import TeacherPool
from raydistill.teachers.simulated import SimulatedSettings, SimulatedTeacher
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
    terms = [Term("0.cross_entropy", CrossEntropyLoss(kind="cross_entropy"))]
    if teachers:
        terms.append(Term("1.forward_kl", ForwardKLLoss(kind="forward_kl", temperature=2.0)))
    layers = [3, 6] if hidden else []
    if layers:
        pairs = [[layer, layer] for layer in layers]
        loss = HiddenMSELoss(kind="hidden_mse", layers=pairs)
        matches = tuple(HiddenPair(t, layer, layer, None) for t in teachers for layer in layers)
        terms.append(Term("2.hidden_mse", loss, matches))
    ask = Ask(tuple(HiddenAsk(layer) for layer in layers), (), "float16")
    return ObjectivePlan(
        terms=tuple(terms),
        combine="probabilities",
        weights={name: 1 / len(teachers) for name in teachers},
        columns=dict.fromkeys(teachers, (0, 1)),
        asks=dict.fromkeys(teachers, ask),
        projections=(),
        seed=0,
    )


class Case:
    """One student with its teachers; runs stretches of steps."""

    def __init__(
        self, name: str, source: ModelSource, task: TextClassification, teachers: dict, hidden: bool
    ) -> None:
        self.name, self.task, self.teachers = name, task, teachers
        self.tokenizer = load_tokenizer(source)
        torch.manual_seed(0)
        plan = StudentPlan(source, LABELS, TOKENS, 0.0, random_config=STUDENT)
        self.plan = objective_plan(list(teachers), hidden)
        self.module = StudentModule(
            make_student(plan, self.tokenizer), Objective(self.plan)
        ).train()
        self.optimizer = build_optimizer(self.module, TrainingSection())
        self.wait_fraction = 0.0
        self.sources: dict | None = None  # instead of pools of the teachers

    def seconds_per_step(self, steps: int, warm: int = 2) -> float:
        """Mean over a stretch, the first steps left out: there the line to the teachers fills."""
        sources = self.sources or {
            name: TeacherPool(name, ActorTransport(name, [actor]), timeout_s=120, max_retries=0)
            for name, actor in self.teachers.items()
        }
        plan = plan_micro_batches(
            num_rows=self.task.num_rows, batch_rows=ROWS, micro_batch_rows=None, seed=0, rank=0, world=1,
            first_step=0, total_steps=steps + warm,
            make_batch=lambda rows, filler: self.task.batch(rows, self.tokenizer, TOKENS, filler=filler),
            count=self.module.objective.counts,
        )  # fmt: skip
        feed = Feed(plan, sources, self.plan.asks, Window(AHEAD, 1 << 30))
        items = iter(feed)
        for done in range(steps + warm):
            if done == warm:
                begin, waited = time.perf_counter(), feed.wait_s
            train_step(
                self.module, rest_of_step(next(items), items), optimizer=self.optimizer,
                weights=[1.0] * len(self.plan.terms), max_grad_norm=1.0, device=torch.device("cpu"), world=1,
            )  # fmt: skip
        elapsed = time.perf_counter() - begin
        self.wait_fraction = (feed.wait_s - waited) / elapsed
        return elapsed / steps


def overlap(repeats: int, steps: int) -> list[dict]:
    """All cases against the student alone, in this one process."""
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        return _overlap(repeats, steps)
    finally:
        ray.shutdown()


def _overlap(repeats: int, steps: int) -> list[dict]:
    folder = tempfile.mkdtemp()
    source = word_tokenizer(Path(folder))
    task = rows_of_words(ROWS * (steps + 2))
    alone = Case("alone", source, task, {}, hidden=False)
    step_s = alone.seconds_per_step(steps)
    step_s = alone.seconds_per_step(steps)
    say(
        f"student alone: {step_s * 1000:.0f} ms a step; teachers sleep {LATENCY * step_s * 1000:.0f} ms"
    )
    actor = ray.remote(TeacherActor)
    teachers = {}
    for i in range(max(TEACHERS)):
        name = f"t{i}"
        settings = SimulatedSettings(name, LATENCY * step_s, LABELS, WIDTH, TOKENS, seed=i)
        teachers[name] = actor.options(num_cpus=0).remote(SimulatedTeacher, settings)
    ray.get([t.ping.remote() for t in teachers.values()])
    cases = [
        Case(f"{count} teacher{'s' * (count > 1)}, {'logits and 2 hidden layers' if hidden else 'logits'}",
             source, task, dict(list(teachers.items())[:count]), hidden)
        for count in TEACHERS for hidden in (False, True)
    ]  # fmt: skip
    ratios: dict[str, list[float]] = {case.name: [] for case in cases}
    speeds: dict[str, list[float]] = {case.name: [] for case in cases}
    alone_speeds: dict[str, list[float]] = {case.name: [] for case in cases}
    for turn in range(repeats):
        for case in cases:
            before = alone.seconds_per_step(steps)
            with_teachers = case.seconds_per_step(steps)
            after = alone.seconds_per_step(steps)
            by_itself = (before + after) / 2
            speeds[case.name].append(ROWS / with_teachers)
            alone_speeds[case.name].append(ROWS / by_itself)
            ratios[case.name].append(by_itself / with_teachers)
            say(
                f"{turn + 1}/{repeats} {case.name}: {ratios[case.name][-1]:.3f} (waiting {case.wait_fraction:.1%})"
            )
    return [
        line(
            "overlap", case.name, statistics.median(speeds[case.name]), "rows/s",
            "the same student without teachers", statistics.median(alone_speeds[case.name]),
            statistics.median(ratios[case.name]),
        )
        for case in cases
    ]  # fmt: skip
