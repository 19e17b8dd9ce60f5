"""Every kind of loss as a term of the sum: real models, whole steps, any cut; no Ray."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import transformers

from raydistill.config import parse_config
from raydistill.config.ensemble import FixedWeighting
from raydistill.config.losses import LossSection
from raydistill.config.task import LABEL_LOSSES
from raydistill.config.training import TrainingSection
from raydistill.losses import CATALOG, IGNORED_LABEL, build_loss
from raydistill.models import read_traits, tokenize
from raydistill.models.describe import ModelSource
from raydistill.objective import Moment, Objective, ObjectivePlan
from raydistill.pipeline import Fed, MicroBatch
from raydistill.prepare.objective import plan_objective
from raydistill.schedules import Stage, plan_stages
from raydistill.signals import Request
from raydistill.tasks import Batch
from raydistill.teachers import LocalTeacher, TeacherSettings
from raydistill.training.step import (
    StudentModule,
    build_optimizer,
    frozen_parameters,
    train_step,
)
from tests.conftest import LABELS, make_rows, two_teachers
from tests.unit import test_groups, test_retrieval
from tests.unit.objectives import make_module, make_tokenizer

TEXTS = [row["text"] for row in make_rows(8, seed=33)]
HARD = [0, 1, IGNORED_LABEL, 1, 0, 0, IGNORED_LABEL, 1]
ROUTE = [0, 1, -1, 1, 0, 1, -1, 0]
NOW = Moment(3, 10)
PAIR = {"layers": [[1, 2]], "projection": "linear"}
EACH: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "binary_cross_entropy": {},
    "mse": {},
    "soft_cross_entropy": {"temperature": 2.0, "probability_shift": True},
    "forward_kl": {"temperature": {"kind": "linear", "start": 4, "end": 1}},
    "reverse_kl": {"standardize": True},
    "jensen_shannon": {"beta": 0.3, "temperature": 2.0},
    "total_variation": {"temperature": {"kind": "cwsm", "base": 2.0}},
    "soft_label": {"threshold": 0.5, "sharpening": 0.4},
    "logit_mse": {},
    "decoupled_kd": {"beta": 2.0},
    # Of two classes the correlation is 1 or -1: its slope is rounding.
    "dist": {"inter_weight": 0, "temperature": {"kind": "flsw", "base": 2.0}},
    "binary_soft_cross_entropy": {"temperature": 2.0},
    "binary_forward_kl": {"temperature": {"kind": "linear", "start": 4, "end": 1}},
    "hidden_mse": {"layers": "uniform", "projection": "mlp"},
    "cos": {**PAIR, "projection": {"kind": "linear", "side": "teacher"}},
    "vid": PAIR,
    "pkd": PAIR,
    "embedding_mse": {"projection": "orthogonal"},
    "embedding_cos": {"projection": "tanh"},
    "embedding_l2": {"projection": "linear"},
    "relation_kl": {"layers": [[-1, -1]], "relation_heads": 4},
    "rkd_distance": {"layers": "last"},
    "rkd_angle": {"layers": "last", "positions": "first"},
    "contrastive": {**PAIR, "temperature": 0.5},
    "layer_attention": {"projection": "relu"},
    "fsp": {"layers": [[[0, 1], [1, 3]]], "projection": "linear"},
    "nst": {"layers": [[1, 1], [2, 3]]},
    "attention_mse": {"layers": [[1, 1]]},
    "attention_mse_sum": {"layers": "last"},
    "attention_ce": {"layers": [[-1, -1]]},
    "attention_ce_mean": {"layers": "uniform"},
    "custom": {"target": "tests.unit.test_terms:absolute", "options": {"power": 2}},
}
INSIDE = [
    ("relation_kl", {"layers": layers, "states": states, "relation_heads": heads})
    for states, layers, heads in (
        ("query", "last", 2),
        ("key", [[1, 2]], 1),
        ("value", [[2, -1]], 4),
    )
]
CASES = [*EACH.items(), *INSIDE]
ACROSS = {"dist", "total_variation", "rkd_distance", "rkd_angle", "contrastive"}


def labels_of(task: str, rows: Sequence[int]) -> torch.Tensor:
    """Of the two labels one is known of every row that has any; numbers differ from row to row."""
    hard = torch.tensor([HARD[row] for row in rows])
    if task == "text_classification":
        return hard
    none = hard == IGNORED_LABEL
    if task == "regression":
        numbers = torch.tensor([[0.3 * row - 1, 2.0 - row] for row in rows])
        numbers[:, 1].masked_fill_(hard == 1, torch.nan)
        return numbers.masked_fill(none.unsqueeze(1), torch.nan)
    several = torch.stack([hard == 0, torch.tensor(rows) % 3 == 0], dim=1).float()
    several[:, 1].masked_fill_(torch.tensor(rows) == 4, torch.nan)
    return several.masked_fill(none.unsqueeze(1), torch.nan)


def absolute(student: torch.Tensor, teacher: torch.Tensor, *, power: int) -> torch.Tensor:
    """A user's own loss."""
    return (student - teacher.detach()).abs().pow(power).sum(-1)


