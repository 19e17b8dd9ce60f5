"""TextBrewer's configurations as ours: which setting becomes which, and that the sum stays the same."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.cli import app, run
from raydistill.config import parse_config
from raydistill.config.schedules import LinearDecayWeight, LinearGrowthWeight
from raydistill.config.settings import parse_yaml
from raydistill.errors import ConfigError
from raydistill.importing import Imported, convert_textbrewer, read_textbrewer
from raydistill.importing.matches import MATCHES, PROJECTIONS
from raydistill.importing.textbrewer import KD_LOSSES, TEMPERATURES, WEIGHTS
from raydistill.schedules import weight_factor
from tests.conftest import LABELS, make_rows


def match(loss: str = "hidden_mse", own: Any = 1, theirs: Any = 2, **more: Any) -> dict[str, Any]:
    feature = "attention" if loss.startswith("attention") else "hidden"
    return {"layer_T": theirs, "layer_S": own, "feature": feature, "loss": loss, "weight": 1, **more}  # fmt: skip


def published(pairs: list[tuple[int, int]], proj: list[Any] | None) -> dict[str, Any]:
    """As the recipes that its README gives figures of: hidden_mse and mmd of the same layers."""
    with_proj = {} if proj is None else {"proj": proj}
    states = [match("hidden_mse", own, theirs, **with_proj) for own, theirs in pairs]
    products = [match("mmd", [own] * 2, [theirs] * 2) for own, theirs in pairs]
    return {"temperature": 8, "intermediate_matches": [*states, *products]}


T4_TINY = published([(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)], ["linear", 312, 768])
T6 = published([(0, 0), (1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)], None)

HEAD = """\
# yaml-language-server: $schema=schema.json
# From TextBrewer's {name}.json. Marked with <- is what that does not hold: put in your own.
run:
  name: {name}
data:
  folder: path/to/data  # <- your rows: files train, validation, test (.jsonl, .csv, …)
student:
  model: path/to/student  # <- a folder or a Hugging Face id
  dropout: 0.1  # <- of the student in training; TextBrewer leaves the model's own, 0.1 in BERT
teachers:
  teacher:
    model: path/to/teacher  # <- a folder or a Hugging Face id
losses:
"""
TAIL = """\
training:
  epochs: 3  # <- num_epochs of distiller.train
  batch_rows: 32  # <- batch_size of your DataLoader
  learning_rate: 0.0001  # <- of your optimizer
  warmup_fraction: 0  # <- as scheduler_class has it
  schedule: constant  # <- likewise; without one the learning rate is constant there
  max_grad_norm: null  # <- null: no clipping, the default of distiller.train
"""
KD = "  - {kind: soft_cross_entropy, weight: 1, temperature: %s, scale_by_temperature_squared: false}\n"
GOLDEN = {
    "plain": ({}, KD % 4),
    "t4-tiny": (
        T4_TINY,
        KD
        % 8
        + "  - {kind: hidden_mse, weight: 1, layers: [[0, 0], [1, 3], [2, 6], [3, 9], [4, 12]], projection: linear}\n"
        "  - {kind: nst, weight: 1, layers: [[0, 0], [1, 3], [2, 6], [3, 9], [4, 12]]}\n",
    ),
    "t6": (
        T6,
        KD
        % 8
        + "  - {kind: hidden_mse, weight: 1, layers: [[0, 0], [1, 2], [2, 4], [3, 6], [4, 8], [5, 10], [6, 12]]}\n"
        "  - {kind: nst, weight: 1, layers: [[0, 0], [1, 2], [2, 4], [3, 6], [4, 8], [5, 10], [6, 12]]}\n",
    ),
}
EVERYTHING = {
    "distill_config": {
        "temperature": 2.5,
        "temperature_scheduler": ["flsw", 1, 2],
        "kd_loss_type": "mse",
        "kd_loss_weight": 7,
        "kd_loss_weight_scheduler": "linear_decay",
        "hard_label_weight_scheduler": "linear_growth",
        "probability_shift": True,
        "is_caching_logits": True,
        "intermediate_matches": [
            match("gram", [0, 1], [0, 3], proj=["tanh", 8, 16, {"lr": 1e-3, "weight_decay": 0, "betas": [0.9, 0.99]}]),
            match("attention_mse", 0, -1, weight=2),
            match("attention_mse", 1, 3, weight=2),
        ],
    },
    "train_config": {
        "gradient_accumulation_steps": 4,
        "ckpt_steps": 500,
        "log_dir": "logs",
        "output_dir": "saved: here",
        "fp16": True,
        "local_rank": 0,
    },
    "num_epochs": 30,
}  # fmt: skip
EVERYTHING_YAML = """\
# yaml-language-server: $schema=schema.json
# From TextBrewer's all of it.json. Marked with <- is what that does not hold: put in your own.
run:
  name: all-of-it
  output_dir: 'saved: here'
