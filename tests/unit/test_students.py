"""Presets and networks in the configuration, and what `prepare` makes of them."""

import json
from typing import Any

import pytest
import torch

from raydistill.checks import check
from raydistill.config import DistillConfig, parse_config
from raydistill.config.presets import PRESETS
from raydistill.models import load_tokenizer
from raydistill.models.auto import AutoConfig, AutoModelForSequenceClassification
from raydistill.models.embeddings import embedding_matrix
from raydistill.prepare import Prepared, prepare
from raydistill.training.student import make_student, make_tokenizer, parameter_names
from tests.conftest import make_model, two_teachers

# TextBrewer's table, in millions, without the pooling and the layer of classes; its vocabulary.
TABLE = {"t6": 65, "t3": 44, "t3-small": 17, "t4-tiny": 14, "bigru": 31}
CASED_WORDS = 28_996


@pytest.fixture
def settings(tiny, tmp_path) -> dict[str, Any]:
    """A sound run of two teachers."""
    return {
        **two_teachers(tiny, tmp_path),
        "tracking": {"enabled": False, "uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    }


def prepared(settings: dict[str, Any], **student: Any) -> Prepared:
    settings = settings | {"student": {"max_tokens": 16, **student}}
    found, faults = prepare(DistillConfig.model_validate(settings))
    assert faults == []
    assert found is not None
    return found


def lines(settings: dict[str, Any], **student: Any) -> list[str]:
    """What `raydistill check` says."""
    config, faults = parse_config(settings | {"student": {"max_tokens": 16, **student}})
    with pytest.raises(ValueError, match=r".") as caught:
        check(config, faults)
    return str(caught.value).splitlines()


def made(found: Prepared) -> tuple[Any, Any]:
    """The student as a worker makes it, and its tokenizer."""
    plan, matrix = found.student, None
    if plan.embeddings is not None:
        matrix = embedding_matrix(plan.embeddings)
    tokenizer = make_tokenizer(plan)
    torch.manual_seed(0)
    return make_student(plan, tokenizer, matrix), tokenizer


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_sizes_of_the_table(name, settings):
    """A preset of another size than its name says compares with nobody's figures."""
    config, faults = parse_config(settings | {"student": {"preset": name, "tokenizer": "t"}})
    assert faults == []
    assert config is not None
    section = config.student
    if section.from_config is not None:
        random_config = section.from_config
    else:
        network = section.network
        random_config = {
            "model_type": "raydistill_recurrent", "cell": network.kind, "cell_size": network.hidden_size,
            "embedding_size": network.embedding_size, "head_size": network.head_size,
        }  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(**random_config, vocab_size=CASED_WORDS)
        )
    count = sum(
        p.numel()
        for n, p in model.named_parameters()
        if not n.startswith(("bert.pooler", "classifier"))
    )
    assert round(count / 1e6) == TABLE[name]


def test_preset_is_written_out(settings, tiny):
    """A run whose sizes stand in a table of the program means something else after the next update."""
    found = prepared(settings, preset="T4-tiny", tokenizer=str(tiny["wide"]), from_config={"hidden_act": "relu"})  # fmt: skip
    assert found.config.student.preset == "t4-tiny"
    assert found.config.student.from_config == {
        "model_type": "bert", "num_hidden_layers": 4, "hidden_size": 312, "intermediate_size": 1200,
        "num_attention_heads": 12, "hidden_act": "relu",
    }  # fmt: skip
    assert (found.student_traits.num_layers, found.student_traits.width) == (4, 312)
    assert found.manifest["student.from_config.hidden_size"] == 312
    again, faults = parse_config(found.config.model_dump())
    assert (again, faults) == (found.config, [])


NEW = [
    {"preset": "t4-tiny"},
    {"preset": "bigru"},
    {"network": {"kind": "average"}},
    {"from_config": {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 8}},
]  # fmt: skip


@pytest.mark.parametrize("student", NEW)
def test_new_weights_have_the_only_teachers_tokenizer(settings, tiny, student):
    """A preset is a name; with one teacher nothing else has to be said, and with two nobody says which."""
    two = lines(settings, **student)
    assert len(two) == 1
    assert two[0].startswith("student.tokenizer is needed with ")
    settings["teachers"] = {"other": {"model": str(tiny["other"])}}
    found = prepared(settings, **student)
    assert "student.tokenizer is not given: it is that of teachers.other, the only teacher." in found.notes  # fmt: skip
    model, tokenizer = made(found)
    named, _ = made(prepared(settings, **student, tokenizer=str(tiny["other"])))
    assert all(map(torch.equal, model.parameters(), named.parameters()))
    assert tokenizer.get_vocab() == load_tokenizer(found.sources["other"]).get_vocab()
    settings["teachers"]["other"]["tokenizer"] = str(tiny["wide"])
    assert prepared(settings, **student).student.source.tokenizer == str(tiny["wide"])
    assert not any("tokenizer is not given" in note for note in prepared(settings, **student, tokenizer=str(tiny["wide"])).notes)  # fmt: skip


def test_teacher_that_is_missing_is_one_line(settings):
    """Its tokenizer is the student's, but one fault is one."""
    settings["teachers"] = {"other": {"model": "./none"}}
    said = lines(settings, preset="t4-tiny")
    assert len(said) == 1
    assert said[0].startswith("teachers.other.model ")


def test_preset_may_start_from_a_teachers_layers(settings, tmp_path):
    """Blocks of other sizes under a preset's name would be another student."""
    settings["teachers"]["base"] = {"model": str(make_model(tmp_path / "base", layers=4, width=768))}  # fmt: skip
    start = {"teacher": "base", "layers": [0, 1, 3]}
    assert prepared(settings, preset="t3", from_teacher=start).student.layers == (0, 1, 3)
    assert lines(settings, preset="t3", from_teacher={**start, "layers": [0, 1]}) == [
        "student.from_teacher.layers must be 3 for student.preset: t3, got 2."
    ]
    assert lines(settings, preset="t3-small", from_teacher=start) == [
        "student.preset is t3-small, 384 wide, but the layers of teachers.base are 768 wide. Leave the preset out, or start it from random weights."
    ]


SIZES = (
    "t6 (6 x 768), t3 (3 x 768), t3-small (3 x 384), t4-tiny (4 x 312), bigru (1 x 768 both ways)"
)
FAULTS = [
    ({"preset": "t5"}, f"student.preset must be one of {SIZES}, got 't5'."),
    ({"preset": "t3", "model": "m"}, "student.model must be left out with student.preset: t3, whose sizes are changed in from_config."),
    ({"preset": "bigru", "from_config": {"model_type": "bert"}}, "student.from_config must be left out with student.preset: bigru, whose sizes are changed in network."),
    ({"preset": "bigru", "network": {"kind": "lstm"}}, "student.network.kind must be gru with student.preset: bigru, got lstm. Leave one of them out."),
    ({"preset": "t3", "from_teacher": {"teacher": "wide", "layers": [0]}, "from_config": {"hidden_act": "relu"}}, "student.from_config must be left out with student.from_teacher: blocks are as they are there."),
    ({"preset": "t6"}, "student.tokenizer is needed with student.preset: t6: new weights have no vocabulary of their own. Name a model or folder whose tokenizer to use."),
    ({"network": {"kind": "gru"}}, "student.tokenizer is needed with student.network: new weights have no vocabulary of their own. Name a model or folder whose tokenizer to use, or write embeddings: {kind: words}."),
    ({"network": {"kind": "gru", "layers": 0}, "tokenizer": "TINY"}, "student.network.layers must be at least 1, got 0."),
    ({"network": {"kind": "average", "layers": 1}, "tokenizer": "TINY"}, "student.network.layers is not known. Known: embedding_size, embeddings, head_size, kind."),
    ({"network": {"kind": "rnn"}, "tokenizer": "TINY"}, "student.network.kind 'rnn' is not known. Known: average, gru, lstm."),
    ({"network": {"kind": "gru", "embeddings": {"kind": "words"}}, "tokenizer": "TINY"}, "student.tokenizer must be left out with student.network.embeddings: tokens are words of the training rows."),
    ({"network": {"kind": "gru", "embeddings": {"kind": "teacher", "teacher": "wid"}}}, "student.network.embeddings.teacher names the teacher 'wid', which is not under teachers. Known: deep, wide."),
    ({"network": {"kind": "gru", "embeddings": {"kind": "model", "model": "./none"}}}, "student.network.embeddings.model must be an existing folder, a Hugging Face id or models:/name@alias, got './none', which does not exist."),
    ({"network": {"kind": "gru", "embeddings": {"kind": "teacher", "teacher": "wide"}, "embedding_size": 64}}, "student.network.embedding_size must not exceed the 48 numbers of each vector, got 64. Write null, which takes all, or embeddings.reduce: linear."),
    ({"network": {"kind": "gru", "embeddings": {"kind": "vectors", "file": "./none"}}}, "student.network.embeddings.file must be a file of word vectors, got './none', which does not exist."),
    ({"network": {"kind": "gru", "embeddings": {"kind": "words", "min_count": 999}}}, "student.network.embeddings.min_count leaves no word of the training rows, got 999."),
]  # fmt: skip


@pytest.mark.parametrize(("student", "line"), FAULTS, ids=[line[:60] for _, line in FAULTS])
def test_what_makes_no_student_is_one_line(student, line, settings, tiny):
    """A student that cannot be made fails in every worker, minutes later."""
    if student.get("tokenizer") == "TINY":
        student = student | {"tokenizer": str(tiny["wide"])}
    assert lines(settings, **student) == [line]


GRU = {"kind": "gru", "hidden_size": 8}


def test_random_embeddings_of_a_tokenizer(settings, tiny):
    """Tokens of one vocabulary in a matrix of another end in an index error."""
    found = prepared(settings, network={**GRU, "embedding_size": 6}, tokenizer=str(tiny["deep"]))
    model, tokenizer = made(found)
    assert model.embeddings.weight.shape == (len(tokenizer), 6)
    assert found.student_traits.tokenizer == found.traits["deep"].tokenizer
    assert found.manifest["student.weights"] is None
    assert parameter_names(found.student) == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(
    ("options", "size", "table", "frozen"),
    [
        ({}, None, 48, False),
        ({"freeze": True}, None, 48, True),
        ({}, 10, 10, False),
        ({"reduce": "linear"}, 10, 48, False),
        ({"reduce": "linear"}, 64, 48, False),
    ],
)
def test_embeddings_of_a_teacher(settings, options, size, table, frozen):
    """A matrix that is not the teacher's is a random one with the teacher's name."""
    network = {**GRU, "embedding_size": size, "embeddings": {"kind": "teacher", "teacher": "wide", **options}}  # fmt: skip
    found = prepared(settings, network=network)
    model, _ = made(found)
    assert model.embeddings.weight.shape[1] == table
    assert model.embeddings.weight.requires_grad is not frozen
    assert (model.narrow is not None) == ("reduce" in options)
    assert found.student.embeddings is not None
    assert torch.equal(model.embeddings.weight, embedding_matrix(found.student.embeddings))
    assert found.student_traits.tokenizer == found.traits["wide"].tokenizer
    assert found.manifest["student.weights"] == found.weights["wide"]


def test_embeddings_of_a_model_that_is_no_teacher(settings, tiny):
    """Any encoder's vectors will do; its tokenizer must come along."""
    network = {**GRU, "embeddings": {"kind": "model", "model": str(tiny["other"])}}
    found = prepared(settings, network=network)
    model, tokenizer = made(found)
    assert model.embeddings.weight.shape == (len(tokenizer), 32)
    assert found.student_traits.tokenizer not in {t.tokenizer for t in found.traits.values()}


def test_words_of_the_rows(settings):
    """Words that only validation rows hold must not be among those that are learned."""
    found = prepared(settings, network={"kind": "average", "embeddings": {"kind": "words", "max_words": 20}})  # fmt: skip
    model, tokenizer = made(found)
    assert len(tokenizer) == 23 == model.embeddings.weight.shape[0]
    assert model.config.uncounted_ids == [0, 1, 2]
    (note,) = (n for n in found.notes if "embeddings" in n)
    assert note.startswith("student.network.embeddings: 20 words; unknown are ")
    assert "student" not in found.model_folders


@pytest.fixture
def vectors(tmp_path):
    """A file of some words of the rows, and one of none."""
    some = {"good": 1.0, "bad": 2.0, "film": 3.0, "The": 4.0, "zebra": 5.0, "New_York": 6.0, "plot": 7.0}  # fmt: skip
    (tmp_path / "some.txt").write_text("".join(f"{w} {x} {-x} 0\n" for w, x in some.items()))
    (tmp_path / "none.txt").write_text("zebra 1 2 3\n")
    (tmp_path / "bad.txt").write_text("film 1 2 3\ngood 1 2\n")
    return tmp_path


def of_file(file: Any, **options: Any) -> dict[str, Any]:
    return {**GRU, "embeddings": {"kind": "vectors", "file": str(file), **options}}


def test_vectors_of_a_file(settings, vectors):
    """A word with another word's vector is worse than one with none."""
    found = prepared(settings, network=of_file(vectors / "some.txt", more_words=6, freeze=True))
    model, tokenizer = made(found)
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert words[:3] == ["[PAD]", "[UNK]", "[SEP]"]
    assert set(words[3:7]) == {"good", "bad", "film", "plot"}
    assert words[7:] == ["The", "zebra"]
    assert model.embeddings.weight.requires_grad is False
    first = model.embeddings.weight[:, 0]
    scale = float(first[words.index("good")])
    assert [round(float(first[words.index(w)]) / scale) for w in ("bad", "film", "plot", "zebra")] == [2, 3, 7, 5]  # fmt: skip
    coverage, missing = (n for n in found.notes if "embeddings" in n)
    assert coverage.startswith("student.network.embeddings: 6 words; unknown are ")
    assert "18 of the 22 words of the training rows have no vector, such as " in missing
    assert len(found.manifest["student.weights"]) == 64


def test_files_without_use_are_refused(settings, vectors):
    """Vectors for none of the words are zeros for all of them."""
    (said,) = lines(settings, network=of_file(vectors / "none.txt"))
    assert said.startswith(f"student.network.embeddings.file {vectors}/none.txt has no vector for any of the 22 words")  # fmt: skip
    assert said.endswith("Look at units and lower_case.")
    (said,) = lines(settings, network=of_file(vectors / "bad.txt"))
    assert said == f"student.network.embeddings.file {vectors}/bad.txt is damaged: the vector of 'good' (the 2. word) is not 3 finite numbers."  # fmt: skip
    (vectors / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (said,) = lines(settings, network=of_file(vectors / "cut.txt.gz"))
    assert said.startswith(f"student.network.embeddings.file {vectors}/cut.txt.gz cannot be read: ")
    (vectors / "low.txt").write_text("the 1 2\n")
    upper = vectors / "rows.jsonl"
    upper.write_text('{"text": "THE", "label": "positive"}\n{"text": "THE THE", "label": "negative"}\n')  # fmt: skip
    settings["data"] = {"train": str(upper)}
    settings["task"] = {"labels": ["negative", "positive"]}
    said = lines(settings, network=of_file(vectors / "low.txt"))[-1]
    assert said.endswith("such as THE. 1 have one in lower case: set lower_case: true.")


TERMS = [
    ({"kind": "attention_mse", "layers": "last"}, "losses.1.kind compares attention maps, but the student is a network without attention. Use a loss on hidden states, e.g. hidden_mse, or on logits."),
    ({"kind": "relation_kl", "layers": "last", "states": "query", "relation_heads": 2}, "losses.1.states is query, but the student is a raydistill_recurrent, which does not compute queries, keys and values by one linear layer each in each of its 1 blocks. Use states: hidden."),
    ({"kind": "hidden_mse", "layers": [[0, 0]], "projection": "linear"}, "losses.1.layers.0.0 is hidden state 0 of the student, its embeddings, 6 wide, where the others are 16: they cannot be compared. Leave it out, or make a network of equal widths."),
]  # fmt: skip


@pytest.mark.parametrize(("term", "line"), TERMS, ids=[line[:50] for _, line in TERMS])
def test_terms_that_a_network_cannot_give_are_refused(term, line, settings, tiny):
    """Each of these would fail in a worker, with an error of torch's."""
    settings["teachers"].pop("deep")
    settings["losses"][1] = term
    said = lines(settings, network={**GRU, "embedding_size": 6}, tokenizer=str(tiny["wide"]))
    assert said == [line]


def test_words_for_layers_need_some(settings, tiny):
    """No pair at all would be a term that is silently nothing."""
    settings["losses"][1] = {"kind": "hidden_mse", "layers": "uniform", "projection": "linear"}
    said = lines(settings, network={"kind": "average"}, tokenizer=str(tiny["wide"]))
    assert said[0].startswith("losses.1.layers does not fit teachers.wide: 'uniform' pairs blocks")


def test_hidden_states_of_a_network_are_compared(settings, tiny):
    """Its last layer is of both directions' width."""
    settings["losses"].append({"kind": "hidden_mse", "layers": "last", "projection": "linear"})
    found = prepared(settings, network={**GRU, "layers": 2}, tokenizer=str(tiny["wide"]))
    assert [(p.width_in, p.width_out) for p in found.objective.projections] == [(16, 48), (16, 32)]
    assert found.objective.terms[2].match.pairs[0].student == (2,)


def test_layers_of_a_network_cannot_be_taken(settings, tiny, tmp_path):
    """The second layer of an LSTM is as wide as the first one's output, and starts from nothing else."""
    model, tokenizer = made(prepared(settings, network=GRU, tokenizer=str(tiny["wide"])))
    model.save_pretrained(tmp_path / "gru")
    tokenizer.save_pretrained(tmp_path / "gru")
    assert json.loads((tmp_path / "gru/config.json").read_text())["id2label"]["1"] == "positive"
    settings["teachers"]["gru"] = {"model": str(tmp_path / "gru")}
    (said,) = lines(settings, from_teacher={"teacher": "gru", "layers": [0]})
    assert said.startswith("student.from_teacher.teacher must be a transformer")
    assert prepared(settings, model=str(tmp_path / "gru")).student_traits.width == 16
