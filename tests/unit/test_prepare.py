"""From a configuration to everything a run needs, or to every reason why it cannot run."""

import json
import shutil
from typing import Any

import pytest

from raydistill.checks import check
from raydistill.config import DistillConfig, parse_config
from raydistill.models import load_tokenizer
from raydistill.prepare import (
    Prepared,
    Resources,
    changed_settings,
    needed_resources,
    prepare,
    resource_faults,
)
from raydistill.signals import HiddenAsk
from raydistill.storing import needed_answers
from raydistill.tasks import TextClassification
from tests.conftest import make_model, make_rows, two_teachers, write_rows

HIDDEN = {"kind": "hidden_mse", "layers": [[-1, -1]], "projection": "linear"}


@pytest.fixture
def settings(tiny, tmp_path) -> dict[str, Any]:
    """A sound run of two teachers."""
    return {
        **two_teachers(tiny, tmp_path),
        "training": {"batch_rows": 16, "epochs": 2},
        "tracking": {"enabled": False, "uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    }


def prepared(settings: dict[str, Any]) -> Prepared:
    found, faults = prepare(DistillConfig.model_validate(settings))
    assert faults == []
    assert found is not None
    return found


def lines(settings: dict[str, Any]) -> list[str]:
    """What `raydistill check` says."""
    config, faults = parse_config(settings)
    with pytest.raises(ValueError, match=r".") as caught:
        check(config, faults)
    return str(caught.value).splitlines()


def test_sound_run_is_planned(settings):
    """Wrong steps, layers or columns would train another student than the one asked for."""
    settings["losses"].append(HIDDEN | {"layers": {"wide": [[1, 1], [-1, -1]], "deep": [[0, 0]]}, "positions": "mean"})  # fmt: skip
    settings["teachers"]["wide"]["signal_dtype"] = "float16"
    found = prepared(settings)
    assert found.labels == ("negative", "positive")
    assert found.num_train_rows == 96 + 32
    assert (found.steps.total, found.steps.per_epoch, found.steps.evaluate_every) == (16, 8, 8)
    asks = found.objective.asks
    assert asks["wide"].hidden == (HiddenAsk(1, "mean"), HiddenAsk(3, "mean"))
    assert asks["wide"].dtype == "float16"
    assert asks["deep"].hidden == (HiddenAsk(0, "mean"),)
    pairs = found.objective.terms[2].match.pairs
    assert [(p.teacher, p.student, p.layers) for p in pairs] == [
        ("wide", (1,), (1,)), ("wide", (2,), (3,)), ("deep", (0,), (0,))
    ]  # fmt: skip
    widths = [(p.width_in, p.width_out) for p in found.objective.projections]
    assert widths == [(32, 48), (32, 48), (32, 32)]
    assert found.objective.columns == {"wide": (0, 1), "deep": (0, 1)}
    assert found.row_bytes("wide") == 2 * (2 + 2 * 48)
    assert found.row_bytes("deep") == 4 * (2 + 32)
    assert found.notes == ()


def test_unlabelled_rows_of_a_folder_are_left_out_without_teachers(settings):
    """Rows that no term uses would only lengthen the epoch."""
    settings |= {"teachers": {}, "losses": [{"kind": "cross_entropy"}]}
    found = prepared(settings)
    assert "unlabelled" not in found.splits
    assert found.num_train_rows == 96


def test_settings_without_effect_are_noted(settings):
    """A setting that silently does nothing makes a user draw wrong conclusions."""
    settings["training"] |= {"max_steps": 999, "projection_learning_rate": 1e-3}
    notes = prepared(settings).notes
    assert [note.split()[0] for note in notes] == [
        "training.max_steps", "training.projection_learning_rate"
    ]  # fmt: skip


ROUTING = {"kind": "routing", "column": "lang", "routes": {"zh": "wide"}}


def with_languages(folder, missing=()) -> dict[str, Any]:
    """Data whose rows name teachers."""
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(("train", "unlabelled", "validation", "test")):
        rows = [
            row | {"lang": ("zh", "deep")[i % 3 % 2]} for i, row in enumerate(make_rows(12, seed))
        ]
        for row in rows if name in missing else ():
            del row["lang"]
        write_rows(folder / f"{name}.jsonl", rows)
    return {"folder": str(folder)}


def test_rows_come_with_their_routes(settings, tmp_path):
    """Rows without one would be taught by all teachers."""
    settings["data"] = with_languages(tmp_path / "data")
    settings["ensemble"] = {"weighting": ROUTING}
    found = prepared(settings)
    assert found.notes == (
        "data.train: rows go by column 'lang': 8 to wide, 4 to deep.",
        "data.unlabelled: rows go by column 'lang': 8 to wide, 4 to deep.",
    )
    task = TextClassification(found.splits["train"].table, found.labels)
    batch = task.batch([0, 1, 2], load_tokenizer(found.student.source), 16)
    assert batch.route.tolist() == [0, 1, 0]
    assert batch.texts[0][0] == task.texts([0])[1][0][0]
    assert len(batch.texts) == 1, "teachers are asked about texts, not about routes"
    assert (
        TextClassification(found.splits["test"].table, found.labels).route().tolist()
        == [0, 1, 0] * 4
    )
    del settings["ensemble"]
    plain = prepared(settings)
    task = TextClassification(plain.splits["train"].table, plain.labels)
    assert task.batch([0], load_tokenizer(plain.student.source), 16).route is None
    said = [line for line in changed(found, settings) if line.startswith("data.")]
    assert [line.split()[0] for line in said] == ["data.train", "data.unlabelled"]


def test_a_column_of_routes_must_be_in_every_file(settings, tmp_path):
    """The figures of the ensemble need the test rows' routes hours later."""
    settings["data"] = with_languages(tmp_path / "data", missing=("unlabelled", "test"))
    settings["ensemble"] = {"weighting": ROUTING}
    found = lines(settings)
    assert [line.split()[0] for line in found] == ["data.unlabelled", "data.test"]
    assert all("must hold a column 'lang' (ensemble.weighting.column)" in line for line in found)


def test_faults_of_routes_have_no_echoes_among_rows(settings, tmp_path):
    """A line for each language hides the one misspelt teacher."""
    settings["data"] = with_languages(tmp_path / "data")
    settings["ensemble"] = {"weighting": ROUTING | {"routes": {"zh": "wid"}}}
    (line,) = lines(settings)
    assert line.startswith("ensemble.weighting.routes.zh names the teacher 'wid'")
    settings["ensemble"] = {"weighting": ROUTING | {"routes": {}, "others": "ignore"}}
    (line,) = lines(settings)
    assert line.startswith("ensemble.weighting.others must be one of")


def test_scores_can_be_measured_on_validation_rows_only(settings, tiny, tmp_path):
    """Found out after the teachers are loaded, or not at all: all teachers would weigh the same."""
    settings["ensemble"] = {"weighting": {"kind": "validation"}}
    found = prepared(settings)
    assert found.config.measures_teachers
    assert found.objective.weights == {"wide": 0.5, "deep": 0.5}
    rows = {task.num_rows for task, ask in needed_answers(found, "wide")}
    assert rows == {96, 32, 40}
    assert len(list(needed_answers(found, "wide"))) == 4, (
        "validation, though test is measured at the end"
    )
    data = {"train": f"{tiny['data']}/train.jsonl"}
    (line,) = lines(settings | {"data": data})
    assert line.startswith(
        "ensemble.weighting.scores are to be measured, but there is no data.validation."
    )
    bare = write_rows(tmp_path / "bare.jsonl", [row | {"label": None} for row in make_rows(9, 1)])
    (line,) = lines(settings | {"data": data | {"validation": str(bare)}})
    assert "but no row of data.validation has a label" in line
    one = write_rows(
        tmp_path / "one.jsonl", [row | {"label": "positive"} for row in make_rows(9, 1)]
    )
    other = make_model(tmp_path / "partial", labels=("negative", "neutral"))
    settings["task"] = {"labels": ["negative", "positive", "neutral"]}
    settings["teachers"]["wide"]["missing_labels"] = "abstain"
    settings["teachers"]["deep"] = {"model": str(other), "missing_labels": "abstain"}
    (line,) = lines(settings | {"data": data | {"validation": str(one)}})
    assert "but teachers.deep knows the label of no row of data.validation" in line
    settings["ensemble"]["weighting"]["scores"] = {"wide": 0.9, "deep": 0.8}
    assert not prepared(settings | {"data": data}).config.measures_teachers


def test_student_of_a_teachers_layers(settings):
    """Blocks of the wrong teacher, or its old label order, start from the wrong weights."""
    settings["student"] = {"from_teacher": {"teacher": "deep", "layers": [0, 3]}, "max_tokens": 16}
    found = prepared(settings)
    assert found.student.layers == (0, 3)
    assert found.student.head_columns == (0, 1)
    assert (found.student_traits.num_layers, found.student_traits.width) == (2, 32)
    settings["student"]["from_teacher"]["layers"] = [0, 4]
    assert lines(settings) == [
        "student.from_teacher.layers must be blocks of teachers.deep, 0 to 3, got 4."
    ]


def random_student(settings, **config: Any) -> dict[str, Any]:
    student = {"from_config": config, "tokenizer": settings["teachers"]["deep"]["model"], "max_tokens": 16}  # fmt: skip
    return settings | {"student": student}


SMALL = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}  # fmt: skip


def test_student_from_a_configuration(settings):
    """A student of random weights must have the shape that was written."""
    found = prepared(random_student(settings, **SMALL))
    assert found.student_traits.width == 16
    assert found.student_traits.tokenizer == found.traits["deep"].tokenizer
    assert found.manifest["student.weights"] is None


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"hiden_size": 8}, "student.from_config.hiden_size is not known."),
        ({"model_type": "berd"}, "student.from_config.model_type 'berd' is not known"),
        ({"hidden_size": "x"}, "student.from_config does not make a classifier: Validation error"),
        ({"hidden_size": 15}, "student.from_config does not make a classifier: The hidden size (15)"),
        ({"vocab_size": 3}, "student.from_config.vocab_size must be at least the"),
    ],
)  # fmt: skip
def test_configuration_that_makes_no_student_is_refused(settings, change, line):
    """transformers ignores misspelt names in silence, and raises the rest in a worker, minutes later."""
    (said,) = lines(random_student(settings, **{**SMALL, **change}))
    assert said.startswith(line)