data:
  folder: path/to/data  # <- your rows: files train, validation, test (.jsonl, .csv, …)
student:
  model: path/to/student  # <- a folder or a Hugging Face id
  dropout: 0.1  # <- of the student in training; TextBrewer leaves the model's own, 0.1 in BERT
teachers:
  teacher:
    model: path/to/teacher  # <- a folder or a Hugging Face id
    placement: inline  # on the worker's GPU, as there; with GPUs to spare: num_gpus: 1 instead
losses:
  - {kind: cross_entropy, weight: 1, schedule: {kind: linear_growth}}
  - {kind: logit_mse, weight: 7, schedule: {kind: linear_decay}, temperature: {kind: flsw, base: 2.5, beta: 1, gamma: 2, minimum: 0.1}, scale_by_temperature_squared: false, probability_shift: true}
  - {kind: fsp, weight: 1, layers: [[[0, 1], [0, 3]]], projection: {kind: tanh, learning_rate: 0.001, weight_decay: 0}}
  - {kind: attention_mse, weight: 2, layers: [[1, -1], [2, 4]]}
training:
  epochs: 3  # <- num_epochs of distiller.train
  batch_rows: 128  # <- 4 times that batch_size of your DataLoader
  micro_batch_rows: 32  # <- batch_size of your DataLoader
  group_rows: 32  # <- batch_size of your DataLoader
  learning_rate: 0.0001  # <- of your optimizer
  warmup_fraction: 0  # <- as scheduler_class has it
  schedule: constant  # <- likewise; without one the learning rate is constant there
  max_grad_norm: null  # <- null: no clipping, the default of distiller.train
  evaluate_every_steps: 500
  gpus_per_worker: 1
  precision: bfloat16
"""


def converted(values: dict[str, Any], **options: Any) -> Imported:
    """Sound, and the same after a round trip through YAML."""
    imported = convert_textbrewer(json.loads(json.dumps(values)), **options)
    assert parse_yaml(imported.to_yaml(), "YAML") == imported.settings
    _, faults = parse_config(imported.settings)
    assert [str(fault) for fault in faults] == []
    return imported


def losses_of(values: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = converted(values, **options).settings["losses"]
    return found


def remarked(imported: Imported) -> list[str]:
    return [remark.path for remark in imported.remarks]


def faults_of(values: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        convert_textbrewer(values, **options)
    return str(caught.value).splitlines()


# ---- what comes out


@pytest.mark.parametrize("name", GOLDEN)
def test_published_recipes_become_these_files(name):
    """Whoever changes from TextBrewer begins with a file that is this."""
    values, losses = GOLDEN[name]
    assert (
        converted(values, name=f"{name}.json").to_yaml() == HEAD.format(name=name) + losses + TAIL
    )


def test_everything_becomes_this_file():
    """A setting that nobody looked at is one that is lost."""
    imported = converted(EVERYTHING, name="all of it.json")
    assert imported.to_yaml() == EVERYTHING_YAML
    assert remarked(imported) == [
        "num_epochs",
        "distill_config.hard_label_weight_scheduler",
        "distill_config.hard_label_weight",
        "distill_config.kd_loss_weight_scheduler",
        "distill_config.temperature_scheduler",
        "distill_config.intermediate_matches.0.proj",
        *["distill_config.intermediate_matches"] * 3,
        "distill_config.is_caching_logits",
        "train_config.output_dir",
        "train_config.log_dir",
        "train_config.ckpt_steps",
        "train_config.local_rank",
        "train_config.fp16",
    ]
    assert all(len(str(remark).splitlines()) == 1 for remark in imported.remarks)


def test_several_teachers_are_combined_by_their_logits():
    """The mean of probabilities is another target than TextBrewer's."""
    imported = converted(T6, teachers=["large", "base"])
    assert list(imported.settings["teachers"]) == ["large", "base"]
    assert imported.settings["ensemble"] == {"combine": "logits"}
    assert [loss["kind"] for loss in imported.settings["losses"]] == ["soft_cross_entropy"]
    assert remarked(imported) == ["intermediate_matches"]
    assert "MultiTeacherDistiller" in imported.remarks[0].message
    shifted = converted({"probability_shift": True}, teachers=["large", "base"])
    assert remarked(shifted) == ["probability_shift"]


