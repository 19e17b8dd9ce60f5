"""What a user may write, and what is said of everything else."""

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from raydistill.catalogue import kinds
from raydistill.config import DistillConfig, load_config, parse_config, to_yaml
from raydistill.config.schema import schema_text
from raydistill.errors import ConfigError

SOUND = """
run: {name: r}
data: {train: t.jsonl}
student: {model: s}
teachers:
  wide: {model: w}
  deep: {model: d}
losses:
  - {kind: cross_entropy, weight: 0.3}
  - {kind: forward_kl, temperature: 2}
"""
GONE = object()


def settings(**changes: Any) -> dict[str, Any]:
    """The sound settings with some replaced; `training__epochs=0` reaches into a section."""
    found = yaml.safe_load(SOUND)
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = found
        for parent in parents:
            at = at.setdefault(parent, {})
        if value is GONE:
            del at[last]
        else:
            at[last] = value
    return found


def lines(**changes: Any) -> list[str]:
    return [str(fault) for fault in parse_config(settings(**changes))[1]]


def test_sound_settings_have_no_faults():
    """A rule that fires on good input makes the tool useless."""
    config, faults = parse_config(settings())
    assert faults == []
    assert config.losses[1].temperature == 2.0


KINDS = ", ".join(sorted(kinds()))
PAIRS = "must be a list of pairs [student, teacher], one of all, last, uniform, every_2, every_3, …, or a map from teachers to such, got"
ONE_FAULT = [
    ("losses", [{"kind": "hidden_mse", "layers": 7}], f"losses.0.layers {PAIRS} 7."),
    ("losses", [{"kind": "hidden_mse", "layers": None}], f"losses.0.layers {PAIRS} null."),
    ("losses", [{"kind": "hidden_mse", "layers": [1, 2]}], f"losses.0.layers {PAIRS} [1, 2]."),
    ("losses", [{"kind": "hidden_mse", "layers": [[1]]}], f"losses.0.layers {PAIRS} [[1]]."),
    ("losses", [{"kind": "hidden_mse", "layers": [[1, True]]}], f"losses.0.layers {PAIRS} [[1, True]]."),
    ("losses", [{"kind": "hidden_mse", "layers": {"wide": [[1, "x"]]}}], f"losses.0.layers {PAIRS} {{'wide': [[1, 'x']]}}."),
    ("losses", [{"kind": "hidden_mse"}], "losses.0.layers is missing."),
    ("losses", [{"kind": "hidden_mse", "layers": []}], "losses.0.layers needs at least one pair [student, teacher], got []."),
    ("losses", [{"kind": "hidden_mse", "layers": {"wide": [], "deep": [[1, 1]]}}], "losses.0.layers needs at least one pair [student, teacher], got {'wide': [], 'deep': [[1, 1]]}."),
    ("losses", [{"kind": "hidden_mse", "layers": [[1, 1]], "projection": "linar"}], "losses.0.projection must be one of linear, relu, tanh, mlp, orthogonal, got 'linar'. Did you mean 'linear'?"),
    ("losses", [{"weight": 1}], f"losses.0.kind is missing. Known: {KINDS}."),
    ("losses", [{"kind": "forward_k"}], f"losses.0.kind 'forward_k' is not known. Known: {KINDS}. Did you mean 'forward_kl'?"),
    ("losses", ["forward_kl"], "losses.0 must be a mapping of settings, got 'forward_kl'."),
    ("losses", [], "losses must hold at least 1 item, got 0."),
    ("losses", None, "losses must be a list, got null."),
    ("losses", GONE, "losses is missing."),
    ("losses", [{"kind": "forward_kl", "temprature": 3}], "losses.0.temprature is not known. Known: kind, probability_shift, scale_by_temperature_squared, schedule, standardize, temperature, weight. Did you mean 'temperature'?"),
    ("losses", [{"kind": "forward_kl", "temperature": 0}], "losses.0.temperature must be a positive finite number, got 0."),
    ("losses", [{"kind": "forward_kl", "temperature": float("inf")}], "losses.0.temperature must be a positive finite number, got inf."),
    ("losses", [{"kind": "forward_kl", "temperature": float("nan")}], "losses.0.temperature must be a positive finite number, got not a number (nan)."),
    ("losses", [{"kind": "forward_kl", "temperature": True}], "losses.0.temperature must be a number, got true."),
    ("losses", [{"kind": "forward_kl", "temperature": "hot"}], "losses.0.temperature must be a number, got 'hot'."),
    ("losses", [{"kind": "forward_kl", "temperature": {"kind": "linear", "start": 4}}], "losses.0.temperature.end is missing."),
    ("losses", [{"kind": "forward_kl", "temperature": {"kind": "lin"}}], "losses.0.temperature.kind 'lin' is not known. Known: cosine, cwsm, flsw, learned, linear, step. Did you mean 'linear'?"),
    ("losses", [{"kind": "forward_kl", "schedule": {"kind": "warmup", "fraction": 2}}], "losses.0.schedule.fraction must lie between 0 and 1, got 2."),
    ("losses", [{"kind": "forward_kl", "temperature": {"kind": "learned"}}], "losses.0.temperature is learned, which several teachers allow with ensemble.combine: logits or losses only, got probabilities."),
    ("losses", [{"kind": "jensen_shannon", "beta": 1}], "losses.0.beta must lie between 0 and 1, both excluded, got 1."),
    ("losses", [{"kind": "hidden_mse", "layers": "every_0"}], f"losses.0.layers {PAIRS} 'every_0'."),
    ("losses", [{"kind": "hidden_mse", "layers": "last", "projection": {"kind": "linear", "sid": "teacher"}}], "losses.0.projection.sid is not known. Known: hidden_width, kind, learning_rate, side, weight_decay. Did you mean 'side'?"),
    ("losses", [{"kind": "rkd_angle", "layers": "last"}, {"kind": "vid", "layers": "last", "projection": {"side": "teacher"}}], "losses.1.projection.side must be student for vid: only losses that are the same both ways (cos, embedding_cos, embedding_l2, embedding_mse, hidden_mse, pkd) can teach a projection of the teacher."),
    ("losses", [{"kind": "fsp", "layers": [[0, 1]]}], "losses.0.layers must be a list of [[student, student], [teacher, teacher]], or a map from teachers to such lists, got [[0, 1]]."),
    ("losses", [{"kind": "custom", "target": "nowhere"}], "losses.0.target must look like package.module:function, got 'nowhere'."),
    ("losses", [{"kind": "custom", "target": "a:b", "needs": "hidden"}], "losses.0.layers is needed with needs: hidden."),
    ("balancing", {"kind": "relative", "main": 7}, "balancing.main must be the place of a term, 0 to 1, got 7."),
    ("stages", [{"share": 1, "losses": [0, 1]}], "stages.0.name is missing."),
    ("stages", [{"name": "a", "share": 0.5, "losses": [0, 1]}], "stages must have shares above 0 that sum to 1, got 0.5."),
    ("stages", [{"name": "a", "share": 1, "losses": [0, 1, 2]}], "stages.0.losses must be places of terms, 0 to 1, got 2."),
    ("stages", [{"name": "a", "share": 1, "losses": [0]}], "losses.1 belongs to no stage. Name it in one, or remove it."),
    ("ensemble", {"combine": "best"}, "ensemble.combine is best, the teacher of the largest weight in each row, but weighting is fixed, the same in all rows. Set weighting to confidence, label_cross_entropy, agreement or gate."),
    ("ensemble", {"temperatures": {"wid": 2}}, "ensemble.temperatures.wid names the teacher 'wid', which is not under teachers. Known: deep, wide."),
    ("ensemble", {"combine": "best", "weighting": {"kind": "routing", "column": "c"}}, "ensemble.combine is best, the teacher of the largest weight in each row, but weighting is routing, which names the teacher of a row itself. Set weighting to confidence, label_cross_entropy, agreement or gate."),
    ("ensemble", {"weighting": {"kind": "routing"}}, "ensemble.weighting.column is missing."),
    ("ensemble", {"weighting": {"kind": "routing", "column": "c", "routes": {"zh": "wid"}}}, "ensemble.weighting.routes.zh names the teacher 'wid', which is not under teachers. Known: deep, wide."),
    ("ensemble", {"weighting": {"kind": "routing", "column": "c", "others": "al"}}, "ensemble.weighting.others must be one of refuse, all, got 'al'. Did you mean 'all'?"),
    ("ensemble", {"weights": {"wide": 2}, "weighting": {"kind": "routing", "column": "c"}}, "ensemble.weights have no effect with weighting: routing and others: refuse, where every row has one teacher. Remove one."),
    ("ensemble", {"weighting": {"kind": "validation", "greater_is_better": False}}, "ensemble.weighting.greater_is_better is false, but there are no scores: they are measured, and ensemble.weighting.metric = accuracy says which way. Remove it."),
    ("ensemble", {"weighting": {"kind": "validation", "metric": "f1"}}, "ensemble.weighting.metric must be one of accuracy, macro_f1, nll, ece, got 'f1'."),
    ("ensemble", {"weighting": {"kind": "validation", "scores": {"wide": 0.8}}}, "ensemble.weighting.scores must hold a score of every teacher, deep is missing."),
    ("losses", [{"kind": "forward_kl", "weight": -1}], "losses.0.weight must be a finite number, zero or more, got -1."),
    ("losses", [{"kind": "forward_kl", "weight": 0}], "losses have weight 0 throughout: nothing would be trained."),
    ("losses", [{"kind": "cross_entropy"}], "teachers are given, but no term of losses uses them. Add e.g. {kind: forward_kl}, or remove the teachers."),
    ("losses", [{"kind": "hidden_mse", "layers": {"wide": [[1, 1]]}}], "teachers.deep is used by no term of losses. Name it in layers, add e.g. {kind: forward_kl}, or remove it."),
    ("losses", [{"kind": "hidden_mse", "layers": {"wid": [[1, 1]]}}], "losses.0.layers.wid names the teacher 'wid', which is not under teachers. Known: deep, wide."),
    ("run", GONE, "run is missing."),
    ("run", {}, "run.name is missing."),
    ("run", {"nam": "r"}, "run.nam is not known. Known: autoscaling, name, output_dir, ray_address, seed. Did you mean 'name'?"),
    ("run__name", "a b", "run.name must begin with a letter or digit and hold nothing but those and . _ -, got 'a b'."),
    ("run__name", 2024, "run.name must be text, got 2024. Put it in quotes."),
    ("run__seed", 1.5, "run.seed must be a whole number, got 1.5."),
    ("run__seed", True, "run.seed must be a number, got true."),
    ("trainig", {"epochs": 1}, "trainig is not known. Known: adversarial, augmentation, balancing, data, ensemble, evaluation, losses, pipeline, run, stages, store, student, task, teachers, tracking, training, tuning. Did you mean 'training'?"),
    ("training", "fast", "training must be a mapping of settings, got 'fast'."),
    ("training__epochs", 0, "training.epochs must be at least 1, got 0."),
    ("training__batch_rows", 0, "training.batch_rows must be at least 1, got 0."),
    ("training__micro_batch_rows", 64, "training.micro_batch_rows must not exceed training.batch_rows = 32, got 64."),
    ("training__num_workers", 64, "training.num_workers must not exceed training.batch_rows = 32: the global batch is divided among them, got 64."),
    ("training__gpus_per_worker", 1.5, "training.gpus_per_worker must be a share of one GPU, or a whole number of GPUs, got 1.5."),
    ("pipeline__max_bytes_ahead", "aut", "pipeline.max_bytes_ahead must be a number of bytes, 1 or more, or auto, got 'aut'."),
    ("data", {}, "data names no rows to train on: give folder, dataset or train."),
    ("data__train", 5, "data.train must be a path, URI or pattern, or a list of them, got 5."),
    ("data__train", [], "data.train must be a path, URI or pattern, or a list of them, got []."),
    ("task__labels", [False, "yes"], "task.labels.0 must be text, got false. Put it in quotes."),
    ("task__labels", ["one"], "task.labels must hold at least 2 items, got 1."),
    ("teachers__a.b", {"model": "x"}, "teachers.a.b must begin with a letter or digit and hold nothing but those and _ -, got 'a.b'."),
    ("teachers__", {"model": "x"}, "teachers.'' must begin with a letter or digit and hold nothing but those and _ -, got ''."),
    ("teachers", {}, "losses.1 is forward_kl, which needs a teacher, but there is none under teachers."),
    ("teachers", [], "teachers must be a mapping of settings, got []."),
    ("teachers__wide", {}, "teachers.wide.model is missing."),
    ("teachers__wide__model", 7, "teachers.wide.model must be text, got 7. Put it in quotes."),
    ("teachers__wide__dtype", "float23", "teachers.wide.dtype must be one of float32, float16, bfloat16, got 'float23'. Did you mean 'float32'?"),
    ("ensemble__weights", {"wid": 1}, "ensemble.weights.wid names the teacher 'wid', which is not under teachers. Known: deep, wide."),
    ("student", {}, "student needs exactly one of model, from_teacher, from_config, network, preset, got none."),
    ("student", {"model": "s", "from_config": {}, "tokenizer": "s"}, "student needs exactly one of model, from_teacher, from_config, network, preset, got model and from_config."),
    ("student", {"from_teacher": {"teacher": "wid", "layers": [0]}}, "student.from_teacher.teacher names the teacher 'wid', which is not under teachers. Known: deep, wide."),
    ("student", {"from_teacher": {"teacher": "wide", "layers": [-1]}}, "student.from_teacher.layers.0 must be at least 0, got -1."),
    ("student", {"from_teacher": {"teacher": "wide", "layers": [0]}, "tokenizer": "t"}, "student.tokenizer must be left out with student.from_teacher: layers and embeddings are those of teachers.wide."),
    ("student", {"from_config": {"model_type": "bert"}}, "student.tokenizer is needed with student.from_config: new weights have no vocabulary of their own. Name a model or folder whose tokenizer to use."),
    ("evaluation__splits", ["tset"], "evaluation.splits.0 must be one of validation, test, got 'tset'. Did you mean 'test'?"),
    ("tracking__tags", {"a": 1}, "tracking.tags.a must be text, got 1. Put it in quotes."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "line"), ONE_FAULT, ids=[line[:50] for *_, line in ONE_FAULT]
)
def test_a_fault_is_one_sentence_by_path(path, value, line):
    """A complaint that echoes elsewhere, or speaks pydantic's language, sends users the wrong way."""
    assert lines(**{path: value}) == [line]