def test_label_map_is_the_way_out_of_other_names(settings, tmp_path):
    """A teacher whose columns are confused teaches the opposite."""
    settings["teachers"]["deep"]["model"] = str(make_model(tmp_path / "t", labels=("gut", "schlecht")))  # fmt: skip
    (said,) = lines(settings)
    assert said.startswith("teachers.deep.model has other labels than the task.")
    assert "label_map" in said
    settings["teachers"]["deep"]["label_map"] = {"gut": "positive", "schlecht": "negative"}
    assert prepared(settings).objective.columns["deep"] == (1, 0)
    settings["teachers"]["deep"]["label_map"] = {"gut": "positive"}
    (said,) = lines(settings)
    assert said.startswith("teachers.deep.label_map does not fit.")


def test_teachers_labels_become_one_or_none(settings, tmp_path):
    """A head of three rows has none that gives a sum: a student made of this teacher gets a new one."""
    more = make_model(tmp_path / "t", labels=("bad", "worse", "fine", "good"))
    settings["teachers"]["deep"] |= {
        "model": str(more),
        "label_map": {"bad": "negative", "worse": "negative", "good": "positive", "fine": None},
    }
    negative, positive = prepared(settings).objective.columns["deep"]
    assert (negative.columns, positive) == ((0, 1), 3)
    settings["student"] = {
        "from_teacher": {"teacher": "deep", "layers": [0]},
        "max_tokens": 16,
    }
    assert prepared(settings).student.head_columns is None
    settings["teachers"]["deep"]["label_map"] |= {"worse": None}
    assert prepared(settings).student.head_columns == (0, 3)