@pytest.mark.parametrize(
    ("scheduler", "weight", "ours", "says"),
    [
        ("linear_decay", 1, 1, []),
        ("linear_growth", 0, 1, ["whatever"]),
        ("linear_decay", 0, 1, ["first step"]),
        ("linear_growth", 1, 1, ["first step"]),
        ("linear_decay", 7, 7, ["write weight: 1"]),
        ("linear_growth", 0.5, 0.5, ["write weight: 1"]),
    ],
)
def test_weight_schedules_are_textbrewers_or_say_where_not(scheduler, weight, ours, says):
    """TextBrewer replaces the weight by its schedule after the first step; here it is multiplied."""
    imported = converted({"kd_loss_weight": weight, "kd_loss_weight_scheduler": scheduler})
    [term] = imported.settings["losses"]
    assert (term["weight"], term["schedule"]) == (ours, {"kind": scheduler})
    assert [w in r.message for w, r in zip(says, imported.remarks, strict=True)] == [True] * len(says)  # fmt: skip
    steps, growing = 5, scheduler == "linear_growth"
    theirs = [weight, *((k / steps if growing else 1 - k / steps) for k in range(1, steps))]
    setting = (LinearGrowthWeight if growing else LinearDecayWeight)(kind=scheduler)
    mine = [ours * weight_factor(setting, k / steps) for k in range(steps)]
    if "write weight: 1" in "".join(says):
        mine = [value / weight for value in mine]
    assert mine[1:] == pytest.approx(theirs[1:])
    assert (mine[0] == theirs[0]) == (says in ([], ["whatever"]))


@pytest.mark.parametrize(
    ("given", "temperature"),
    [
        (None, 4),
        ("none", 4),
        ("constant", 4),
        (["flsw", 1, 2], {"kind": "flsw", "base": 4, "beta": 1, "gamma": 2, "minimum": 0.1}),
        (["flsw", {"gamma": 2, "beta": 1}], {"kind": "flsw", "base": 4, "beta": 1, "gamma": 2, "minimum": 0.1}),
        (["flsw", 1, 2, 1e-4], {"kind": "flsw", "base": 4, "beta": 1, "gamma": 2, "minimum": 0.1}),
        (["flsw", 1, 2, 0.5], {"kind": "flsw", "base": 4, "beta": 1, "gamma": 2, "minimum": 0.1}),
        (["cwsm", 0.5], {"kind": "cwsm", "base": 4, "beta": 0.5, "minimum": 0.1}),
    ],
)  # fmt: skip
def test_temperature_schedulers_keep_their_parameters(given, temperature):
    """Their order is all that says which is which."""
    imported = converted({"temperature_scheduler": given})
    assert imported.settings["losses"][0]["temperature"] == temperature
    by_row = isinstance(temperature, dict)
    other_eps = isinstance(given, list) and given[-1] == 0.5 and given[0] == "flsw"
    assert remarked(imported) == ["temperature_scheduler"] * (by_row + other_eps)
    assert imported.settings["training"].get("group_rows") == (32 if by_row else None)


def test_the_least_temperature_is_not_above_the_base():
    """What comes out must be sound whatever goes in."""
    [term] = losses_of({"temperature": 0.05, "temperature_scheduler": ["cwsm", 1]})
    assert term["temperature"]["minimum"] == 0.05


def test_attention_is_counted_from_one():
    """Block 0 there is block 1 here; hidden states are counted alike, and from the end too."""
    terms = losses_of({"intermediate_matches": [match("attention_ce", 0, 11), match("attention_ce", -1, -2), match("cos", 0, -1)]})  # fmt: skip
    assert [term.get("layers") for term in terms] == [None, [[1, 12], [-1, -2]], [[0, -1]]]


