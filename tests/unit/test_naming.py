"""Models asked for words; tiny, made on the spot."""

from pathlib import Path

import pytest
import torch

from raydistill.augmentation import Draws, contextual
from raydistill.models import ModelSource, load_tokenizer
from raydistill.models.naming import MaskedLanguageModel, NamingSettings, UnsureClassifier
from tests.conftest import make_masked_lm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_masked_lm(tmp_path_factory.mktemp("lm"))


def settings(folder: Path, **options) -> NamingSettings:
    return NamingSettings(ModelSource("lm", str(folder), str(folder)), **options)


def test_words_and_probabilities_are_the_models(folder: Path) -> None:
    """A word of another mask, or of a part of a word, would be put into the text."""
    from transformers import AutoModelForMaskedLM

    texts = ["the film was [MASK] and the [MASK] is dull", "no mask", "a [MASK] plot"]
    found = MaskedLanguageModel(settings(folder, top_k=3, temperature=2.0)).candidates(texts)
    assert [len(masks) for masks in found] == [2, 0, 1]
    tokenizer = load_tokenizer(ModelSource("lm", str(folder), str(folder)))
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    for text, masks in zip(texts, found, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
        for own, words in zip((logits / 2.0).softmax(-1), masks, strict=True):
            assert len(words) == 3
            weights = {tokenizer.convert_tokens_to_ids(word): p for word, p in words}
            special = set(tokenizer.all_special_ids)
            best = [i for i in own.argsort(descending=True).tolist() if i not in special][:3]
            assert list(weights) == best
            assert list(weights.values()) == pytest.approx(own[best].tolist(), abs=1e-5)


def test_masks_behind_the_cut_are_not_read(folder: Path) -> None:
    """An answer for another mask would be taken for theirs."""
    model = MaskedLanguageModel(settings(folder, max_tokens=6))
    assert [len(masks) for masks in model.candidates(["the [MASK] was very [MASK] and"])] == [1]


def test_rows_are_filled_whatever_shares_their_pass(folder: Path) -> None:
    """Rows would depend on the number of rows that are made together."""
    texts = ["the film was good and its end is fine", "a dull plot", "it is a superb film"]
    found = []
    for rows in (1, 8):
        model = MaskedLanguageModel(settings(folder, batch_rows=rows))
        operation = contextual(model.candidates, token="[MASK]", rate=0.3, action="substitute")
        found.append(operation(texts, [Draws(text) for text in texts]))
    assert found[0] == found[1]
    assert all(new != old for new, old in zip(found[0], texts, strict=True))


def test_unsure_words_are_those_that_raise_the_entropy(tiny: dict[str, Path]) -> None:
    """Words of the other end would make texts that nobody can learn from."""
    from transformers import AutoModelForSequenceClassification

    folder = tiny["wide"]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = load_tokenizer(ModelSource("lm", str(folder), str(folder)))
    text = "the film was [MASK] and dull"
    naming = UnsureClassifier(settings(folder, top_k=30))
    ((words,),) = naming.candidates([text])
    inputs = tokenizer(text, return_tensors="pt")
    place = int((inputs["input_ids"] == tokenizer.mask_token_id)[0].nonzero())
    matrix = model.get_input_embeddings().weight.detach()

    def entropy(step: float, token: int) -> float:
        embeddings = matrix[inputs["input_ids"]].clone()
        embeddings[0, place] += step * (matrix[token] - embeddings[0, place])
        with torch.no_grad():
            rest = {k: v for k, v in inputs.items() if k != "input_ids"}
            log_p = model(inputs_embeds=embeddings, **rest).logits.log_softmax(-1)
        return float(-(log_p.exp() * log_p).sum())

    step = 1e-2  # by differences, where the product has derivatives
    gains = [
        entropy(step, i) - entropy(-step, i) for i in map(tokenizer.convert_tokens_to_ids, [w for w, _ in words])
    ]  # fmt: skip
    assert [weight for _, weight in words] == sorted((w for _, w in words), reverse=True)
    order = torch.tensor(gains).argsort(descending=True)
    assert set(order[:5].tolist()) <= set(range(8))
    assert gains[0] > 0 > gains[-1]