def test_every_kind_is_here() -> None:
    """A kind that no step was made with fails in a worker."""
    union = get_args(LossSection)[0]
    kinds = {get_args(one.model_fields["kind"].annotation)[0] for one in get_args(union)}
    of_queries = {*test_groups.KINDS, *test_groups.ON_LABELS}
    of_queries |= {loss["kind"] for loss in test_retrieval.LOSSES}
    assert kinds == set(EACH) | of_queries


@dataclass
class World:
    """Models and what teachers say."""

    folder: dict[str, Path]
    teachers: dict[str, LocalTeacher]
    tmp: Path

    def plan(self, losses: Sequence[dict[str, Any]], **sections: Any) -> ObjectivePlan:
        settings = two_teachers(self.folder, self.tmp) | {"losses": list(losses)} | sections
        if all(loss["kind"] in LABEL_LOSSES.values() for loss in losses):
            settings["teachers"] = {}
        kinds = [kind for kind, loss in LABEL_LOSSES.items() if loss == losses[0]["kind"]]
        if losses[0]["kind"].startswith("binary"):
            kinds = ["multi_label_classification"]
        settings.setdefault("task", {"kind": next(iter(kinds), "text_classification")})
        settings["training"] = {"group_rows": 4, **settings.get("training", {})}
        config, faults = parse_config(settings)
        assert faults == []
        traits = {
            name: read_traits(
                name, ModelSource(name, str(self.folder[name]), str(self.folder[name])), inside=True
            )
            for name in ("student", *config.teachers)
        }
        plan, faults = plan_objective(
            config,
            student=traits.pop("student"),
            teachers=traits,
            labels=LABELS,
        )
        assert faults == []
        return plan

    def fed(self, plan: ObjectivePlan, pieces: Sequence[Sequence[int]]) -> list[Fed]:
        tokenizer, objective = make_tokenizer(self.folder["student"]), Objective(plan)
        batches = []
        for rows in pieces:
            texts = (tuple(TEXTS[row] for row in rows),)
            batches.append(
                Batch(
                    tuple(rows),
                    texts,
                    tokenize(tokenizer, texts, 16),
                    labels_of(plan.task, rows),
                    torch.ones(len(rows), dtype=torch.bool),
                    torch.tensor([ROUTE[row] for row in rows])
                    if plan.weighting.kind == "routing"
                    else None,
                )
            )
        share = torch.stack([objective.counts(batch) for batch in batches]).sum(0)
        return [
            Fed(
                MicroBatch(0, 0, batch, i == len(batches) - 1, share if i == 0 else None),
                {
                    name: self.teachers[name].answer(Request(batch.row_ids, batch.texts, ask))
                    for name, ask in plan.asks.items()
                },
            )
            for i, batch in enumerate(batches)
        ]

    def step(
        self, plan: ObjectivePlan, pieces: Sequence[Sequence[int]], *, exact: bool = False
    ) -> Any:
        """Metrics, module and gradients of one step; exact: the student computes in float64."""
        module = make_module(self.folder["student"], plan)
        if exact:
            module.student.double()
        metrics = train_step(
            module,
            self.fed(plan, pieces),
            optimizer=torch.optim.SGD(module.parameters(), lr=0.0),
            moment=NOW,
            max_grad_norm=None,
            device=torch.device("cpu"),
            world=1,
        )
        return metrics, module, {n: p.grad for n, p in module.named_parameters()}