def test_matches_that_differ_in_layers_only_are_one_term():
    """Any other difference must not be lost; and no pair may stand twice in a term."""
    matches = [match(own=1), match(own=2, weight=2), match(own=3, weight=1.0), match("cos", 1), match(own=1), match(own=4, proj=["linear", 4, 8])]  # fmt: skip
    terms = losses_of({"intermediate_matches": matches})[1:]
    assert [(t["kind"], t["weight"], t["layers"], t.get("projection")) for t in terms] == [
        ("hidden_mse", 1, [[1, 2], [3, 2]], None),
        ("hidden_mse", 2, [[2, 2]], None),
        ("cos", 1, [[1, 2]], None),
        ("hidden_mse", 1, [[1, 2]], None),
        ("hidden_mse", 1, [[4, 2]], "linear"),
    ]


@pytest.mark.parametrize(
    ("one", "path"),
    [
        (match("nst", [1, 2], [3, 3]), "loss"),
        (match("mmd", [1, 1], [3, 3], proj=["linear", 4, 8]), "proj"),
        (match("attention_mse", proj=["linear", 4, 8]), "proj"),
        (match(proj=["gelu", 4, 8]), "proj"),
        (match("my_l1"), "loss"),
        (match("cos", feature="attention"), "feature"),
        (match("attention_ce", feature="hidden"), "feature"),
        (match(feature="pooled"), "feature"),
    ],
)
def test_matches_without_equivalent_are_named_and_left_out(one, path):
    """Left out without a word, or taken over as something else, they are a silent change of the sum."""
    imported = converted({"intermediate_matches": [match(), one]})
    assert imported.settings["losses"][1:] == [{"kind": "hidden_mse", "weight": 1, "layers": [[1, 2]]}]  # fmt: skip
    assert [r for r in remarked(imported) if "." in r] == [f"intermediate_matches.1.{path}"]


@pytest.mark.parametrize(
    ("values", "path", "losses"),
    [
        ({"kd_loss_type": "kld", "hard_label_weight": 1}, "kd_loss_type", [("cross_entropy", 1)]),
        ({"temperature_scheduler": ["annealed", 1]}, "temperature_scheduler", [("soft_cross_entropy", 1)]),
        ({"kd_loss_weight_scheduler": "cosine"}, "kd_loss_weight_scheduler", [("soft_cross_entropy", 1)]),
        ({"intermediate_matches": [match(proj=["linear", 4, 8, {"lr": 0}])]}, "intermediate_matches.0.proj", [("soft_cross_entropy", 1), ("hidden_mse", 1)]),
        ({"kd_loss_weight": 0, "hard_label_weight": 2}, "hard_label_weight", [("cross_entropy", 2), ("soft_cross_entropy", 0)]),
    ],
)  # fmt: skip
def test_what_was_registered_by_hand_is_named(values, path, losses):
    """`register_new` makes names that only the user's own code knows."""
    imported = converted(values)
    assert [(t["kind"], t["weight"]) for t in imported.settings["losses"]] == losses
    assert path in remarked(imported)
    assert ("teachers" in imported.settings) == any(kind != "cross_entropy" for kind, _ in losses)


@pytest.mark.parametrize(
    ("training", "ours", "remarks"),
    [
        ({}, {"gpus_per_worker": 1}, []),
        ({"device": "cpu"}, {}, []),
        ({"device": "cuda:3"}, {"gpus_per_worker": 1}, ["device"]),
        ({"device": "mps"}, {}, ["device"]),
        ({"device": "cpu", "ckpt_frequency": 2}, {}, ["ckpt_frequency"]),
        ({"device": "cpu", "ckpt_epoch_frequency": 2}, {}, ["ckpt_epoch_frequency"]),
        ({"device": "cpu", "ckpt_steps": 9, "ckpt_frequency": 2}, {"evaluate_every_steps": 9}, ["ckpt_steps"]),
        ({"device": "cpu", "data_parallel": True}, {}, ["data_parallel"]),
        ({"device": "cpu", "fp16": True, "fp16_opt_level": "O0"}, {}, ["fp16"]),
        ({"device": "cpu", "fp16": True, "fp16_opt_level": "O2"}, {"precision": "bfloat16"}, ["fp16"]),
    ],
)  # fmt: skip
def test_training_config(training, ours, remarks):
    """What it leaves out has TextBrewer's defaults, not ours."""
    imported = converted({"distill_config": {}, "train_config": training})
    base = converted({}).settings["training"]
    found = imported.settings["training"]
    assert {key: value for key, value in found.items() if key not in base} == ours
    assert remarked(imported) == [f"train_config.{name}" for name in remarks]
    inline = imported.settings["teachers"]["teacher"].get("placement")
    assert inline == ("inline" if "gpus_per_worker" in ours else None)