def test_routing_chooses_among_teachers():
    """With one teacher the rows of others would be taught by nobody."""
    weighting = {"kind": "routing", "column": "language", "routes": {"zh": "wide", "en": "deep"}}
    assert lines(ensemble={"weighting": weighting}) == []
    one = {"wide": {"model": "x"}}
    assert lines(ensemble={"weighting": weighting | {"routes": {}}}, teachers=one) == [
        "ensemble.weighting.kind is routing, which chooses among two teachers or more, got 1. "
        "Add one, or remove weighting."
    ]


def test_onnx_computes_in_float32_on_cpus():
    """A teacher that is given a GPU and does not use it wastes the GPU."""
    half = {"model": "x", "backend": "onnx", "dtype": "bfloat16", "num_gpus": 0.5}
    assert lines(teachers__wide=half) == [
        "teachers.wide.backend is onnx, which computes in float32 on CPUs, but teachers.wide.dtype is bfloat16. "
        "Set backend: torch.",
        "teachers.wide.backend is onnx, which computes in float32 on CPUs, but teachers.wide.num_gpus is 0.5. "
        "Set backend: torch.",
    ]
    inline = {"model": "x", "backend": "onnx", "placement": "inline", "num_gpus": 1}
    assert lines(teachers__wide=inline) == []
    (line,) = lines(teachers__wide=inline, training__gpus_per_worker=1)
    assert "but training.gpus_per_worker is 1." in line


