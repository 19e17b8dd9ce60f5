"""What the contract table does not say of losses between features: shapes, edges, invariances."""

import pytest
import torch

from raydistill.errors import ConfigError, SignalError
from raydistill.losses import CATALOG, build_loss
from raydistill.losses.attention import (
    FLOOR,
    attention_ce,
    attention_ce_mean,
    attention_mse,
    attention_mse_sum,
)
from raydistill.losses.contrastive import contrastive
from raydistill.losses.gram import fsp, nst
from raydistill.losses.hidden import cos, hidden_mse, pkd
from raydistill.losses.layers import layer_attention
from raydistill.losses.relation import relation_kl
from raydistill.losses.relational import rkd_angle, rkd_distance
from raydistill.losses.tokens import num_pairs, num_rows, num_tokens
from raydistill.losses.variational import initial_raw_variance, vid

VECTORS = [cos, pkd, rkd_distance, rkd_angle, contrastive, vid]
OF_TOKENS = [pkd, fsp, nst, relation_kl]
OF_MAPS = [attention_mse, attention_mse_sum, attention_ce, attention_ce_mean]


def noise(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def probabilities(seed, *shape):
    return noise(seed, *shape).softmax(-1)


def gradient(loss, student, *rest, **options):
    """Of the summed values at the student."""
    own = student.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(own, *rest, **options).sum(), own)
    return slope


def rotation(width, seed=9):
    return torch.linalg.qr(noise(seed, width, width))[0]


# ---- masks and shapes of all


def test_units_count_rows_tokens_and_pairs():
    """A wrong denominator is a weight that nobody set."""
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    assert [int(count(mask)) for count in (num_rows, num_tokens, num_pairs)] == [2, 3, 5]
    assert int(num_rows(torch.tensor([True, False, True]))) == 2
    assert int(num_rows(torch.ones(2, 0, dtype=torch.bool))) == 0