# ---- nothing of TextBrewer is forgotten


def test_every_name_of_textbrewer_is_known():
    """A loss or a scheduler that a new release brings would be called the user's own."""
    presets = pytest.importorskip("textbrewer.presets")
    assert set(presets.KD_LOSS_MAP) == set(KD_LOSSES)
    assert set(presets.MATCH_LOSS_MAP) == set(MATCHES)
    assert set(presets.PROJ_MAP) == set(PROJECTIONS)
    assert set(presets.WEIGHT_SCHEDULER) == set(WEIGHTS)
    assert set(presets.TEMPERATURE_SCHEDULER.store) == set(TEMPERATURES)
    for name in presets.KD_LOSS_MAP:
        assert losses_of({"kd_loss_type": name})
    for name in presets.MATCH_LOSS_MAP:
        two = presets.MATCH_LOSS_MAP[name] in (presets.fsp_loss, presets.mmd_loss)
        layers = ([1, 1], [2, 2]) if two else (1, 2)
        [_, term] = losses_of({"intermediate_matches": [match(name, *layers)]})
        assert term["kind"] == MATCHES[name]
    for name in presets.PROJ_MAP:
        [_, term] = losses_of({"intermediate_matches": [match(proj=[name, 4, 8])]})
        assert term["projection"] == name
    for name in presets.WEIGHT_SCHEDULER:
        [term] = losses_of({"kd_loss_weight_scheduler": name})
        assert term["schedule"] == {"kind": name}


def test_every_argument_of_textbrewer_is_known():
    """As above."""
    textbrewer = pytest.importorskip("textbrewer")
    for wrapper, made in (("distill_config", textbrewer.DistillationConfig), ("train_config", textbrewer.TrainingConfig)):  # fmt: skip
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(made).parameters.items()
        }
        imported = converted({"distill_config": {}, wrapper: defaults})
        losses = imported.settings["losses"]
        assert losses == losses_of({})


# ---- the same sum


DISTILLED = {
    "ce": {"temperature": 8, "hard_label_weight": 0.5},
    "mse": {"kd_loss_type": "mse", "temperature": 3, "kd_loss_weight": 2},
    "shifted": {"temperature": 2, "probability_shift": True},
    "flsw": {"temperature_scheduler": ["flsw", 1, 2]},
    "cwsm": {"temperature_scheduler": ["cwsm", 1], "kd_loss_type": "mse"},
    "matches": {
        "hard_label_weight": 0.3,
        "intermediate_matches": [
            match("hidden_mse", 0, 0, weight=0.7, proj=["relu", 32, 32]),
            match("hidden_mse", 2, 4, weight=0.7, proj=["relu", 32, 32]),
            match("cos", 1, -2, weight=3),
            match("pkd", 2, 3, weight=5),
            match("gram", [0, 2], [1, 4], weight=11),
            match("attention_mse", 0, 1, weight=100),
            match("attention_mse", -1, -1, weight=100),
            match("attention_mse_sum", 1, 2, weight=50),
        ],
    },
    "nst": {"intermediate_matches": [match("nst", [1, 1], [4, 4])]},
}
"""Configurations for two blocks against four, of one width and number of heads."""


@pytest.fixture(scope="module")
def batch(tiny):
    """Rows of many lengths, all labelled."""
    from raydistill.models import tokenize
    from raydistill.tasks import Batch
    from tests.unit.objectives import make_tokenizer

    rows = make_rows(6, seed=5)
    texts = (tuple(row["text"] for row in rows),)
    tokens = tokenize(make_tokenizer(tiny["student"]), texts, 16)
    labels = torch.tensor([LABELS.index(row["label"]) for row in rows])
    return Batch(tuple(range(6)), texts, tokens, labels, torch.ones(6, dtype=torch.bool))


def model_of(folder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", output_hidden_states=True, output_attentions=True
    ).eval()