@pytest.fixture(scope="module")
def world(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> World:
    teachers = {}
    for name in ("wide", "deep"):
        source = ModelSource(name, str(tiny[name]), str(tiny[name]))
        settings = TeacherSettings(name, source, "float32", 16, 64, attention_maps=True)
        teachers[name] = LocalTeacher(settings)
    return World(tiny, teachers, tmp_path_factory.mktemp("terms"))


@pytest.mark.parametrize(
    ("kind", "options"), CASES, ids=[f"{kind}-{o.get('states', 'hidden')}" for kind, o in CASES]
)
def test_a_step_with_every_kind_does_not_depend_on_the_cut(
    world: World, kind: str, options: dict[str, Any]
) -> None:
    """Rows compared within a micro-batch are compared with others when memory is short."""
    plan = world.plan([{"kind": kind, "weight": 0.7, **options}])
    # Logits of random weights hardly differ, and of what hardly differs a correlation takes the rounding.
    exact = kind == "dist"
    whole, module, expected = world.step(plan, [range(8)], exact=exact)
    assert whole.loss.item() == pytest.approx(0.7 * whole.terms.item(), rel=1e-5)
    cuts = [[range(4), range(4, 8)]]
    if kind not in ACROSS:
        cuts.append([[0], [1, 2, 3], [4, 5, 6, 7]])
    for pieces in cuts:
        found, _, gradients = world.step(plan, pieces, exact=exact)
        torch.testing.assert_close(found.loss, whole.loss, rtol=2e-5, atol=1e-6)
        for name, gradient in expected.items():
            torch.testing.assert_close(
                gradients[name], gradient, rtol=2e-4, atol=5e-6, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert [n for n, gradient in expected.items() if gradient is None] == []
    own = {n: g for n, g in expected.items() if n.startswith("objective.")}
    assert [n for n, g in own.items() if g.abs().max() == 0] == [], (
        "what is learned gets a gradient"
    )
    moved = sum(g.abs().sum() for n, g in expected.items() if n.startswith("student.bert"))
    assert moved > 0
    build_optimizer(module, TrainingSection())


def test_terms_are_what_build_loss_gives(world: World) -> None:
    """A term that pads, masks or pairs otherwise than the loss alone is another loss."""
    kinds = ["hidden_mse", "nst", "relation_kl", "attention_ce_mean", "attention_mse", "fsp", "pkd"]
    layers: Any = {kind: [[1, 2]] for kind in kinds} | {"fsp": [[[1, 2], [2, 3]]]}
    for kind in kinds:
        loss = {"kind": kind, "layers": {"deep": layers[kind]}}
        plan = world.plan([loss, {"kind": "forward_kl", "weight": 0.0}])
        metrics, module, _ = world.step(plan, [range(8)])
        (fed,) = world.fed(plan, [range(8)])
        batch = fed.micro_batch.batch
        outputs = module.student(**batch.inputs, output_hidden_states=True, output_attentions=True)
        teacher = transformers.AutoModelForSequenceClassification.from_pretrained(
            world.folder["deep"], attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            theirs = teacher(**batch.inputs, output_hidden_states=True, output_attentions=True)
        if kind.startswith("attention"):
            pair: Any = outputs.attentions[0], theirs.attentions[1]
        elif kind == "fsp":
            pair = (
                [outputs.hidden_states[1], outputs.hidden_states[2]],
                [theirs.hidden_states[2], theirs.hidden_states[3]],
            )
        else:
            pair = outputs.hidden_states[1], theirs.hidden_states[2]
        expected = 0.5 * build_loss(kind)(*pair, batch.token_mask)
        assert metrics.terms[0].item() == pytest.approx(expected.item(), rel=1e-4), kind


def projected(model: Any, batch: Batch, states: str, block: int) -> torch.Tensor:
    """What one layer of a BERT gives out."""
    layer = getattr(model.bert.encoder.layer[block - 1].attention.self, states)
    found: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: found.append(output))
    model(**batch.inputs)
    handle.remove()
    return found[0]


def test_terms_inside_blocks_are_what_build_loss_gives(world: World) -> None:
    """Of the block before, of keys instead of queries, or without a gradient, it teaches something else."""
    teacher = transformers.AutoModelForSequenceClassification.from_pretrained(
        world.folder["wide"]
    ).eval()
    together = [
        {"kind": "relation_kl", "layers": {"wide": [[own, theirs]]}, "states": states, "relation_heads": 2}
        for states, own, theirs in (("query", 1, 3), ("key", 2, 3), ("value", 1, 1), ("value", 2, 2))
    ]  # fmt: skip
    plan = world.plan([*together, {"kind": "hidden_mse", "layers": {"deep": [[1, 2]]}}])
    assert [ask.key for ask in plan.asks["wide"].hidden] == [
        "value.1.all", "value.2.all", "key.3.all", "query.3.all",
    ]  # fmt: skip
    assert [ask.key for ask in plan.asks["deep"].hidden] == ["hidden.2.all"]
    metrics, module, gradients = world.step(plan, [range(8)])
    batch = world.fed(plan, [range(8)])[0].micro_batch.batch
    module.zero_grad()
    expected = []
    for term in together:
        states = term["states"]
        ((own, theirs),) = term["layers"]["wide"]
        with torch.no_grad():
            other = projected(teacher, batch, states, theirs)
        loss = build_loss("relation_kl", relation_heads=2)
        expected.append(
            0.5 * loss(projected(module.student, batch, states, own), other, batch.token_mask)
        )
    torch.testing.assert_close(metrics.terms[:4], torch.stack(expected).detach(), rtol=1e-4, atol=0)
    alone = world.plan([*together, {"kind": "forward_kl", "weight": 0.0}])
    _, _, gradients = world.step(alone, [range(8)])
    sum(expected).backward()  # type: ignore[union-attr]
    for name, parameter in module.student.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            gradients[f"student.{name}"], gradient, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )  # fmt: skip


def test_hidden_states_are_given_out_only_where_a_term_is_on_them(world: World) -> None:
    """All layers of a large student are memory."""
    term = {"kind": "relation_kl", "layers": "last", "states": "query"}
    module = make_module(world.folder["student"], world.plan([term]))
    assert module._wanted == {"output_hidden_states": False}
    plan = world.plan([term, {"kind": "nst", "layers": "last"}])
    assert make_module(world.folder["student"], plan)._wanted == {"output_hidden_states": True}
    assert plan.student_inside == {"query.2"}


def test_what_is_inside_is_read_in_half_precision(world: World) -> None:
    """Under autocast the layers give bfloat16; the relations are computed in float32."""
    term = {"kind": "relation_kl", "layers": "last", "states": "key", "relation_heads": 2}
    plan = world.plan([term])
    whole, core, _ = world.step(plan, [range(8)])
    fed = world.fed(plan, [range(8)])
    half = StudentModule(core.student, core.objective, "bfloat16")
    metrics = train_step(
        half, fed, optimizer=torch.optim.SGD(half.parameters(), lr=0.0), moment=NOW,
        max_grad_norm=None, device=torch.device("cpu"), world=1,
    )  # fmt: skip
    assert metrics.terms.dtype == torch.float32
    torch.testing.assert_close(metrics.terms, whole.terms, rtol=0.05, atol=0)


@pytest.mark.parametrize(
    "weighting",
    [
        {"kind": "confidence", "sharpness": 3.0},
        {"kind": "label_cross_entropy"},
        {"kind": "agreement"},
        {"kind": "gate", "learning_rate": 0.1},
        {"kind": "stochastic"},
        {"kind": "validation", "scores": {"wide": 0.9, "deep": 0.8}},
        {"kind": "routing", "column": "language"},
    ],
    ids=lambda w: w["kind"],
)
@pytest.mark.parametrize("combine", ["probabilities", "losses", "best"])
def test_weightings_work_for_all_terms_and_any_cut(
    world: World, weighting: Any, combine: str
) -> None:
    """Weights made from a micro-batch's other rows would depend on the cut."""
    fixed = weighting["kind"] in ("validation", "stochastic", "routing")
    if combine == "best" and fixed:
        combine = "logits"
    losses = [
        {"kind": "forward_kl", "temperature": 2.0},
        {"kind": "hidden_mse", "layers": [[1, 1]], "projection": "linear"},
        {"kind": "attention_ce", "layers": [[1, 1]]},
        {"kind": "nst", "layers": [[1, 1]]},
        {"kind": "logit_mse"},
    ]
    plan = world.plan(losses, ensemble={"combine": combine, "weighting": weighting})
    whole, _, expected = world.step(plan, [range(8)])
    found, _, gradients = world.step(plan, [[0], [1, 2, 3], [4, 5, 6, 7]])
    torch.testing.assert_close(found.terms, whole.terms, rtol=2e-5, atol=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=2e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert (len(whole.terms) == 6) == (weighting["kind"] == "gate")
    if weighting["kind"] == "gate":
        assert expected["objective.weighting.gate.bias"].abs().max() > 0


@pytest.mark.parametrize("kind", ["uncertainty", "relative"])
def test_balancing_does_not_depend_on_the_cut_and_remembers(world: World, kind: str) -> None:
    """A balance by micro-batch is another objective for every setting of memory."""
    losses = [{"kind": "cross_entropy"}, {"kind": "forward_kl"}, {"kind": "hidden_mse", **PAIR}]
    plan = world.plan(losses, balancing={"kind": kind})
    whole, module, expected = world.step(plan, [range(8)])
    found, _, gradients = world.step(plan, [[0], [1, 2, 3], [4, 5, 6, 7]])
    torch.testing.assert_close(found.loss, whole.loss, rtol=2e-5, atol=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=2e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    state = module.state_dict()
    if kind == "relative":
        torch.testing.assert_close(state["objective.balance.averages"], whole.terms)
        factors = module.objective.balance(torch.ones(3))
        torch.testing.assert_close(factors * whole.terms, whole.terms[0].expand(3))
    else:
        assert expected["objective.balance.log_variances"].abs().min() > 0


def test_schedules_multiply_the_weight(world: World) -> None:
    """A schedule that replaces the weight loses it after the first step."""
    loss = {"kind": "cross_entropy", "weight": 5.0, "schedule": {"kind": "linear_decay"}}
    plan = world.plan([loss])
    objective = Objective(plan)
    assert objective.weights(Moment(0, 10)) == [5.0]
    assert objective.weights(Moment(9, 10)) == [pytest.approx(0.5)]


def test_a_teacher_of_some_classes_abstains_from_the_others(world: World) -> None:
    """It would teach that a class it never heard of has no probability."""
    plan = world.plan(
        [{"kind": "forward_kl"}, {"kind": "hidden_mse", "layers": [[1, 1]], "projection": "linear"}]
    )
    whole, _, _ = world.step(plan, [range(8)])
    partial = replace(plan, columns={"wide": (0, 1), "deep": (0, -1)})
    metrics, module, gradients = world.step(partial, [range(8)])
    cut, _, _ = world.step(partial, [[0, 1], [2, 3, 4], [5, 6, 7]])
    assert metrics.terms.isfinite().all()
    assert module.objective.weighting.seen.abstained == {"wide": 0, "deep": HARD.count(1)}
    assert all(g.isfinite().all() for g in gradients.values())
    torch.testing.assert_close(cut.terms, metrics.terms, rtol=2e-5, atol=1e-6)
    assert not torch.allclose(metrics.terms, whole.terms)
    alone = replace(plan, columns={"wide": (0, -1), "deep": (0, -1)})
    fed = world.fed(alone, [range(8)])
    heard = Objective(alone).counts(fed[0].micro_batch.batch)[0]
    assert heard == sum(label != 1 for label in HARD)


ROUTED = {"kind": "routing", "column": "language", "others": "all"}


COMBINED = [
    (kind, options, combine)
    for kind, options in CASES
    if kind not in ("cross_entropy", "binary_cross_entropy", "mse", "custom")
    for combine in ("probabilities", "logits", "losses")
    if combine == "probabilities" or "logits" in CATALOG[kind].needs
]


@pytest.mark.parametrize(
    ("kind", "options", "combine"),
    COMBINED,
    ids=[f"{kind}-{o.get('states', 'hidden')}-{combine}" for kind, o, combine in COMBINED],
)
def test_rows_of_one_teacher_have_the_loss_of_that_teacher_alone(
    world: World, kind: str, options: dict[str, Any], combine: str
) -> None:
    """A specialist that is heard outside its field, if only beside other rows, teaches what it does not know."""
    both = world.plan(
        [{"kind": kind, **options}], ensemble={"combine": combine, "weighting": ROUTED}
    )
    for place, name in enumerate(("wide", "deep")):
        rows = [row for row in range(8) if ROUTE[row] == place]
        found, _, gradients = world.step(both, [rows])
        alone = replace(
            both, weighting=FixedWeighting(), weights={n: float(n == name) for n in both.weights}
        )
        expected, _, others = world.step(alone, [rows])
        torch.testing.assert_close(found.terms, expected.terms, rtol=2e-5, atol=1e-6)
        for parameter, gradient in others.items():
            torch.testing.assert_close(gradients[parameter], gradient, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("kind", ["rkd_distance", "contrastive", "hidden_mse", "forward_kl"])
def test_a_step_of_rows_of_both_teachers_is_the_sum_of_both(world: World, kind: str) -> None:
    """Rows of another teacher beside one's own, or in its denominator, change what it teaches."""
    loss = {"kind": kind, **EACH[kind]}
    plan = replace(world.plan([loss], ensemble={"weighting": ROUTED}), group_rows=8)
    own = [[row for row in range(8) if ROUTE[row] == place] for place in (0, 1)]
    counts = [Objective(plan).counts(world.fed(plan, [r])[0].micro_batch.batch) for r in own]
    apart = [world.step(plan, [rows])[0].terms * n for rows, n in zip(own, counts, strict=True)]
    together, module, _ = world.step(plan, [sorted(own[0] + own[1])])
    torch.testing.assert_close(together.terms * sum(counts), sum(apart), rtol=2e-5, atol=1e-5)
    assert module.objective.weighting.seen.sums.tolist() == [len(own[0]), len(own[1])]
    assert module.objective.weighting.seen.abstained == {}


def test_a_row_whose_teacher_abstains_is_taught_by_nobody(world: World) -> None:
    """The other teacher, who does not know rows of this kind, would speak in its place."""
    plan = world.plan([{"kind": "forward_kl"}], ensemble={"weighting": ROUTED})
    partial = replace(plan, columns={"wide": (0, 1), "deep": (0, -1)})
    silent = [row for row in range(8) if ROUTE[row] == 1 and HARD[row] == 1]
    assert len(silent) == 2
    metrics, module, _ = world.step(partial, [range(8)])
    cut, _, _ = world.step(partial, [[0, 1], [2, 3, 4], [5, 6, 7]])
    torch.testing.assert_close(cut.terms, metrics.terms, rtol=2e-5, atol=1e-6)
    heard, _, _ = world.step(partial, [[row for row in range(8) if row not in silent]])
    torch.testing.assert_close(metrics.terms, heard.terms, rtol=2e-5, atol=1e-6)
    assert Objective(partial).counts(world.fed(partial, [range(8)])[0].micro_batch.batch) == 6
    # Rows that went to the other teacher are not rows that it could have spoken about.
    assert module.objective.weighting.seen.abstained == {"wide": 0, "deep": 2}
    alone, _, _ = world.step(partial, [silent])
    assert alone.terms.tolist() == [0.0]


def test_routes_that_nobody_read_are_noticed(world: World) -> None:
    """Every row would be taught by all teachers, and no figure would show it."""
    plan = world.plan([{"kind": "forward_kl"}], ensemble={"weighting": ROUTED})
    batch = replace(world.fed(plan, [range(8)])[0].micro_batch.batch, route=None)
    with pytest.raises(AssertionError, match="reads the routes"):
        Objective(plan).counts(batch)


def test_learned_temperature_climbs(world: World) -> None:
    """A temperature that descends the loss falls to where nothing is to be learned."""
    loss = {
        "kind": "forward_kl",
        "temperature": {"kind": "learned", "rise_fraction": 0.0, "start": 4.0},
    }
    plan = world.plan([loss], ensemble={"combine": "logits"})
    _, module, gradients = world.step(plan, [range(8)])
    theta = gradients["objective.temperatures.0.theta"]
    assert theta.abs().item() > 0
    module.objective.temperatures["0"].theta.data += 0.5
    optimizer = build_optimizer(module, TrainingSection())
    rates = {group["lr"] for group in optimizer.param_groups}
    assert 0.01 in rates


def test_module_of_maps_is_eager(world: World) -> None:
    """Fused attention gives no maps, and an error in the first step."""
    plan = world.plan([{"kind": "attention_mse", "layers": [[1, 1]]}])
    module = make_module(world.folder["student"], plan)
    assert isinstance(module, StudentModule)
    assert module.student.config._attn_implementation == "eager"


def test_stages_compute_and_ask_for_their_own_terms_only(world: World) -> None:
    """A stage of features that asks for nothing less than all pays for what it does not use."""
    losses = [
        {"kind": "hidden_mse", **PAIR},
        {"kind": "cross_entropy"},
        {"kind": "forward_kl"},
    ]
    stages = [
        {"name": "features", "share": 0.5, "losses": [0]},
        {"name": "hard", "share": 0.25, "losses": [1]},
        {"name": "logits", "share": 0.25, "losses": [1, 2]},
    ]
    plan = world.plan(losses, stages=stages)
    config, _ = parse_config(two_teachers(world.folder, world.tmp) | {"losses": losses, "stages": stages})  # fmt: skip
    plan = replace(plan, stages=plan_stages(config.stages, 8, len(losses)))
    assert [bool(plan.asks_at(step)) for step in (0, 3, 4, 5, 6, 7)] == [1, 1, 0, 0, 1, 1]
    assert plan.asks_at(0) == plan.asks
    assert plan.asks_at(7)["wide"].hidden == ()
    for step, terms in ((0, {0}), (4, {1}), (7, {1, 2})):
        module = make_module(world.folder["student"], plan)
        metrics = train_step(
            module,
            world.fed(plan, [range(8)]),
            optimizer=torch.optim.SGD(module.parameters(), lr=0.0),
            moment=Moment(step, 8),
            max_grad_norm=None,
            device=torch.device("cpu"),
            world=1,
        )
        assert {i for i, value in enumerate(metrics.terms.tolist()) if value != 0} == terms
        assert all(p.grad is not None for p in module.parameters()), "DDP waits for every gradient"


def test_frozen_parameters_stay_and_do_not_count_in_the_norm(world: World) -> None:
    """Clipped by the gradient of what does not move, the rest moves less than configured."""
    plan = world.plan([{"kind": "cross_entropy"}])
    stage = Stage("a", 0, 1, frozenset({0}), freeze=("*.embeddings.*", "classifier.*"))
    module = make_module(world.folder["student"], plan)
    frozen = frozen_parameters(module, stage)
    before = {name: p.clone() for name, p in module.student.named_parameters()}
    optimizer = build_optimizer(module, TrainingSection(learning_rate=0.1), stage)
    metrics = train_step(
        module,
        world.fed(plan, [range(8)]),
        optimizer=optimizer,
        moment=NOW,
        max_grad_norm=None,
        device=torch.device("cpu"),
        world=1,
        frozen=frozen,
    )
    moved = {n for n, p in module.student.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert not any("embeddings" in name or name.startswith("classifier") for name in moved)
    others = [p.grad for p in module.student.parameters() if p.grad is not None]
    torch.testing.assert_close(metrics.grad_norm, torch.nn.utils.get_total_norm(others))


def test_weights_of_teachers_are_noted(world: World) -> None:
    """An adaptive weighting that follows one teacher only goes unseen without it."""
    plan = world.plan([{"kind": "forward_kl"}], ensemble={"weighting": {"kind": "confidence"}})
    _, module, _ = world.step(plan, [range(3), range(3, 8)])
    seen = module.objective.weighting.seen
    assert seen.rows == 8
    assert seen.sums.sum().item() == pytest.approx(8)
    assert seen.names == ["wide", "deep"]


def test_rows_that_nobody_speaks_about_are_beside_no_one(world: World) -> None:
    """A placeholder for a missing answer would take part in the correlations of its group."""
    plan = world.plan([{"kind": "dist", "inter_weight": 0}])
    alone = replace(plan, columns={"wide": (0, -1), "deep": (0, -1)})
    found, _, _ = world.step(alone, [range(4)])
    heard = [row for row in range(4) if HARD[row] != 1]
    assert 1 < len(heard) < 4
    expected, _, _ = world.step(alone, [heard])
    torch.testing.assert_close(found.terms, expected.terms, rtol=1e-5, atol=1e-6)


def test_the_gate_rests_in_stages_without_teachers(world: World) -> None:
    """A loss that was not computed would be taken for one of 0, and weigh without measure after."""
    losses = [{"kind": "cross_entropy"}, {"kind": "forward_kl"}]
    plan = world.plan(losses, ensemble={"weighting": {"kind": "gate"}}, balancing={"kind": "relative"})  # fmt: skip
    stages = (Stage("hard", 0, 4, frozenset({0})), Stage("soft", 4, 8, frozenset({0, 1})))
    plan = replace(plan, stages=stages)
    assert plan.names == ["0.cross_entropy", "1.forward_kl", "gate"]
    assert plan.active(0) == {0}
    assert plan.active(4) == {0, 1, 2}
    objective = Objective(plan)
    assert objective.weights(Moment(0, 8)) == [1.0, 0.0, 0.0]
    objective.update_balance(torch.tensor([0.7, 0.0, 0.0]), torch.full((3,), 8.0), Moment(0, 8))
    assert objective.balance.measured.tolist() == [True, False, False]