def test_onnx_gives_out_no_queries():
    """They are read while torch computes."""
    wide = {"model": "x", "backend": "onnx"}
    term = {"kind": "relation_kl", "states": "value", "layers": "last"}
    assert lines(teachers={"wide": wide}, losses=[{"kind": "cross_entropy"}, term]) == [
        "teachers.wide.backend is onnx, which gives out hidden states and attention maps only, but "
        "losses.1.states is value. Set backend: torch."
    ]
    for other in ({"states": "hidden"}, {"layers": {"deep": "last"}}):
        both = {"wide": wide, "deep": {"model": "y"}}
        assert lines(teachers=both, losses=[{"kind": "forward_kl"}, term | other]) == []


def test_unlabelled_rows_need_a_term_that_uses_them():
    """Rows that are read and never learnt from would be a silent waste."""
    found = lines(data__unlabelled="u.jsonl", losses=[{"kind": "cross_entropy"}], teachers={})
    assert len(found) == 1
    assert found[0].startswith("data.unlabelled has no effect")


def test_all_faults_are_shown_at_once_in_order():
    """One fault a run costs users a run a fault."""
    found = lines(
        trainig={},
        run__name="a b",
        student={"modle": "x", "dropout": 2},
        teachers__wide__replcas=2,
        teachers__deep=None,
        losses=[
            {"kind": "forward_kl", "temprature": 3, "weight": -1},
            {"kind": "xx"},
            {"kind": "hidden_mse", "layers": {"nope": [[0, 0]]}},
        ],
        tracking__enabled="maybe",
    )
    assert [line.split()[0] for line in found] == [
        "run.name", "student.dropout", "student.modle", "teachers.wide.replcas", "teachers.deep",
        "losses.0.weight", "losses.0.temprature", "losses.1.kind", "losses.2.layers.nope",
        "tracking.enabled", "trainig",
    ]  # fmt: skip