@pytest.mark.parametrize("loss", OF_TOKENS, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize(
    "mask",
    [torch.ones(2, 3), torch.ones(2, 1, dtype=torch.bool), torch.ones(3, dtype=torch.bool)],
    ids=["float", "one token", "no rows"],
)
def test_masks_that_are_not_of_the_tokens_are_refused(loss, mask):
    """Broadcast, it would count other tokens than were meant, in silence."""
    states = noise(0, 2, 3, 4)
    with pytest.raises(SignalError, match=r"mask must be bool .* shape \[2, 3\]"):
        loss(states, states, mask=mask)


@pytest.mark.parametrize("loss", OF_MAPS, ids=lambda loss: loss.__name__)
def test_maps_refuse_masks_and_shapes_that_do_not_fit(loss):
    """As above; and a map that is not square is not one of tokens with themselves."""
    maps = probabilities(0, 2, 2, 3, 3)
    with pytest.raises(SignalError, match=r"mask must be bool .* shape \[2, 3\]"):
        loss(maps, maps, mask=torch.ones(2, 3))
    with pytest.raises(SignalError, match="Attention maps"):
        loss(maps[..., :2], maps[..., :2])
    with pytest.raises(SignalError, match="Attention maps"):
        loss(maps, maps[:1])
    with pytest.raises(SignalError, match="Attention maps"):
        loss(maps[0, 0], maps[0, 0])


@pytest.mark.parametrize("loss", VECTORS, ids=lambda loss: loss.__name__)
def test_mixed_precisions_meet_in_the_wider(loss):
    """Students run in half precision, teachers' answers come in any."""
    student, teacher = noise(1, 5, 4), noise(2, 5, 4)
    expected = loss(student.half().double(), teacher)
    values = loss(student.half(), teacher)
    assert values.dtype == torch.float64
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
    assert loss(student.half(), teacher.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("loss", VECTORS, ids=lambda loss: loss.__name__)
def test_zero_and_equal_vectors_have_finite_slopes(loss):
    """The length of a zero vector has no slope; a dead unit would end the run."""
    for student in (torch.zeros(4, 3), torch.ones(4, 3)):
        for teacher in (noise(1, 4, 3).float(), torch.zeros(4, 3)):
            assert loss(student, teacher).isfinite().all()
            assert gradient(loss, student, teacher).isfinite().all()


# ---- hidden states


def test_cos_is_torchs_cosine():
    """One minus a cosine, checked against another's."""
    student, teacher = noise(1, 3, 4, 6), noise(2, 3, 4, 6)
    torch.testing.assert_close(
        cos(student, teacher), 1 - torch.cosine_similarity(student, teacher, dim=-1)
    )


def test_cos_and_pkd_do_not_see_length():
    """That is what tells them from a squared error."""
    student, teacher = noise(1, 5, 6), noise(2, 5, 6)
    torch.testing.assert_close(cos(7 * student, teacher / 3), cos(student, teacher))
    torch.testing.assert_close(pkd(7 * student, teacher / 3), 2 * cos(student, teacher))


def test_pkd_takes_the_first_token_that_counts():
    """With padding on the left the first position is padding in all rows but the longest."""
    student, teacher = noise(1, 3, 4, 5), noise(2, 3, 4, 5)
    mask = torch.tensor([[False, False, True, True], [True, False, False, True], [False] * 4])
    values = pkd(student, teacher, mask=mask)
    expected = pkd(student[[0, 1], [2, 0]], teacher[[0, 1], [2, 0]])
    torch.testing.assert_close(values[:2], expected)
    assert values[2] == 0
    scalar = build_loss("pkd")(student, teacher, mask)
    assert scalar.item() == pytest.approx(expected.mean().item())


def test_pkd_takes_vectors_with_a_mask_of_rows():
    """Pooled states come with one entry a row."""
    student, teacher = noise(1, 3, 5), noise(2, 3, 5)
    mask = torch.tensor([True, False, True])
    student[1] = torch.nan
    loss = build_loss("pkd")
    torch.testing.assert_close(loss(student, teacher, mask), loss(student[mask], teacher[mask]))
    assert gradient(pkd, student, teacher, mask=mask)[1].abs().sum() == 0
    with pytest.raises(SignalError, match="vectors"):
        pkd(student[0], teacher[0])
    with pytest.raises(SignalError, match=r"\[3, 5\] and \[1, 5\]"):
        pkd(student, teacher[:1])


def test_rows_of_no_length_give_no_value():
    """A batch of empty texts must not fail, nor count."""
    none = torch.zeros(2, 0, 3, requires_grad=True)
    mask = torch.zeros(2, 0, dtype=torch.bool)
    for loss in (pkd, fsp):
        assert loss(none, none).shape == (0,)
        assert loss(none, none, mask=mask).tolist() == [0, 0]


# ---- between layers


def test_one_layer_stands_for_both():
    """A Gram matrix is the flow of a layer to itself."""
    student, teacher = noise(1, 2, 3, 4), noise(2, 2, 3, 4)
    for loss in (fsp, nst):
        torch.testing.assert_close(
            loss(student, teacher), loss([student, student], [teacher, teacher])
        )


@pytest.mark.parametrize("loss", [fsp, nst], ids=["fsp", "nst"])
def test_layers_that_do_not_fit_are_refused(loss):
    """Zipped, a third layer would be dropped in silence."""
    one = noise(1, 2, 3, 4)
    with pytest.raises(SignalError, match="one or two"):
        loss([one, one, one], [one, one])
    with pytest.raises(SignalError, match="one or two"):
        loss(one[0], one[0])
    with pytest.raises(SignalError, match="same rows and tokens"):
        loss([one, one[:, :2]], [one, one])
    with pytest.raises(SignalError, match="Hidden states"):
        loss(one, one[:1])


def test_fsp_refuses_other_widths_and_nst_layers_of_two():
    """Matrices of other sizes would broadcast where one of them is 1."""
    one, wide = noise(1, 2, 3, 4), noise(2, 2, 3, 1)
    with pytest.raises(SignalError, match="projection"):
        fsp(one, wide)
    with pytest.raises(SignalError, match="same width"):
        nst([one, wide], [one, one])


@pytest.mark.parametrize("loss", [nst, relation_kl], ids=["nst", "relation_kl"])
def test_relations_of_tokens_do_not_see_the_basis(loss):
    """A turned student is as near to its teacher: that is why no projection is needed."""
    student, teacher = noise(1, 2, 3, 4), noise(2, 2, 3, 6)
    turned = student @ rotation(4)
    torch.testing.assert_close(loss(turned, teacher), loss(student, teacher))


def test_relation_heads_are_slices_of_the_vectors():
    """Heads cut across tokens instead of coordinates would compare noise."""
    student, teacher = noise(1, 2, 3, 4), noise(2, 2, 3, 6)
    halves = [
        relation_kl(student[..., 2 * a : 2 * a + 2], teacher[..., 3 * a : 3 * a + 3])
        for a in (0, 1)
    ]
    values = relation_kl(student, teacher, relation_heads=2)
    torch.testing.assert_close(values, (halves[0] + halves[1]) / 2)


@pytest.mark.parametrize("heads", [0, 3, 4])
def test_relation_heads_must_divide_both_widths(heads):
    """A remainder of coordinates would be left out in silence."""
    with pytest.raises(SignalError, match=f"relation_heads must divide .* got {heads}"):
        relation_kl(noise(1, 2, 3, 4), noise(2, 2, 3, 6), relation_heads=heads)


# ---- attention


def test_heads_may_differ_only_where_they_are_put_together():
    """Two heads broadcast against one would all learn the same."""
    student, teacher = probabilities(1, 2, 2, 3, 3), probabilities(2, 2, 1, 3, 3)
    for loss in (attention_mse, attention_ce):
        with pytest.raises(SignalError, match="attention_mse_sum"):
            loss(student, teacher)
        with pytest.raises(SignalError, match="heads"):
            loss(student[:, 0], student[:, 0])
    for loss in (attention_mse_sum, attention_ce_mean):
        torch.testing.assert_close(loss(student, teacher), loss(student, teacher[:, 0]))


@pytest.mark.parametrize("loss", [attention_ce, attention_ce_mean], ids=["ce", "ce_mean"])
def test_scores_are_probabilities_before_their_softmax(loss):
    """One head: averaging before or after the softmax is the same."""
    student, teacher = noise(1, 2, 1, 4, 4), noise(2, 2, 1, 4, 4)
    expected = loss(student.softmax(-1), teacher.softmax(-1))
    torch.testing.assert_close(loss(student, teacher, scores=True), expected)


@pytest.mark.parametrize("loss", [attention_ce, attention_ce_mean], ids=["ce", "ce_mean"])
def test_scores_that_are_minus_infinity_on_both_sides_do_no_harm(loss):
    """So come causal maps; 0 times infinity is NaN."""
    future = torch.ones(4, 4, dtype=torch.bool).triu(1)
    student, teacher = (noise(seed, 2, 2, 4, 4).masked_fill(future, -torch.inf) for seed in (1, 2))
    mask = torch.tensor([[True] * 4, [False, True, True, False]])
    values, slope = (
        loss(student, teacher, scores=True, mask=mask),
        gradient(loss, student, teacher, scores=True, mask=mask),
    )
    assert values.isfinite().all()
    assert slope.isfinite().all()
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("loss", [attention_ce, attention_ce_mean], ids=["ce", "ce_mean"])
def test_probabilities_of_zero_cost_what_the_floor_says(loss):
    """The logarithm of an underflown probability is infinite, and so is its slope."""
    student = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], dtype=torch.float64)
    values = loss(student, student.flip(-1))
    torch.testing.assert_close(values, torch.full_like(values, -torch.tensor(FLOOR).double().log()))
    assert gradient(loss, student, student.flip(-1)).isfinite().all()
    assert loss(student, student).abs().sum() == 0