def test_other_number_of_labels_is_refused(settings, tmp_path):
    """Logits of three classes cannot be compared with logits of two."""
    settings["teachers"]["deep"]["model"] = str(make_model(tmp_path / "t", labels=("a", "b", "c")))
    (said,) = lines(settings)
    assert "The teacher answers 3 classes, the student has 2." in said


def test_layers_widths_and_tokenizers_must_fit(settings, tiny):
    """Each of these would fail in a worker, or compare what cannot be compared."""
    settings["teachers"]["other"] = {"model": str(tiny["other"]), "max_tokens": 8}
    settings["losses"] += [
        {"kind": "hidden_mse", "layers": {"wide": [[3, 4], [-4, 0]], "deep": [[1, 1]]}},
        {"kind": "hidden_mse", "layers": {"other": [[1, 1]]}},
    ]
    assert [line.partition(" must")[0].partition(" is")[0].partition(" 'all'")[0] for line in lines(settings)] == [
        "teachers.other.max_tokens",
        "losses.2.layers.wide.0.0",
        "losses.2.layers.wide.0.1",
        "losses.2.layers.wide.1.0",
        "losses.2.projection",
        "losses.3.positions",
    ]  # fmt: skip
    settings["losses"][2:] = [HIDDEN | {"positions": "first"}]
    assert len(prepared(settings).objective.projections) == 3


