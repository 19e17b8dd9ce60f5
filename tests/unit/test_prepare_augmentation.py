"""New rows and changed copies of a run: planned, counted and refused before anything starts."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raydistill.checks import check
from raydistill.config import DistillConfig, parse_config
from raydistill.pipeline import FreshRows
from raydistill.prepare import Prepared, changed_settings, needed_resources, perturbed, prepare
from raydistill.storing import needed_answers
from raydistill.tasks import TextClassification
from tests.conftest import make_masked_lm, make_model, two_teachers

DELETE = {"kind": "delete", "rate": 0.3}


@pytest.fixture
def settings(tiny: dict[str, Path], tmp_path: Path) -> dict[str, Any]:
    """A sound run with new rows."""
    return {
        **two_teachers(tiny, tmp_path),
        "augmentation": {"operations": [DELETE, {"kind": "mask"}], "copies": 2},
        "training": {"batch_rows": 16, "epochs": 3},
        "tracking": {"enabled": False},
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


def labels_of(found: Prepared) -> list[int]:
    return [label for table in found.augmented.tables for label in table["label"].to_pylist()]


@pytest.mark.parametrize(
    ("supervision", "rows", "labelled"),
    [("unsupervised", 256, 0), ("weak", 256, 192), ("supervised", 192, 192)],
)
def test_three_ways_to_label(settings, supervision, rows, labelled):
    """A label where none belongs teaches noise; none where one belongs wastes it."""
    settings["augmentation"]["supervision"] = supervision
    found = prepared(settings)
    assert found.augmented.num_rows == rows
    assert found.num_train_rows == 128 + rows
    assert found.steps.per_epoch == -(-(128 + rows) // 16)
    assert sum(label >= 0 for label in labels_of(found)) == labelled
    ids = [i for table in found.augmented.tables for i in table["row_id"].to_pylist()]
    assert ids == list(range(128, 128 + rows))


def test_every_epoch_has_rows_of_its_own(settings):
    """Rows that teachers are not asked about before would be missing in a store that is said to be full."""
    settings["augmentation"] |= {"when": "every_epoch", "copies": 1}
    settings["training"]["max_steps"] = 20  # of 16 an epoch
    found = prepared(settings)
    first, second = found.augmented.tables
    assert first["text"].to_pylist() != second["text"].to_pylist()
    assert not set(first["row_id"].to_pylist()) & set(second["row_id"].to_pylist())
    asked = [task.num_rows for task, _ in needed_answers(found, "wide")]
    assert asked[:4] == [96, 32, 128, 128]
    once = settings | {"augmentation": settings["augmentation"] | {"when": "once"}}
    assert prepared(once).augmented.tables[0].equals(first)


def test_rows_are_those_of_the_seed(settings):
    """Runs of other seeds would need other answers, or a run of the same seed would."""
    texts = {}
    for seed, own in ((0, None), (1, None), (1, 0)):
        settings["run"]["seed"] = seed
        settings["augmentation"]["seed"] = own
        texts[seed, own] = prepared(settings).augmented.tables[0]["text"].to_pylist()
    assert texts[0, None] != texts[1, None]
    assert texts[1, 0] == texts[0, None]


def test_part_of_the_rows_alone(settings):
    """A share that is drawn anew in each copy is no share of the rows."""
    settings["augmentation"] |= {"share": 0.25, "of": ["unlabelled"]}
    found = prepared(settings)
    assert 0 < found.augmented.num_rows < 32
    assert found.augmented.num_rows % 2 == 0


def test_other_rows_are_another_run(settings, tmp_path):
    """A resumed run would go on with other rows than it began with."""
    words = tmp_path / "words.txt"
    words.write_text("good\tfine\n")
    operations = [DELETE, {"kind": "synonym", "words": str(words)}]
    settings["augmentation"]["operations"] = operations
    before = prepared(settings).manifest
    words.write_text("good\tnice\n")
    (fault,) = changed_settings(before, prepared(settings).manifest)
    assert fault.path == "augmentation.operations.1.words"
    del settings["augmentation"]
    assert changed_settings(before, prepared(settings).manifest)


def test_changed_copies_are_the_same_in_every_run(settings):
    """Two students would be compared on different texts."""
    settings["evaluation"] = {"perturbations": {"gaps": DELETE, "slips": {"kind": "typo"}}}
    tables = []
    for seed in (0, 1):
        settings["run"]["seed"] = seed
        found = prepared(settings)
        tables.append(perturbed(found.config, found.operations, found.splits["test"].table))
    first, second = tables
    assert list(first) == ["gaps", "slips"]
    assert all(first[name].equals(second[name]) for name in first)
    assert first["gaps"]["label"].equals(found.splits["test"].table["label"])
    assert first["gaps"]["text"] != found.splits["test"].table["text"]


def test_masked_language_model_is_planned(settings, tmp_path):
    """An actor that does not fit on the cluster would be waited for without end."""
    folder = make_masked_lm(tmp_path / "lm")
    operation = {"kind": "masked_lm", "model": str(folder), "max_tokens": 32, "num_cpus": 9}
    settings["augmentation"]["operations"].append(operation)
    found = prepared(settings)
    assert not found.augmented.ready
    assert found.augmented.num_rows == 256
    assert needed_resources(found.config).cpus == 9
    assert [task.num_rows for task, _ in needed_answers(found, "wide")][:2] == [96, 32]
    (model,) = found.augmented.models.values()
    assert model.token == "[MASK]"
    made = found.augmented.made({"augmentation.operations.2": lambda texts: [[[("film", 1.0)]] * t.count("[MASK]") for t in texts]})  # fmt: skip
    assert any("film" in text for text in made[0]["text"].to_pylist())


def change(**sections):
    def apply(settings):
        for name, section in sections.items():
            settings[name] = settings.get(name, {}) | section

    return apply


BAD = {
    "rate": (change(augmentation={"operations": [{"kind": "delete", "rate": 1.5}]}),
             "augmentation.operations.0.rate must lie between 0 and 1, got 1.5."),
    "no rate": (change(augmentation={"operations": [{"kind": "typo", "rate": 0}]}),
                "augmentation.operations.0.rate must be above 0"),
    "kind": (change(augmentation={"operations": [{"kind": "delte"}]}),
             "augmentation.operations.0.kind 'delte' is not known."),
    "pair": (change(augmentation={"columns": ["text", "text_pair"]}),
             "augmentation.columns names text_pair, but rows have one text"),
    "supervised": (change(augmentation={"supervision": "supervised", "of": ["train", "unlabelled"]}),
                   "augmentation.of names unlabelled, whose rows have no label"),
    "no teachers": (lambda s: (s.pop("teachers"), s.update(losses=[{"kind": "cross_entropy"}])),
                    "augmentation.supervision is unsupervised, so new rows have no label"),
    "no list": (change(augmentation={"operations": [{"kind": "synonym"}]}),
                "augmentation.operations.0.words needs synonyms: give words, a file, or wordnet, a folder"),
    "list gone": (change(augmentation={"operations": [{"kind": "synonym", "words": "/no/words.txt"}]}),
                  "augmentation.operations.0.words must be a file, but /no/words.txt does not exist."),
    "ngram": (change(augmentation={"operations": [{"kind": "ngram", "shortest": 5, "longest": 2}]}),
              "augmentation.operations.0.shortest must not exceed augmentation.operations.0.longest = 2, got 5."),
    "weight": (change(augmentation={"apply": "all", "operations": [DELETE | {"weight": 2.0}]}),
               "augmentation.operations.0.weight has no effect"),
    "copies": (change(evaluation={"perturbations": {"slips": {"kind": "typo", "rate": -1}}}),
               "evaluation.perturbations.slips.rate must lie between 0 and 1, got -1"),
    "against": (lambda s: (s.pop("teachers"), s.pop("augmentation"), s.update(losses=[{"kind": "cross_entropy"}], adversarial={"kind": "fgm"})),
                "adversarial.against is teachers, but there is none"),
    "stream": (change(data={"streaming": True}, training={"max_steps": 5}),
               "data.streaming must be false with augmentation"),
    "shards": (change(adversarial={"kind": "vat"}, training={"sharding": "full"}),
               "training.sharding must be none with an adversarial term"),
    "epsilon": (change(adversarial={"kind": "pgd", "epsilon": 0}),
                "adversarial.epsilon must be a positive finite number, got 0."),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_bad_settings_are_one_line_each(settings, name):
    """A traceback, or a run that trains on rows that were meant otherwise."""
    apply, said = BAD[name]
    apply(settings)
    (line,) = lines(settings)
    assert line.startswith(said)


def test_models_without_what_is_needed_are_refused(settings, tiny, tmp_path):
    """Random words would be put into the text; a mask that is no mask is a word that nobody knows."""
    from transformers import AutoTokenizer

    model = {"kind": "masked_lm", "model": str(tiny["wide"])}
    settings["augmentation"]["operations"] = [
        model,
        {**model, "model": "/no/model"},
        {"kind": "mask"},
    ]
    student = tmp_path / "student"
    tokenizer = AutoTokenizer.from_pretrained(tiny["student"])
    tokenizer.mask_token = None
    tokenizer.save_pretrained(student)
    settings["student"]["tokenizer"] = str(student)
    told = lines(settings)
    assert told[0].startswith("augmentation.operations.0.model is a BertForSequenceClassification, which has no head for its vocabulary")  # fmt: skip
    assert told[1].startswith("augmentation.operations.0.max_tokens must not exceed the model's 64 positions, got 128.")  # fmt: skip
    assert told[2].startswith("augmentation.operations.1.model must be an existing folder")
    assert told[3].startswith("augmentation.operations.2.token is needed: the tokenizer of the student has no mask token.")  # fmt: skip
    assert len(told) == 4


def test_resumed_plan_goes_on_in_the_middle_of_an_epoch():
    """Rows of another epoch, or twice the same steps, after a break."""

    def task_of_epoch(epoch: int) -> TextClassification:
        texts = pa.array(["x" * (100 * epoch + row) for row in range(10)])
        labels, ids = pa.array([0] * 10, pa.int32()), pa.array(range(10))
        table = pa.table({"text": texts, "label": labels, "row_id": ids})
        return TextClassification(table, ("a", "b"))

    def lengths_of_steps(first: int) -> list[list[int]]:
        rows = FreshRows(task_of_epoch, num_rows=10, batch_rows=4, seed=1)
        return [rows.lengths(step.rows).tolist() for step in rows.steps(first, 8)]

    whole = lengths_of_steps(0)
    for epoch in range(2):
        seen = [length for step in whole[3 * epoch : 3 * epoch + 3] for length in step]
        assert sorted(seen) == list(range(100 * epoch, 100 * epoch + 10))
    for first in range(9):
        assert lengths_of_steps(first) == whole[first:]


def test_gumbel_asks_a_classifier(settings, tiny, tmp_path):
    """Numbers have no entropy that a word could raise."""
    operation = {"kind": "gumbel", "model": str(tiny["student"]), "max_tokens": 16}
    settings["augmentation"]["operations"] = [operation]
    (found,) = prepared(settings).operations.models.values()
    assert (found.section.kind, found.token) == ("gumbel", "[MASK]")
    numbers = make_model(tmp_path / "numbers", labels=("stars",))
    said = json.loads((numbers / "config.json").read_text()) | {"problem_type": "regression"}
    (numbers / "config.json").write_text(json.dumps(said))
    operation["model"] = str(numbers)
    assert lines(settings) == [
        "augmentation.operations.0.model gives numbers, which are never unsure. Take a classifier."
    ]
