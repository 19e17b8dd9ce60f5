"""Every match loss of TextBrewer, as it is installed, against ours with parity='textbrewer'."""

import itertools

import pytest
import torch

from raydistill.errors import ConfigError
from raydistill.losses import build_loss

textbrewer = pytest.importorskip("textbrewer")
theirs = pytest.importorskip("textbrewer.losses")

PAIRS = {
    "hidden_mse": theirs.hid_mse_loss,
    "cos": theirs.cos_loss,
    "pkd": theirs.pkd_loss,
    "fsp": theirs.fsp_loss,
    "nst": theirs.mmd_loss,
    "attention_mse": theirs.att_mse_loss,
    "attention_mse_sum": theirs.att_mse_sum_loss,
    "attention_ce": theirs.att_ce_loss,
    "attention_ce_mean": theirs.att_ce_mean_loss,
}
STATES = ("hidden_mse", "cos", "pkd")
LAYERS = ("fsp", "nst")
MAPS = tuple(name for name in PAIRS if name.startswith("attention"))
WITHOUT_HEADS = ("attention_mse_sum", "attention_ce_mean")
SHAPES = [(1, 1, 1, 1), (2, 3, 4, 2), (3, 7, 5, 4), (5, 12, 16, 3)]  # rows, tokens, width, heads
DTYPES = [torch.float32, torch.float64]
CASES = list(itertools.product(["none", "ragged", "random", "full"], DTYPES))