QUERIES = {"kind": "relation_kl", "states": "query", "layers": "last", "relation_heads": 2}


def test_queries_are_planned_by_block(settings):
    """A teacher asked for hidden states instead would be compared with queries."""
    settings["losses"].append(QUERIES | {"layers": {"wide": [[-1, 3], [1, 1]], "deep": "last"}})
    found = prepared(settings)
    assert [ask.key for ask in found.objective.asks["wide"].hidden] == [
        "query.1.all",
        "query.3.all",
    ]
    assert found.objective.student_inside == {"query.1", "query.2"}
    assert found.row_bytes("wide") == 4 * (2 + 2 * 16 * 48)


def test_states_inside_blocks_must_be_there(settings, tmp_path, tiny):
    """A worker would find out in its first step."""
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    fused = tmp_path / "fused"
    shutil.copytree(tiny["deep"], fused)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}  # fmt: skip
    own = json.loads((tiny["deep"] / "config.json").read_text())
    names = {"id2label": dict(enumerate(("negative", "positive"))), "pad_token_id": 0}
    config = ModernBertConfig(vocab_size=own["vocab_size"], max_position_embeddings=64, **sizes, **names)  # fmt: skip
    ModernBertForSequenceClassification(config).save_pretrained(fused)
    settings["teachers"]["deep"]["model"] = str(fused)
    settings["losses"] += [
        QUERIES,
        QUERIES | {"layers": {"wide": [[0, 1], [1, 4]]}},
        QUERIES | {"layers": {"wide": "last"}, "relation_heads": 3},
        {"kind": "relation_kl", "layers": {"wide": "last", "deep": [[1, 0]]}},
    ]
    assert lines(settings) == [
        "losses.2.states is query, but teachers.deep is a modernbert, which does not compute queries, keys "
        "and values by one linear layer each in each of its 2 blocks. Use states: hidden.",
        "losses.3.layers.wide.0.0 must be a block of the student, 1 to 2 or -1 to -2 from the end "
        "(embeddings have no attention), got 0.",
        "losses.3.layers.wide.1.1 must be a block of teachers.wide, 1 to 3 or -1 to -3 from the end "
        "(embeddings have no attention), got 4.",
        "losses.4.relation_heads must divide the width of the queries of the student, 32, got 3.",
    ]
    student = random_student(settings, model_type="modernbert", **sizes)
    student["losses"] = [QUERIES | {"layers": {"wide": "last"}}, {"kind": "forward_kl"}]
    (said,) = lines(student)
    assert said.startswith("losses.0.states is query, but the student is a modernbert, which does")