def test_attention_ce_is_least_where_both_agree():
    """A gradient descent on lines that sum to 1 must end at the teacher's."""
    teacher = probabilities(1, 2, 3, 4, 4)
    least = attention_ce(teacher, teacher)
    for seed in range(2, 6):
        assert (attention_ce(probabilities(seed, 2, 3, 4, 4), teacher) > least).all()
    slope = gradient(attention_ce, teacher, teacher)  # the same for all of a line: nothing to move
    assert slope.std(-1).max() < 1e-9


# ---- between rows


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle], ids=["distance", "angle"])
def test_relations_of_rows_do_not_see_place_turn_and_scale(loss):
    """A student whose rows lie alike has nothing to learn, wherever they lie."""
    student, teacher = noise(1, 6, 4), noise(2, 6, 3)
    similar = 3 * student @ rotation(4) + noise(3, 4)
    torch.testing.assert_close(loss(similar, teacher), loss(student, teacher))
    assert loss(similar, student).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("loss", "least"), [(rkd_distance, 2), (rkd_angle, 3)], ids=["distance", "angle"]
)
def test_too_few_rows_teach_nothing(loss, least):
    """The last group of an epoch may have one row."""
    for rows in range(least + 1):
        student, teacher = noise(1, rows, 4), noise(2, rows, 3)
        values, slope = loss(student, teacher), gradient(loss, student, teacher)
        assert values.shape == (rows,)
        assert slope.isfinite().all()
        if rows < least:
            assert values.abs().sum() == 0
            assert slope.abs().sum() == 0
    assert rkd_distance(noise(1, 2, 4), noise(2, 2, 3)).abs().sum() < 1e-12, "two are always alike"