def test_a_reference_to_a_teacher_that_was_cut_is_no_fault():
    """One mistyped teacher must not make every mention of it a fault, too."""
    found = lines(
        teachers__wide="path",
        ensemble__weights={"wide": 2},
        student={"from_teacher": {"teacher": "wide", "layers": [0]}},
    )
    assert found == ["teachers.wide must be a mapping of settings, got 'path'."]


def test_a_real_fault_beside_a_cut_one_is_still_shown():
    """Suppressing echoes by section would hide what is wrong there besides."""
    found = lines(teachers__wide__replcas=1, ensemble__weights={"nope": 1}, student={"dropout": 3})
    assert [line.split()[0] for line in found] == [
        "student.dropout", "student", "teachers.wide.replcas", "ensemble.weights.nope"
    ]  # fmt: skip


@pytest.mark.parametrize("key", [None, True, 1.5])
def test_a_key_that_is_no_text_is_a_fault(key):
    """Settings from Python with odd keys must not end in a traceback."""
    faulty = settings()
    faulty["run"][key] = 1
    config, faults = parse_config(faulty)
    assert config is None
    assert [str(fault) for fault in faults] == [
        f"the configuration holds the key {key}, which is no text."
    ]


def test_a_number_as_a_key_is_its_text():
    """Label names and tags are often numbers, and YAML makes integers of them."""
    config, faults = parse_config(settings(teachers__wide__label_map={0: "a", 1: "b"}))
    assert faults == []
    assert config.teachers["wide"].label_map == {"0": "a", "1": "b"}