def test_teacher_without_a_head_is_refused(settings, tmp_path, tiny):
    """A head of random weights answers noise, and nothing else would tell."""
    folder = tmp_path / "headless"
    shutil.copytree(tiny["deep"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    settings["teachers"]["deep"]["model"] = str(folder)
    (said,) = lines(settings)
    assert said.startswith("teachers.deep.model is a BertForMaskedLM, which has no head for labels")


def test_longer_texts_than_positions_are_refused(settings):
    """Positions beyond the table fail in the middle of an epoch."""
    settings["student"]["max_tokens"] = 65
    assert [line.split()[0] for line in lines(settings)] == [
        "student.max_tokens", "teachers.wide.max_tokens", "teachers.deep.max_tokens"
    ]  # fmt: skip


def test_files_and_settings_are_told_together_without_echoes(settings, tiny, tmp_path):
    """A fault of the configuration must neither hide a missing file nor cause complaints elsewhere."""
    settings["data"] = {
        "train": str(tmp_path / "nope.jsonl"),
        "test": str(tiny["data"] / "test.jsonl"),
    }
    settings["student"] |= {"max_tokens": 0}  # its default, 128, exceeds the models' positions
    settings["teachers"]["wide"] |= {"model": str(tmp_path / "no_model"), "replcas": 2}
    settings["teachers"]["deep"] = {"modle": "x"}
    settings["losses"][1]["temprature"] = 3
    settings["task"] = {"txt": "sentence"}  # so that column 'text' is not what is looked for
    found = lines(settings)
    assert [line.split()[0] for line in found] == [
        "data.train", "task.txt", "student.max_tokens", "teachers.wide.replcas",
        "teachers.deep.modle", "teachers.wide.model", "losses.1.temprature",
    ]  # fmt: skip


def test_missing_sections_do_not_hide_missing_files(settings, tmp_path):
    """Whoever forgot `run` also wants to know of the mistyped folder."""
    del settings["run"], settings["student"]
    settings["data"] = {"folder": str(tmp_path / "nope"), "test": str(tmp_path / "nope.csv")}
    assert [line.split()[0] for line in lines(settings)] == [
        "run", "data.folder", "data.test", "student"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}\n', "must hold a column 'label' (task.label)"),
        ("", "must hold at least one row"),
        ('{"text": "", "label": "negative"}\n', "must have text in column 'text'"),
        ('{"text": "caf\xe9", "label": "negative"}\n', "must be UTF-8"),
    ],
)
def test_unreadable_rows_are_refused(settings, tiny, tmp_path, content, said):
    """Faulty rows must be found before teachers are started."""
    (tmp_path / "train.jsonl").write_bytes(content.encode("latin-1"))
    settings["data"] = {"train": str(tmp_path / "train.jsonl")}
    (line,) = lines(settings)
    assert line.startswith("data.train must")
    assert said in line