def test_rows_at_one_place_keep_the_others_slopes():
    """A text that comes twice in a batch must not end the run."""
    student, teacher = noise(1, 5, 4), noise(2, 5, 3)
    student[1] = student[0]
    for loss in (rkd_distance, rkd_angle):
        slope = gradient(loss, student, teacher)
        assert slope.isfinite().all()
        assert slope.abs().sum() > 0


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle], ids=["distance", "angle"])
def test_rows_must_be_as_many(loss):
    """Broadcast, one row of the teacher would stand for all."""
    with pytest.raises(SignalError, match="same rows"):
        loss(noise(1, 4, 3), noise(2, 1, 3))
    with pytest.raises(SignalError, match="same rows"):
        loss(noise(1, 4, 3, 2), noise(2, 4, 3, 2))


def test_contrastive_wants_the_own_row():
    """Compared along the wrong side it would ask which student a teacher belongs to."""
    teacher = noise(1, 6, 8)
    assert (contrastive(teacher, teacher) < contrastive(teacher.roll(1, 0), teacher)).all()
    likeness = torch.nn.functional.normalize(teacher) @ torch.nn.functional.normalize(teacher).T
    expected = ((likeness - 1) / 0.5).exp().sum(1).log()
    torch.testing.assert_close(contrastive(teacher, teacher, temperature=0.5), expected)
    student = noise(2, 6, 8)  # both sides of the formula, in the order in which it is written
    products = torch.cosine_similarity(student.unsqueeze(1), teacher.unsqueeze(0), dim=-1) / 0.1
    expected = torch.nn.functional.cross_entropy(products, torch.arange(6), reduction="none")
    torch.testing.assert_close(contrastive(student, teacher, temperature=0.1), expected)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_contrastive_refuses_a_temperature_that_is_none(temperature):
    """Divided by zero all rows are the nearest."""
    with pytest.raises(ValueError, match="temperature must be"):
        contrastive(torch.eye(2), torch.eye(2), temperature=temperature)
    with pytest.raises(ConfigError, match=r"contrastive\.temperature must be"):
        build_loss("contrastive", temperature=temperature)


# ---- with parameters, and of many layers