def our_terms(tiny: Any, batch: Any, imported: Imported) -> tuple[Any, torch.Tensor]:
    """The objective of an import, and its terms on a batch, weighted."""
    from raydistill.models import read_traits
    from raydistill.models.describe import ModelSource
    from raydistill.objective import Moment, Objective
    from raydistill.prepare.objective import plan_objective
    from raydistill.signals import Request
    from raydistill.teachers import LocalTeacher, TeacherSettings
    from raydistill.terms import StudentOutputs

    config, faults = parse_config(imported.settings)
    assert config is not None
    names = ("student", *config.teachers)
    sources = {name: ModelSource(name, str(tiny[name]), str(tiny[name])) for name in names}
    traits = {name: read_traits(name, source) for name, source in sources.items()}
    plan, faults = plan_objective(config, student=traits.pop("student"), teachers=traits, labels=LABELS)  # fmt: skip
    assert faults == []
    signals = {}
    for name, ask in plan.asks.items():
        settings = TeacherSettings(name, sources[name], "float32", 16, 64, attention_maps=True)
        signals[name] = LocalTeacher(settings).answer(Request(batch.row_ids, batch.texts, ask))
    objective, moment = Objective(plan), Moment(0, 10)
    with torch.no_grad():
        said = model_of(tiny["student"])(**batch.inputs)
        outputs = StudentOutputs(said.logits, said.hidden_states, said.attentions)
        sums = objective(outputs, batch, signals, moment)
    values = sums.double() / objective.counts(batch)
    return objective, values * torch.tensor(objective.weights(moment), dtype=torch.float64)


@pytest.mark.parametrize("name", DISTILLED)
def test_the_sum_is_that_of_textbrewers_distiller(tiny, batch, tmp_path, name):
    """A layer counted otherwise, a weight or a factor lost: the student learns something else."""
    textbrewer = pytest.importorskip("textbrewer")
    values = DISTILLED[name]
    imported = converted(values, teachers=["deep"])
    objective, terms = our_terms(tiny, batch, imported)
    distiller = textbrewer.GeneralDistiller(
        textbrewer.TrainingConfig(output_dir=str(tmp_path / "out"), device="cpu"),
        textbrewer.DistillationConfig(**json.loads(json.dumps(values))),
        *[None] * 4,
    )
    learned = [projection for projection in distiller.projs if projection is not None]
    for theirs, ours in zip(learned, objective.projections.by_key.values(), strict=True):
        theirs.load_state_dict(ours.state_dict())
    sides = []
    with torch.no_grad():
        for folder in (tiny["student"], tiny["deep"]):
            out = model_of(folder)(**batch.inputs, labels=batch.labels)
            sides.append(
                {
                    "logits": [out.logits],
                    "labels": [batch.labels],
                    "losses": [out.loss],
                    "inputs_mask": batch.inputs["attention_mask"],
                    "hidden": out.hidden_states,
                    "attention": out.attentions,
                }
            )
        expected, _ = distiller.compute_loss(*sides)
    if name == "nst":  # as the remark has it
        width, length = 32, batch.token_mask.shape[1]
        terms[1] *= (width / length) ** 2
        assert "(D/L)²" in imported.remarks[0].message
    assert terms.sum().item() == pytest.approx(expected.item(), rel=2e-5)


@pytest.mark.parametrize("kind", ["ce", "mse"])
def test_the_sum_is_that_of_textbrewers_distiller_of_several(tiny, batch, tmp_path, kind):
    """The mean of the teachers' logits, before the temperature."""
    textbrewer = pytest.importorskip("textbrewer")
    values = {"kd_loss_type": kind, "temperature": 0.5, "temperature_scheduler": ["flsw", 0.2, 1]}
    _, terms = our_terms(tiny, batch, converted(values, teachers=["wide", "deep"]))
    distiller = textbrewer.MultiTeacherDistiller(
        textbrewer.TrainingConfig(output_dir=str(tmp_path / "out"), device="cpu"),
        textbrewer.DistillationConfig(**json.loads(json.dumps(values))),
        [model_of(tiny["wide"]), model_of(tiny["deep"])],
        model_of(tiny["student"]),
        *[lambda _, out: {"logits": out.logits}] * 2,
    )
    expected, _ = distiller.train_on_batch(dict(batch.inputs), {})
    assert terms.sum().item() == pytest.approx(expected.item(), rel=2e-5)


