"""objective: what the objective adds to a training step, against the bare tensor operations.

A student of 4 x 312 and three teachers of 384, whose answers are there already; 32 texts of 16 to 64 tokens.
Hard labels, a forward KL divergence from the mean of the teachers' probabilities, and four pairs of hidden
layers for each teacher through linear projections. The rival does the same step with nothing but torch:
no masks but the indexing that picks the tokens, no checks, one expression a term.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from benches.common import Alternating, line, median, say, seconds, spread
from benches.overlap import LABELS, rows_of_words, word_tokenizer
from raydistill.alignment import ProjectionSpec, projection_key
from raydistill.config.training import TrainingSection
from raydistill.losses import CATALOG
from raydistill.models import load_tokenizer
from raydistill.objective import Moment, Objective, ObjectivePlan, Term
from raydistill.pipeline import Fed, MicroBatch
from raydistill.signals import Ask, HiddenAsk, TeacherSignal, pack_signal
from raydistill.tasks import Batch
from raydistill.terms import FeatureMatch, HardMatch, LayerPair, SoftMatch
from raydistill.training.step import StudentModule, build_optimizer, train_step
from raydistill.training.student import StudentPlan, make_student

ROWS, MAX_TOKENS, WIDTH, LAYERS, TEACHER_WIDTH, TEACHERS = 32, 64, 312, 4, 384, 3
STUDENT = {
    "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": 12, "intermediate_size": 1200,
}  # fmt: skip
NAMES = [f"t{i}" for i in range(TEACHERS)]
TEMPERATURE = 2.0
CPU = torch.device("cpu")


def plan() -> ObjectivePlan:
    """Hard labels, a soft term, and a hidden term of all pairs."""
    pairs, projections = [], []
    for name in NAMES:
        for layer in range(1, LAYERS + 1):
            key = projection_key(2, name, layer, layer)
            projections.append(ProjectionSpec(key, "linear", WIDTH, TEACHER_WIDTH))
            pairs.append(LayerPair(name, (layer,), (layer,), key, TEACHER_WIDTH))
    hidden = FeatureMatch("2.hidden_mse", CATALOG["hidden_mse"], tuple(pairs))
    ask = Ask(tuple(HiddenAsk(layer) for layer in range(1, LAYERS + 1)))
    return ObjectivePlan(
        terms=(
            Term("0.cross_entropy", HardMatch(CATALOG["cross_entropy"]), 0.5),
            Term("1.forward_kl", SoftMatch(CATALOG["forward_kl"], temperature=TEMPERATURE)),
            Term("2.hidden_mse", hidden),
        ),
        weights=dict.fromkeys(NAMES, 1 / TEACHERS),
        columns=dict.fromkeys(NAMES, (0, 1)),
        asks=dict.fromkeys(NAMES, ask),
        projections=tuple(projections),
    )


def answers(batch: Batch) -> dict[str, TeacherSignal]:
    """Random numbers of the right shapes."""
    lengths = batch.token_mask.sum(1).tolist()
    found = {}
    for number, name in enumerate(NAMES):
        draw = torch.Generator().manual_seed(number)
        parts = {"logits": torch.randn(ROWS, len(LABELS), generator=draw)}
        for layer in range(1, LAYERS + 1):
            shape = (sum(lengths), TEACHER_WIDTH)
            parts[HiddenAsk(layer).key] = torch.randn(shape, generator=draw)
        found[name] = pack_signal(name, batch.row_ids, lengths, parts, "float32")
    return found


class Bare(nn.Module):
    """The same student, and one expression a term."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.projections = nn.ModuleList(
            nn.Linear(WIDTH, TEACHER_WIDTH) for _ in range(TEACHERS * LAYERS)
        )

    def forward(self, batch: Batch, signals: dict[str, TeacherSignal]) -> Tensor:
        """What is minimised."""
        out = self.student(**batch.inputs, output_hidden_states=True)
        functional = nn.functional
        hard = functional.cross_entropy(out.logits, batch.labels)
        p = torch.stack([functional.softmax(s.logits / TEMPERATURE, -1) for s in signals.values()])
        log_q = functional.log_softmax(out.logits / TEMPERATURE, -1)
        soft = functional.kl_div(log_q, p.mean(0), reduction="batchmean") * TEMPERATURE**2
        hidden = out.logits.new_zeros(())
        mask = batch.token_mask
        own = [states[mask] for states in out.hidden_states]
        for t, signal in enumerate(signals.values()):
            for layer in range(1, LAYERS + 1):
                mapped = self.projections[t * LAYERS + layer - 1](own[layer])
                hidden = hidden + functional.mse_loss(mapped, signal.hidden(HiddenAsk(layer)))
        return 0.5 * hard + soft + hidden / TEACHERS


def objective(repeats: int, steps: int) -> list[dict]:
    """Steps of both sides in turn, on one batch."""
    torch.set_num_threads(2)
    source = word_tokenizer(Path(tempfile.mkdtemp()))
    tokenizer = load_tokenizer(source)
    batch = _batch(tokenizer)
    signals = answers(batch)

    def student() -> nn.Module:
        torch.manual_seed(0)
        made = StudentPlan(source, LABELS, MAX_TOKENS, 0.0, random_config=STUDENT)
        return make_student(made, tokenizer).train()

    ours = StudentModule(student(), Objective(plan())).train()
    optimizer = build_optimizer(ours, TrainingSection())
    share = ours.objective.counts(batch)
    fed = [Fed(MicroBatch(0, 0, batch, True, share), signals)]

    def our_steps() -> None:
        for step in range(steps):
            train_step(
                ours, fed, optimizer=optimizer, moment=Moment(step, steps), max_grad_norm=1.0, device=CPU, world=1
            )  # fmt: skip

    bare = Bare(student())
    other = torch.optim.AdamW(bare.parameters(), fused=True)

    def bare_steps() -> None:
        for _ in range(steps):
            other.zero_grad(set_to_none=True)
            bare(batch, signals).backward()
            nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            other.step()

    name = f"{TEACHERS} teachers, logits and {LAYERS} hidden pairs each, student {LAYERS} x {WIDTH}"
    found = Alternating(lambda: seconds(bare_steps), {name: lambda: seconds(our_steps)})
    our_steps()
    bare_steps()
    for turn in range(repeats):
        found.turn()
        say(f"{turn + 1}/{repeats} {found.ratios[name][-1]:.3f}")
    return [
        line(
            "objective", name, 1000 * median(found.seconds[name]) / steps, "ms/step", "the bare operations",
            1000 * median(found.rival_s[name]) / steps, median(found.ratios[name]),
            middle_half=spread(found.ratios[name]),
        )
    ]  # fmt: skip


def _batch(tokenizer: object) -> Batch:
    """Texts of 16 to 64 tokens, cut from rows of 64."""
    whole = rows_of_words(ROWS).batch(list(range(ROWS)), tokenizer, MAX_TOKENS)
    lengths = torch.linspace(16, MAX_TOKENS, ROWS).long()
    keep = torch.arange(MAX_TOKENS) < lengths.unsqueeze(1)
    inputs = {**whole.inputs, "attention_mask": keep.long()}
    return Batch(whole.row_ids, whole.texts, inputs, whole.labels, whole.counts)