def test_pickled_weights_are_refused(settings, tmp_path, tiny):
    """Loading a pickle runs whatever code it holds."""
    shutil.copytree(tiny["deep"], tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    settings["teachers"]["deep"]["model"] = str(tmp_path / "pickled")
    (line,) = lines(settings)
    assert line.startswith("teachers.deep.model holds its weights only as pytorch_model.bin")


def test_rules_hold_for_configurations_made_in_python(settings):
    """model_copy checks nothing; such a run would fail after minutes, or train with temperature 0."""
    config = DistillConfig.model_validate(settings)
    loss = config.losses[1].model_copy(update={"temperature": 0.0})
    config = config.model_copy(update={"losses": [loss], "ensemble": config.ensemble.model_copy(update={"weights": {"nope": 1.0}})})  # fmt: skip
    with pytest.raises(ValueError, match="temperature must be a positive") as caught:
        check(config)
    assert [fault.path for fault in caught.value.faults] == ["ensemble.weights.nope", "losses.0.temperature"]  # fmt: skip


def test_measures_that_choose_must_be_measured(settings):
    """A best checkpoint by a metric that nobody computes is an arbitrary one."""
    settings["training"] |= {"select_by": "validation/acuracy", "early_stopping": {}}
    settings["tracking"] |= {"registered_model": "m", "champion_metric": "test/nll"}
    settings["data"] = {"train": settings["data"]["folder"] + "/train.jsonl"}
    assert [line.split()[0] for line in lines(settings)] == [
        "training.select_by", "training.early_stopping", "tracking.champion_metric"
    ]  # fmt: skip
    settings["tracking"] |= {"promotion": {"metric": "test/acuracy", "better_by": 0.002}}
    assert [line.split()[0] for line in lines(settings)][-1] == "tracking.promotion.metric"


def test_more_gpus_than_there_are_is_refused(settings):
    """Actors that can never be placed wait until a deadline of ten minutes."""
    settings["teachers"]["wide"] |= {"num_gpus": 64, "replicas": 2}
    settings["training"]["gpus_per_worker"] = 0.5
    settings["run"]["autoscaling"] = True  # this machine will not grow
    (line,) = lines(settings)
    assert line.startswith("GPUs: 128.5 are asked for (teachers.wide: 2 x 64; training: 1 x 0.5)")
    assert "autoscaling" not in line


def test_resources_of_a_cluster(settings):
    """On a cluster CPUs are real, and one that grows on demand may have none yet."""
    config = DistillConfig.model_validate(settings)
    assert needed_resources(config) == Resources(cpus=3.0, gpus=0.0)
    assert resource_faults(config, Resources(3, 0), embedded=False) == []
    assert resource_faults(config, Resources(1, 0), embedded=True) == []
    (fault,) = resource_faults(config, Resources(2, 0), embedded=False)
    assert str(fault).startswith(
        "CPUs: 3 are asked for by teachers and workers, but the cluster has 2."
    )
    growing = config.model_copy(update={"run": config.run.model_copy(update={"autoscaling": True})})
    assert resource_faults(growing, Resources(2, 0), embedded=False) == []


def changed(before: Prepared, settings: dict[str, Any]) -> list[str]:
    """What is said when a run is resumed with other settings; the manifest has been a file between."""
    stored = json.loads(json.dumps(before.manifest))
    return [str(fault) for fault in changed_settings(stored, prepared(settings).manifest)]


def test_same_run_may_be_resumed_elsewhere(settings, tmp_path, tiny):
    """What changes only speed and place must not cost the run."""
    before = prepared(settings)
    assert changed(before, settings) == []
    shutil.copytree(tiny["wide"], tmp_path / "copy")
    settings["teachers"]["wide"] |= {"model": str(tmp_path / "copy"), "replicas": 3, "timeout_s": 5}
    settings["training"] |= {"num_workers": 2, "micro_batch_rows": 4, "max_restarts": 0}
    settings["run"]["output_dir"] = str(tmp_path / "elsewhere")
    assert changed(before, settings) == []


def test_other_data_teachers_and_losses_are_refused_by_name(settings, tmp_path, tiny):
    """A resumed run of other parts is neither the old run nor a new one."""
    before = prepared(settings)
    data = tmp_path / "data"
    shutil.copytree(tiny["data"], data)
    write_rows(data / "validation.jsonl", make_rows(40, 9))
    write_rows(data / "test.jsonl", make_rows(40, 9))  # only measured at the end
    settings["data"]["folder"] = str(data)
    settings["teachers"]["wide"] = {"model": str(tiny["deep"]), "dtype": "float16"}
    settings["losses"][1]["temperature"] = 2.0
    settings["losses"].append(HIDDEN)
    settings["training"]["learning_rate"] = 1e-5
    settings["run"]["seed"] = 3
    assert [line.split()[0] for line in changed(before, settings)] == [
        "losses.2", "run.seed", "data.validation", "teachers.wide.dtype", "teachers.wide.weights",
        "losses.1.temperature", "training.learning_rate",
    ]  # fmt: skip


def test_added_and_removed_teachers_are_one_line_each(settings, tiny):
    """Six lines for one teacher bury what matters."""
    before = prepared(settings)
    settings["teachers"]["more"] = settings["teachers"].pop("deep")
    found = changed(before, settings)
    assert [line.split(":")[0] for line in found] == [
        "teachers.deep is missing",
        "teachers.more is new",
    ]


def test_renamed_labels_are_another_run(settings, tiny, tmp_path):
    """The same numbers under other names are another task."""
    before = prepared(settings)
    settings["task"] = {"labels": ["positive", "negative"]}
    assert [line.split()[0] for line in changed(before, settings)] == [
        "data.train", "data.validation", "task.labels"
    ]  # fmt: skip


def test_names_that_only_python_can_make_are_refused(settings):
    """A dot in a teacher's name cannot be a module's name; that would be a traceback in the checks."""
    config = DistillConfig.model_validate(settings | {"losses": [HIDDEN | {"positions": "mean"}]})
    odd = {"a.b": config.teachers["wide"], "deep": config.teachers["deep"]}
    with pytest.raises(ValueError, match=r"teachers\.a\.b must begin with a letter"):
        check(config.model_copy(update={"teachers": odd}))


def test_a_pair_of_layers_that_stands_twice_is_refused(settings):
    """Two projections under one name fail in a worker."""
    loss = {"kind": "cos", "layers": {"deep": [[1, 2], [-2, 2]]}}
    settings["losses"].append(loss | {"projection": "linear"})
    assert lines(settings) == [
        f"losses.{len(settings['losses']) - 1}.layers.deep.1 is there already: [-2, 2] is the same pair as another one."
    ]


def test_a_layer_of_the_student_that_stands_twice_is_refused(settings):
    """As above, where the teacher's layers are mixed."""
    loss = {"kind": "layer_attention", "student_layers": [1, -2], "projection": "linear"}
    settings["losses"].append(loss)
    place = len(settings["losses"]) - 1
    assert lines(settings) == [f"losses.{place}.student_layers must name each layer once, got [1, -2]."]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "nowhere.at_all:loss"}, "target cannot be imported: No module named 'nowhere'."),
        ({"target": "tests.conftest:nothing"}, "target cannot be imported: module 'tests.conftest' has no attribute 'nothing'."),
        ({"target": "tests.unit.test_terms:absolute", "options": {"power": 1, "tau": 2}}, "options.tau is no argument of tests.unit.test_terms:absolute."),
    ],
)  # fmt: skip
def test_a_loss_of_ones_own_that_is_not_there_is_refused(settings, changes, said):
    """An import that fails does so in every worker, after teachers have been loaded."""
    settings["losses"].append({"kind": "custom", **changes})
    (line,) = lines(settings)
    assert line.startswith(f"losses.{len(settings['losses']) - 1}.{said}")