def test_settings_are_not_changed_by_validation():
    """Cutting faults out of the caller's own dictionary would lose them there."""
    faulty = settings(run__nam="x", losses=[{"kind": "nope"}])
    before = json.dumps(faulty)
    parse_config(faulty)
    assert json.dumps(faulty) == before


def test_resolved_yaml_round_trips(tmp_path):
    """The file beside the results must make the same run again."""
    changed = settings(
        student={"from_teacher": {"teacher": "wide", "layers": [0, 2]}},
        training__learning_rate=1e-5,
        training__early_stopping={"patience": 2},
        tracking__tags={"wer": "Jörg: ja", "leer": ""},
        task__labels=["no", "yes"],
    )
    changed["losses"].append({"kind": "hidden_mse", "layers": {"wide": [[-1, -1]]}})
    config, faults = parse_config(changed)
    assert faults == []
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(path) == config


def test_configuration_is_frozen():
    """A setting changed under way would not be the one that was recorded."""
    config, _ = parse_config(settings())
    for section, name in ((config, "run"), (config.run, "seed"), (config.losses[1], "temperature")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, 1)


def test_load_config_raises_every_fault(tmp_path):
    """A caller from Python must see what the command line shows."""
    path = tmp_path / "c.yaml"
    path.write_text(SOUND + "trainig: {}\npipeline: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["run.seed=-1"])
    assert [fault.path for fault in caught.value.faults] == ["run.seed", "pipeline", "trainig"]


def sections() -> list[type[BaseModel]]:
    from raydistill.config.base import Section

    found, queue = [], [Section]
    while queue:
        below = queue.pop().__subclasses__()
        found += below
        queue += below
    return found


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_setting_is_documented(section):
    """A setting that editors and the reference show without a word has to be guessed."""
    assert section.__doc__ or section.__name__.startswith("_")
    silent = [name for name, field in section.model_fields.items() if not field.description]
    assert silent == []


def test_schema_accepts_what_is_sound_and_refuses_what_is_not():
    """An editor that underlines good settings, or none, is worse than no schema."""
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    config, _ = parse_config(settings())
    assert list(validator.iter_errors(settings())) == []
    assert list(validator.iter_errors(config.model_dump(mode="json"))) == []
    wrong = [{"trainig": {}}, {"training__epochs": 0}, {"training__learning_rate": 0}, {"losses": []},
             {"losses": [{"kind": "forward_kl", "temprature": 1}]}, {"run__name": "a b"}]  # fmt: skip
    for change in wrong:
        assert list(validator.iter_errors(settings(**change))), change


def test_importing_the_configuration_is_light():
    """Completion, editors and job submitters must not wait for torch."""
    code = (
        "import sys, raydistill.config, raydistill.errors;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'transformers', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_sections_of_python_made_configurations_are_refused():
    """Recipes in Python go through the same gate."""
    with pytest.raises(ValidationError):
        DistillConfig(**settings(), extra={})