def test_vid_learns_the_variance_it_sees():
    """Where the variance is the mean squared error the likelihood is largest."""
    student, teacher = noise(1, 2000, 3), noise(2, 2000, 3) * torch.tensor([0.1, 1.0, 3.0])
    squares = (student - teacher).square().mean(0)
    raw = torch.expm1(squares - 1e-5).log().requires_grad_()
    vid(student, teacher, raw_variance=raw).sum().backward()
    assert raw.grad.abs().max() < 1e-9
    start = initial_raw_variance(3).requires_grad_()
    vid(student, teacher, raw_variance=start).mean().backward()
    assert (start.grad > 0).tolist() == (squares < 5).tolist()


def test_vid_starts_at_a_variance_of_five():
    """As the authors' code does; a smaller one would let the term rule the first steps."""
    student, teacher = noise(1, 4, 3), noise(2, 4, 3)
    expected = 0.5 * torch.tensor(5.0).double().log() + hidden_mse(student, teacher) / 10
    torch.testing.assert_close(vid(student, teacher), expected)
    torch.testing.assert_close(
        vid(student, teacher, raw_variance=initial_raw_variance(3)), expected
    )
    narrow = vid(student.float(), teacher.float(), raw_variance=initial_raw_variance(3))
    assert narrow.dtype == torch.float32


def test_vid_refuses_a_variance_of_another_width():
    """One number for all would be learned as such, in silence."""
    student = noise(1, 4, 3)
    with pytest.raises(SignalError, match=r"raw_variance .* \[3\], got \[1\]"):
        vid(student, student, raw_variance=torch.zeros(1))
    with pytest.raises(ConfigError, match=r"vid\.raw_variance must be a tensor"):
        build_loss("vid", raw_variance=5.0)
    raw = torch.zeros(3, requires_grad=True)
    build_loss("vid", raw_variance=raw)(
        student, student, torch.tensor([True, False, True, False])
    ).backward()
    assert raw.grad.abs().sum() > 0


def test_layer_attention_of_one_layer_is_a_squared_error():
    """A mixture of one is that one."""
    student, teacher = noise(1, 2, 3, 4), noise(2, 2, 3, 4)
    values = layer_attention(student, teacher.unsqueeze(-2))
    torch.testing.assert_close(values, hidden_mse(student, teacher))


def test_layer_attention_learns_where_to_look():
    """With the weights cut off a state cannot come closer by looking elsewhere."""
    student, layers = noise(1, 4), noise(2, 3, 4)
    weights = (layers @ student / 2).softmax(0)
    fixed = 2 * (student - weights @ layers) / 4
    slope = gradient(layer_attention, student, layers)
    assert (slope - fixed).abs().max() > 1e-3


@pytest.mark.parametrize(
    "shape", [(2, 3, 4), (2, 1, 5, 4), (2, 3, 5, 3), (3, 5, 4), (2, 3, 0, 4)], ids=str
)
def test_layer_attention_refuses_layers_that_do_not_fit(shape):
    """Broadcast, the layers of one token would teach all."""
    with pytest.raises(SignalError, match=r"\[2, 3, 'N', 4\]"):
        layer_attention(noise(1, 2, 3, 4), noise(2, *shape))


def test_layer_attention_is_finite_at_extreme_values():
    """The table of the contract cannot ask this: there both sides have one shape."""
    student = 1e4 * noise(1, 3, 4, dtype=torch.float32).sign()
    layers = 1e4 * noise(2, 3, 5, 4, dtype=torch.float32).sign()
    assert layer_attention(student, layers).isfinite().all()
    assert gradient(layer_attention, student, layers).isfinite().all()


def test_catalog_of_features_says_what_functions_take():
    """An option that the function does not have fails at the first step of a run."""
    for entry in CATALOG.values():
        if entry.needs & {"hidden", "layers", "attention"}:
            assert set(entry.defaults()) == set(entry.options)
            assert all(
                check(entry.defaults()[name]) is None for name, check in entry.options.items()
            )
