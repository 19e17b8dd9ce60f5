"""Queries, keys and values of real architectures: what comes out of the layers, of the right block, or a refusal."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from raydistill.errors import SignalError
from raydistill.models.describe import ModelTraits
from raydistill.models.inside import INSIDE, InsideReader, describe_inside

BERT = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 16}
COMMON = {
    "num_hidden_layers": 3,
    "vocab_size": 40,
    "pad_token_id": 0,
    "max_position_embeddings": 40,
}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "electra": BERT | {"embedding_size": 8},
    "albert": BERT | {"embedding_size": 8},
    "mpnet": BERT,
    "distilbert": {"dim": 12, "n_heads": 2, "hidden_dim": 16, "n_layers": 3},
    "deberta-v2": BERT
    | {
        "relative_attention": True,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
    },
    "nomic_bert": BERT,
    "qwen2": BERT | {"num_key_value_heads": 1},
}
LAYERS = {
    "distilbert": ("q_lin", "k_lin", "v_lin"),
    "mpnet": ("q", "k", "v"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj"),
    "nomic_bert": ("q_proj", "k_proj", "v_proj"),
    "qwen2": ("q_proj", "k_proj", "v_proj"),
}
ALL = [f"{states}.{block}" for states in INSIDE for block in (1, 2, 3)]


def make_config(kind: str, **changes: Any) -> Any:
    settings = COMMON | SHAPES.get(kind, {}) | changes
    if kind == "distilbert":
        del settings["num_hidden_layers"]
    return AutoConfig.for_model(kind, **settings)


def make_model(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(make_config(kind, **changes)).eval()


def make_inputs() -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": torch.randint(3, 40, (2, 8)) * mask, "attention_mask": mask}


def number_of_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("kind", SHAPES)
def test_each_block_gives_what_its_layers_make_of_its_input(kind: str) -> None:
    """Of another block, or of DeBERTa's distances, the student would learn relations of nothing."""
    model, inputs = make_model(kind), make_inputs()
    reader, seen = InsideReader(model), dict[str, list[Tensor]]()
    names = LAYERS.get(kind, INSIDE)

    def note(states: str, args: tuple[Tensor], output: Tensor) -> None:
        (before,) = args
        if before.shape[:2] == (2, 8):  # not distances
            seen.setdefault(states, []).append(output)

    for name, module in model.named_modules():
        for states, own in zip(INSIDE, names, strict=True):
            if name.rpartition(".")[2] == own and isinstance(module, nn.Linear):
                module.register_forward_hook(lambda _, a, o, s=states: note(s, a, o))
    with torch.no_grad():
        model(**inputs, output_hidden_states=True)  # transformers puts hooks of its own
    seen.clear()
    before = number_of_hooks(model)
    with torch.no_grad(), reader.reading(ALL, inputs["attention_mask"].shape) as read:
        outputs = model(**inputs, output_hidden_states=True)
    assert number_of_hooks(model) == before
    assert read.keys() == set(ALL)
    for states in INSIDE:
        for block in (1, 2, 3):
            found = read[f"{states}.{block}"]
            assert found.shape == (2, 8, reader.widths[states])
            torch.testing.assert_close(found, seen[states][block - 1], rtol=0, atol=0)
    assert not torch.equal(read["query.1"], read["query.2"])
    assert len(outputs.hidden_states) == 4
    assert describe_inside(make_config(kind)) == reader.widths


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "mpnet", "albert", "distilbert"])
def test_blocks_are_counted_as_hidden_states_are(kind: str) -> None:
    """What block k makes of hidden state k - 1; taken for the next, every pair of layers is off by one."""
    model, inputs = make_model(kind), make_inputs()
    reader = InsideReader(model)
    with torch.no_grad(), reader.reading(ALL, inputs["attention_mask"].shape) as read:
        states = model(**inputs, output_hidden_states=True).hidden_states
    own = LAYERS.get(kind, INSIDE)[2]
    layers = [m for name, m in model.named_modules() if name.rpartition(".")[2] == own]
    layers *= 3 if kind == "albert" else 1
    for block in (1, 2, 3):
        expected = layers[block - 1](states[block - 1])
        torch.testing.assert_close(read[f"value.{block}"], expected)


def test_only_what_is_asked_is_kept_and_gradients_flow() -> None:
    """All of it would be memory for nothing; detached it would teach nothing."""
    for kind in ("bert", "albert"):
        model, inputs = make_model(kind), make_inputs()
        reader = InsideReader(model)
        with reader.reading(["key.2"], inputs["attention_mask"].shape) as read:
            model(**inputs)
        assert list(read) == ["key.2"]
        read["key.2"].square().sum().backward()
        graded = {name for name, p in model.named_parameters() if p.grad is not None}
        assert any("key.weight" in name for name in graded)
        assert any("word_embeddings" in name for name in graded)


@pytest.mark.parametrize(
    "kind",
    ["modernbert", "gpt2", "deberta", "squeezebert", "longformer", "big_bird", "bart", "funnel"],
)
def test_models_that_compute_them_otherwise_are_named(kind: str) -> None:
    """The run would fail in its first step, or compare something else."""
    said = describe_inside(AutoConfig.for_model(kind))
    assert isinstance(said, str)
    assert said.startswith(f"is a {kind}, which does not compute queries, keys and values by one")
    with pytest.raises(ValueError, match="is a gpt2, which does not"), torch.device("meta"):
        InsideReader(make_model("gpt2", n_layer=1, n_embd=12, n_head=2))


def test_albert_with_several_layers_a_group_is_refused() -> None:
    """Its blocks are several layers each; which would be meant?"""
    assert describe_inside(make_config("albert", num_hidden_groups=3)) == dict.fromkeys(INSIDE, 12)
    assert isinstance(describe_inside(make_config("albert", inner_group_num=2)), str)


def test_a_model_that_cannot_be_built_says_why() -> None:
    said = describe_inside(make_config("bert", num_attention_heads=5))
    assert isinstance(said, str)
    assert said.startswith("cannot be built to look for them (ValueError: ")
    assert "12" in said


def test_looking_inside_does_not_change_what_a_teacher_is_known_by() -> None:
    """Every answer in every store would be computed again."""
    traits = ModelTraits(3, 12, 2, ("a", "b"), 40, "tokens")
    looked = replace(traits, inside=dict.fromkeys(INSIDE, 12))
    assert str(looked) == str(traits)
    assert looked == traits
    assert hash(looked) == hash(traits)


def test_a_pass_of_other_shapes_is_refused() -> None:
    """A model that drops padding gives tokens in other places."""
    model, inputs = make_model("bert"), make_inputs()
    reader = InsideReader(model)
    with (
        pytest.raises(SignalError, match=r"A bert gave out query.1 in shapes \[\(2, 8\)\]"),
        reader.reading(["query.1"], torch.Size((2, 9))),
    ):
        model(**inputs)
    with (
        pytest.raises(SignalError, match="gave out nothing"),
        reader.reading(["query.1"], torch.Size((2, 8))),
    ):
        pass
    assert number_of_hooks(model) == 0