def test_frozen_parameters_must_be_there(settings):
    """A pattern that matches nothing freezes nothing, in silence."""
    places = list(range(len(settings["losses"])))
    stage = {"name": "all", "share": 1.0, "losses": places}
    settings["stages"] = [stage | {"freeze": ["*.embedings.*", "classifier.*"]}]
    (line,) = lines(settings)
    assert line.startswith(
        "stages.0.freeze.0 matches no parameter of the student, got '*.embedings.*'."
    )
    settings["stages"] = [stage | {"freeze": ["*"]}]
    assert lines(settings) == ["stages.0.freeze leaves no parameter of the student to be trained."]
    settings["stages"] = [stage | {"freeze": ["bert.embeddings.*"]}]
    assert prepared(settings).objective.stages[0].freeze == ("bert.embeddings.*",)


def several(settings, folder, tiny) -> dict[str, Any]:
    """A sound run with several labels at once, of a teacher that knows more and one that knows less."""
    labels = [["positive"], [], ["film", "positive"]]
    rows = [{"text": "a good film", "labels": labels[i % 3]} for i in range(12)]
    write_rows(folder / "several.jsonl", rows)
    more = make_model(folder / "more", labels=("film", "odd", "positive"))
    less = make_model(folder / "less", labels=("positive",))
    return settings | {
        "data": {"train": str(folder / "several.jsonl")},
        "task": {"kind": "multi_label_classification"},
        "teachers": {"more": {"model": str(more)}, "less": {"model": str(less), "missing_labels": "abstain"}},
        "losses": [{"kind": "binary_cross_entropy"}, {"kind": "binary_forward_kl"}],
    }  # fmt: skip