# ---- what is malformed


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"temprature": 4}, "temprature is not known here. Known: "),
        ({"output_dir": "x"}, "output_dir is not known here. It belongs to TrainingConfig."),
        ({"\ud800\n": 4}, '"\\ud800\\n" is not known here.'),
        ({"temperature": 0}, "temperature must be a positive finite number, got 0."),
        ({"temperature": True}, "temperature must be a positive finite number, got true."),
        ({"temperature": 10**400}, "temperature must be a positive finite number, got 1000"),
        ({"kd_loss_weight": float("nan")}, "kd_loss_weight must be a finite number, zero or more, got NaN."),
        ({"hard_label_weight": -1}, "hard_label_weight must be a finite number, zero or more, got -1."),
        ({"kd_loss_type": ["ce"]}, 'kd_loss_type must be text, got ["ce"].'),
        ({"kd_loss_weight_scheduler": ["linear_decay"]}, "kd_loss_weight_scheduler must be a name, got "),
        ({"temperature_scheduler": "flsw"}, 'temperature_scheduler must be ["flsw", beta, gamma] with finite numbers'),
        ({"temperature_scheduler": ["flsw", 1]}, 'temperature_scheduler must be ["flsw", beta, gamma] with'),
        ({"temperature_scheduler": ["flsw", 1, -1]}, 'temperature_scheduler must be ["flsw", beta, gamma] with'),
        ({"temperature_scheduler": ["cwsm", 1, 2]}, 'temperature_scheduler must be ["cwsm", beta] with'),
        ({"temperature_scheduler": ["cwsm", {"gamma": 1}]}, 'temperature_scheduler must be ["cwsm", beta] with'),
        ({"temperature_scheduler": ["constant", 1]}, 'temperature_scheduler must be "constant", got '),
        ({"temperature_scheduler": [1]}, "temperature_scheduler must be a name, or a list of"),
        ({"temperature_scheduler": []}, "temperature_scheduler must be a name, or a list of"),
        ({"probability_shift": 1}, "probability_shift must be true or false, got 1."),
        ({"intermediate_matches": {}}, "intermediate_matches must be a list of matches, got {}."),
        ({"intermediate_matches": [None]}, "intermediate_matches.0 must be an object, got null."),
        ({"intermediate_matches": [match(layer_s=1)]}, "intermediate_matches.0.layer_s is not known here. "),
        ({"intermediate_matches": [match(own="1")]}, 'intermediate_matches.0.layer_S must be a whole number, got "1".'),
        ({"intermediate_matches": [match(theirs=[1, 1])]}, "intermediate_matches.0.layer_T must be a whole number, got [1, 1]."),
        ({"intermediate_matches": [match("fsp", [1, 2], 3)]}, "intermediate_matches.0.layer_T must be a list of two layers with fsp, got 3."),
        ({"intermediate_matches": [match("fsp", [1], [3, 3])]}, "intermediate_matches.0.layer_S must be a list of two layers with fsp, got [1]."),
        ({"intermediate_matches": [match(weight=None)]}, "intermediate_matches.0.weight must be a finite number"),
        ({"intermediate_matches": [match(proj="linear")]}, "intermediate_matches.0.proj must be [name, width of the student"),
        ({"intermediate_matches": [match(proj=[])]}, "intermediate_matches.0.proj must be [name, width of the student"),
        ({"intermediate_matches": [match(proj=["linear", 4, 8, {"lr": "x"}])]}, "intermediate_matches.0.proj must have lr as a finite number"),
        ({"kd_loss_weight": 0}, "Nothing is left to minimise"),
        ({"train_config": {}}, "distill_config must be an object of settings, got null."),
        ({"distill_config": {}, "train_config": []}, "train_config must be an object of settings, got []."),
        ({"distill_config": {}, "train_config": {"gradient_accumulation_steps": 0}}, "train_config.gradient_accumulation_steps must be a whole number, 1 or more, got 0."),
        ({"distill_config": {}, "train_config": {"output_dir": "a\nb"}}, 'train_config.output_dir must be text, got "a\\nb".'),
        ({"distill_config": {}, "train_config": {"fp16_opt_level": "O4"}}, "train_config.fp16_opt_level must be one of O0, O1, O2, O3"),
    ],
)  # fmt: skip
def test_malformed_settings_are_one_line_each(values, expected):
    """A traceback, or a file that means something else."""
    [line] = faults_of(values)
    assert line.startswith(expected), line