def noise(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def mask_of(kind, rows, tokens):
    """As a mask is; every row has a token, in one of random places not always the first."""
    if kind == "none":
        return None
    generator = torch.Generator().manual_seed(rows + tokens)
    if kind == "ragged":
        lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
        return torch.arange(tokens) < lengths
    if kind == "full":
        return torch.ones(rows, tokens, dtype=torch.bool)
    mask = torch.rand(rows, tokens, generator=generator) < 0.5
    if tokens > 1:
        mask[0, 0], mask[0, 1] = False, True
    mask[:, -1] |= ~mask.any(1)
    return mask


def maps(kind, seed, *shape, dtype):
    """Scores, negative ones too; those of a model with a mask in them; or probabilities."""
    scores = 2 * noise(seed, *shape, dtype=dtype)
    if kind == "probabilities":
        return scores.softmax(-1)
    if kind == "masked scores":
        scores[..., -1] = -10000.0
    return scores


def check(name, student, teacher, mask):
    expected = PAIRS[name](student, teacher, None if mask is None else mask.long())
    got = build_loss(name, parity="textbrewer")(student, teacher, mask)
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


by_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@by_shape
@pytest.mark.parametrize("name", STATES)
def test_states_are_reduced_as_by_textbrewer(name, shape):
    """Results published with that library are compared with numbers that it never gave."""
    rows, tokens, width, _ = shape
    for mask, dtype in CASES:
        student, teacher = (noise(seed, rows, tokens, width, dtype=dtype) for seed in (1, 2))
        check(name, student, teacher, mask_of(mask, rows, tokens))


@by_shape
@pytest.mark.parametrize("other_width", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_two_layers_are_reduced_as_by_textbrewer(name, other_width, shape):
    """As above; its mmd divides by the padded length with a mask, and by the width without."""
    rows, tokens, width, _ = shape
    widths = [width, width, width, width]
    if other_width:  # of the second layer of both sides, or of the teacher
        widths = [width, width + 2] * 2 if name == "fsp" else [width, width, width + 2, width + 2]
    for mask, dtype in CASES:
        layers = [noise(k, rows, tokens, own, dtype=dtype) for k, own in enumerate(widths)]
        check(name, layers[:2], layers[2:], mask_of(mask, rows, tokens))


@by_shape
@pytest.mark.parametrize("kind", ["scores", "masked scores", "probabilities"])
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_reduced_as_by_textbrewer(name, kind, shape):
    """As above; without a mask it drops what is negative, and on probabilities it takes two softmaxes."""
    rows, tokens, _, heads = shape
    sizes = (rows, heads, tokens, tokens)
    for mask, dtype in CASES:
        student, teacher = (maps(kind, seed, *sizes, dtype=dtype) for seed in (1, 2))
        check(name, student, teacher, mask_of(mask, rows, tokens))


@by_shape
@pytest.mark.parametrize("kind", ["scores", "probabilities"])
@pytest.mark.parametrize("name", WITHOUT_HEADS)
def test_maps_without_heads_are_reduced_as_by_textbrewer(name, kind, shape):
    """As above, of maps whose heads are summed or averaged already."""
    rows, tokens, *_ = shape
    sizes = (rows, tokens, tokens)
    for mask, dtype in CASES:
        student, teacher = (maps(kind, seed, *sizes, dtype=dtype) for seed in (1, 2))
        check(name, student, teacher, mask_of(mask, rows, tokens))


@pytest.mark.parametrize("name", MAPS)
def test_limit_of_what_is_dropped_is_that_of_textbrewer(name):
    """Entries up to -0.001, that one too, are padding there; those just above it are not."""
    limit = torch.tensor([-2e-3, -1e-3, -5e-4, 1e-3])
    for seed, dtype in enumerate(DTYPES):
        order = [
            torch.randperm(4, generator=torch.Generator().manual_seed(seed + k)) for k in range(8)
        ]
        student = torch.stack([limit[row] for row in order]).view(2, 1, 4, 4).to(dtype)
        got = build_loss(name, parity="textbrewer")(student, student.flip(-1))
        expected = PAIRS[name](student, student.flip(-1))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", WITHOUT_HEADS)
def test_maps_of_other_heads_are_reduced_as_by_textbrewer(name):
    """The two that look at all heads at once take any number of them."""
    check(name, noise(1, 3, 2, 4, 4), noise(2, 3, 5, 4, 4), mask_of("random", 3, 4))
    check(name, noise(1, 3, 2, 4, 4), noise(2, 3, 5, 4, 4), None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STATES)
def test_vectors_are_reduced_as_by_textbrewer(name, dtype):
    """Pooled states have no tokens."""
    check(name, noise(1, 6, 8, dtype=dtype), noise(2, 6, 8, dtype=dtype), None)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_gradient_is_that_of_textbrewer(name, masked):
    """The same number with another slope is another loss."""
    rows, tokens, width, heads = 3, 7, 5, 4
    mask = mask_of("random", rows, tokens) if masked else None
    if name in MAPS:
        student, teacher = (noise(seed, rows, heads, tokens, tokens) for seed in (1, 2))
    else:
        student, teacher = (noise(seed, rows, tokens, width) for seed in (1, 2))
    if name in LAYERS:
        teacher = [teacher, noise(3, rows, tokens, width)]

    def gradient(loss, mask):
        own = student.clone().requires_grad_()
        loss([own, own.flip(0)] if name in LAYERS else own, teacher, mask).backward()
        return own.grad

    expected = gradient(PAIRS[name], None if mask is None else mask.long())
    got = gradient(build_loss(name, parity="textbrewer"), mask)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


def test_peers_know_our_other_names():
    """A configuration of that library is read with its own words."""
    states = [noise(seed, 3, 7, 5) for seed in range(4)]
    for ours, name in (("fsp", "gram"), ("nst", "mmd")):
        loss = build_loss(name, parity="textbrewer")
        assert loss.entry.name == ours
        torch.testing.assert_close(
            loss(states[:2], states[2:]), PAIRS[ours](states[:2], states[2:])
        )


def test_no_teacher_learns_from_a_peers_reduction():
    """There the teacher is cut off by no_grad around it; here by the loss, in this path too."""
    for name in PAIRS:
        if name in MAPS:
            sides = [noise(seed, 2, 3, 4, 4).requires_grad_() for seed in (1, 2)]
        else:
            sides = [noise(seed, 2, 4, 3).requires_grad_() for seed in (1, 2)]
        for mask in (None, mask_of("ragged", 2, 4)):
            build_loss(name, parity="textbrewer")(*sides, mask).backward()
        assert sides[0].grad is not None
        assert sides[1].grad is None


def test_ours_is_not_theirs_where_theirs_is_odd():
    """If the two were the same everywhere, parity would be a word without a meaning."""
    mask = mask_of("random", 3, 7)
    scores, others = noise(1, 3, 4, 7, 7), noise(2, 3, 4, 7, 7)
    states = [noise(seed, 3, 7, 5) for seed in range(4)]

    def apart(name, student, teacher, mask, **options):
        ours, peer = build_loss(name, **options), build_loss(name, parity="textbrewer", **options)
        return abs((ours(student, teacher, mask) - peer(student, teacher, mask)).item()) > 1e-3

    assert apart("pkd", states[0], states[1], mask)
    assert apart("nst", states[:2], states[2:], mask)
    assert not apart("nst", states[:2], states[2:], None)
    for name in ("attention_mse", "attention_mse_sum"):
        assert apart(name, scores, others, None)
        assert not apart(name, scores, others, mask)
    for name in ("attention_ce", "attention_ce_mean"):
        assert apart(name, scores, others, None, scores=True)
        assert apart(name, scores, others, mask, scores=True)


def test_parity_on_probabilities_is_refused_by_name():
    """It takes every map for scores; to say otherwise has no effect there."""
    with pytest.raises(
        ConfigError, match=r"attention_ce\.scores must be True with parity='textbrewer'"
    ):
        build_loss("attention_ce", parity="textbrewer", scores=False)


def test_peers_give_zero_when_nothing_counts():
    """Theirs is NaN; one empty batch would end a comparison."""
    mask = torch.zeros(2, 4, dtype=torch.bool)
    for name in ("nst", "attention_mse", "attention_mse_sum", "attention_ce", "attention_ce_mean"):
        shape = (2, 3, 4, 4) if name in MAPS else (2, 4, 3)
        student = noise(1, *shape).requires_grad_()
        value = build_loss(name, parity="textbrewer")(student, noise(2, *shape), mask)
        value.backward()
        assert value.item() == 0
        assert student.grad.abs().sum() == 0