def test_several_labels_are_planned(settings, tmp_path, tiny):
    """Columns of another label, or a head of another kind, teach something else."""
    found = prepared(several(settings, tmp_path, tiny))
    assert found.labels == ("film", "positive")
    assert found.objective.columns == {"more": (0, 2), "less": (-1, 0)}
    assert found.objective.task == "multi_label_classification"
    assert found.student.problem_type == "multi_label_classification"
    assert found.student.head_columns is None
    assert found.manifest["task.kind"] == "multi_label_classification"
    assert [note for note in found.notes if "labels that" in note] == [
        "teachers.more.model has 1 labels that the task has not; they are left out."
    ]
    assert sum("problem_type" in note for note in found.notes) == 2


def test_a_teacher_that_lacks_labels_is_refused_unless_it_may(settings, tmp_path, tiny):
    """A label that nobody teaches looks like one that is never there."""
    settings = several(settings, tmp_path, tiny)
    settings["teachers"]["less"]["missing_labels"] = "error"
    (line,) = lines(settings)
    assert line.startswith(
        "teachers.less.model has other labels than the task. The teacher does not"
    )
    assert "know ['film']" in line
    assert "missing_labels: abstain" in line


def test_heads_of_another_kind_are_refused(settings, tmp_path, tiny):
    """Logits of a softmax, read one by one, are no probabilities."""
    settings = several(settings, tmp_path, tiny)
    file = tmp_path / "more" / "config.json"
    config = json.loads(file.read_text()) | {"problem_type": "single_label_classification"}
    file.write_text(json.dumps(config))
    (line,) = lines(settings)
    assert line.startswith("teachers.more.model was trained for single_label_classification")
    assert line.endswith("Take a teacher that was trained for this kind.")
    settings["teachers"].pop("more")
    settings["student"]["model"] = str(tmp_path / "more")
    assert prepared(settings).student.head_columns is None
    file.write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    assert prepared(settings).student.head_columns == (0, 2)


def test_a_run_on_numbers_is_planned(settings, tmp_path, tiny):
    """The one number of a teacher is the one number of the student, whatever it is called."""
    rows = [{"text": "a good film", "stars": i % 5} for i in range(12)]
    write_rows(tmp_path / "stars.jsonl", rows)
    settings |= {
        "data": {"train": str(tmp_path / "stars.jsonl")},
        "task": {"kind": "regression", "label": "stars"},
        "teachers": {"one": {"model": str(make_model(tmp_path / "one", labels=("LABEL_0",)))}},
        "losses": [{"kind": "mse"}, {"kind": "logit_mse"}],
    }
    found = prepared(settings)
    assert (found.labels, found.objective.columns) == (("stars",), {"one": (0,)})
    settings["task"]["label"] = "star"
    settings["training"]["select_by"] = "validation/accuracy"
    said = lines(settings)
    assert said[0].startswith("data.train must hold a column 'star' (task.label)")
    assert said[1].startswith("training.select_by must be one of validation/rmse, validation/mae")
    settings["teachers"]["one"]["model"] = str(tiny["deep"])
    settings["task"]["label"], settings["training"] = "stars", {}
    assert "knows none of the student" in lines(settings)[0]