def test_all_faults_come_at_once():
    """One run for each is one too many."""
    one = {key: value for key, value in match().items() if key not in ("weight", "loss")}
    lines = faults_of({"temperature": -1, "hard": 1, "intermediate_matches": [one]})
    assert [line.split()[0] for line in lines] == [
        "hard",
        "temperature",
        "intermediate_matches.0.loss",
        "intermediate_matches.0.weight",
    ]


@pytest.mark.parametrize("teachers", [["a b"], ["a", "a"], ["-"], [""], ["a\n"]])
def test_names_of_teachers_are_checked(teachers):
    """They become keys of the file."""
    [line] = faults_of({}, teachers=teachers)
    assert line.startswith("--teachers ")


# ---- the command


def said(capsys: Any, *arguments: str) -> tuple[int, str, list[str]]:
    capsys.readouterr()
    code = run(lambda: app(["import", "textbrewer", *arguments]))
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_command_prints_yaml_and_names_the_rest(capsys, tmp_path, monkeypatch):
    """Only the file's text may go to standard output: it is redirected into one."""
    monkeypatch.chdir(tmp_path)
    Path("t6.json").write_text(json.dumps(T6), encoding="utf-8")
    imported = read_textbrewer("t6.json")
    code, out, err = said(capsys, "t6.json")
    assert (code, out) == (0, imported.to_yaml())
    assert err == [str(remark) for remark in imported.remarks]
    code, out, err = said(capsys, "t6.json", "--output", "c.yaml", "--teachers", "2")
    written = Path("c.yaml").read_text(encoding="utf-8")
    assert (code, out) == (0, "c.yaml\n")
    assert len(err) == 1
    assert list(parse_yaml(written, "c")["teachers"]) == ["teacher_1", "teacher_2"]
    code, _, err = said(capsys, "t6.json", "--output", "c.yaml")
    assert code == 2
    assert err == ["--output exists already: c.yaml. Nothing was written."]
    assert Path("c.yaml").read_text(encoding="utf-8") == written
    code, _, err = said(capsys, "t6.json", "--output", "no/c.yaml")
    assert code == 2
    assert err == ["--output cannot be written: no/c.yaml (No such file or directory)."]
    _, out, _ = said(capsys, "t6.json", "--teachers", "large, base")
    assert list(parse_yaml(out, "c")["teachers"]) == ["large", "base"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "f.json does not exist."),
        ("{'temperature': 4}", "f.json is not JSON, line 1, column 2: "),
        ("", "f.json is not JSON, line 1, column 1: "),
        ("[]", "f.json must hold an object, got []. "),
        ('{"temperature": 4, "temperature": 8}', 'f.json is not sound JSON: the key "temperature" stands twice.'),
        ('{"temperature": 1' + "0" * 5000 + "}", "f.json is not sound JSON: "),
        ("[" * 100_000, "f.json is nested too deeply."),
        (b'{"a": "\xff"}', "f.json is not UTF-8: byte 0xff at offset 7."),
        ('{"temperature": "8"}', 'temperature must be a positive finite number, got "8".'),
    ],
)  # fmt: skip
def test_command_refuses_in_one_line(capsys, tmp_path, monkeypatch, content, expected):
    """A wrong file is the user's, a traceback ours."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("f.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, out, [line] = said(capsys, "f.json", "--output", "c.yaml")
    assert (code, out) == (2, "")
    assert line.startswith(expected), line
    assert not Path("c.yaml").exists()


@pytest.mark.parametrize("number", ["0", "100", "9" * 5000, "1.5", "a,,b", "-1"])
def test_command_refuses_other_numbers_of_teachers(capsys, tmp_path, monkeypatch, number):
    """As above."""
    monkeypatch.chdir(tmp_path)
    Path("f.json").write_text("{}")
    code, _, [line] = said(capsys, "f.json", f"--teachers={number}")
    assert code == 2
    assert line.startswith("--teachers must be")


def test_command_refuses_a_folder(capsys, tmp_path):
    """As above."""
    code, _, [line] = said(capsys, str(tmp_path))
    assert code == 2
    assert line == f"{tmp_path} is a folder; a JSON file is needed."
