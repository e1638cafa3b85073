"""Keyed randomness: what one sample draws depends on its key and its own draws alone, and is random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.tasks.randomness import Rng, key_bytes, keyed

IDS = [f"s{i}" for i in range(12)]
QUICK = settings(max_examples=40, deadline=None)
DRAWS = st.lists(st.sampled_from(["normal", "uniform", "integers", "permutation", "rademacher"]), min_size=1, max_size=5)
NAMES = st.sampled_from([("x_T",), ("noise",), ("step", 0), ("step", 7)])


def make(ids: list[str] = IDS, *key: object) -> Rng:
    return Rng.for_samples(ids, "test", *key)


def draw(stream: object, kind: str) -> torch.Tensor:
    """One draw of a kind, as float (B, ...)."""
    made = {
        "normal": lambda s: s.normal((3, 2)), "uniform": lambda s: s.uniform((5,), -1, 2), "integers": lambda s: s.integers(0, 9, (4,)),
        "permutation": lambda s: s.permutation(6), "rademacher": lambda s: s.rademacher((7,)),
    }  # fmt: skip
    return made[kind](stream).double()


@QUICK
@given(kinds=DRAWS, name=NAMES, cut=st.integers(1, 11))
def test_a_batch_can_be_split_anywhere(kinds: list[str], name: tuple, cut: int) -> None:
    whole, first, second = make(), make(IDS[:cut]), make(IDS[cut:])
    for kind in kinds:
        together = draw(whole.at(*name), kind)
        apart = torch.cat([draw(first.at(*name), kind), draw(second.at(*name), kind)])
        assert torch.equal(together, apart)


@QUICK
@given(order=st.permutations(IDS), kinds=DRAWS)
def test_the_order_of_samples_does_not_matter(order: list[str], kinds: list[str]) -> None:
    a, b = make(), make(list(order))
    for kind in kinds:
        x, y = draw(a.at("noise"), kind), draw(b.at("noise"), kind)
        assert torch.equal(x[[IDS.index(i) for i in order]], y)


@QUICK
@given(mask=st.lists(st.booleans(), min_size=12, max_size=12), name=NAMES)
def test_a_mask_draws_the_same_numbers_and_shifts_no_others(mask: list[bool], name: tuple) -> None:
    """Samples that skip a draw continue where they were; the others are as if the whole batch had drawn."""
    whole, parted = make(), make()
    first, second = (draw(whole.at(*name), "normal") for _ in range(2))
    chosen = torch.tensor(mask)
    some = draw(parted[chosen].at(*name), "normal")
    assert torch.equal(some, first[chosen])
    rest = draw(parted.at(*name), "normal")
    assert torch.equal(rest[chosen], second[chosen])
    assert torch.equal(rest[~chosen], first[~chosen])


@pytest.mark.parametrize("index", [3, slice(2, 9, 3), [1, 5], torch.tensor([1, 5]), np.array([True] * 6 + [False] * 6)])
def test_views_are_the_rows_they_name(index: object) -> None:
    whole = draw(make().at("a"), "normal")
    part = draw(make()[index].at("a"), "normal")
    wanted = whole[[index]] if isinstance(index, int) else whole[index]  # type: ignore[index]
    assert torch.equal(part, wanted)
    view = make()[index][0]
    assert len(view) == 1
    assert torch.equal(draw(view.at("a"), "normal"), wanted[:1])


@pytest.mark.parametrize("name", [("noise",), ("step", 4)])
def test_a_kept_stream_is_the_same_as_asking_again(name: tuple) -> None:
    """``s = rng.at(name)`` used twice, and ``rng.at(name)`` asked twice, are one stream."""
    kept, asked = make(), make()
    stream = kept.at(*name)
    for _ in range(4):
        assert torch.equal(stream.normal((5,)), asked.at(*name).normal((5,)))


def test_streams_are_unaffected_by_each_other() -> None:
    """An extra draw in one stream does not shift another, and numbered streams do not depend on their order."""
    plain, busy = make(), make()
    for _ in range(3):
        busy.at("extra").normal((100,))
        busy.at("step", 99).uniform((10,))
    assert torch.equal(plain.at("x_T").normal((4,)), busy.at("x_T").normal((4,)))
    forward = [make().at("step", k).normal((4,)) for k in range(3)]
    rng = make()
    backward = [rng.at("step", k).normal((4,)) for k in (2, 1, 0)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_everything_in_the_key_matters_and_nothing_else() -> None:
    base = make(IDS, "task", 1).at("a").normal((8,))
    assert torch.equal(base, make(IDS, "task", 1).at("a").normal((8,)))
    others = [make(IDS, "task", 2), make(IDS, "task1"), make([f"t{i}" for i in range(12)], "task", 1)]
    assert not any(torch.equal(base, o.at("a").normal((8,))) for o in others)
    assert not torch.equal(base, make(IDS, "task", 1).at("b").normal((8,)))
    assert not torch.equal(make().at("a").normal((8,)), make().at("a", 0).normal((8,)))
    assert key_bytes("a", "b") != key_bytes("ab") and key_bytes("a", 1) == key_bytes("a", "1")


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.randn(3)
    torch.manual_seed(5)
    rng = make()
    rng.at("x_T").normal((100,))
    rng.at("step", 1).permutation(5)
    assert torch.equal(torch.randn(3), wanted)


def test_generators_are_one_each_and_fresh() -> None:
    rng = make()
    first, second = (rng.at("lib").generators() for _ in range(2))
    drawn = torch.stack([torch.randn(3, generator=g) for g in [*first, *second]])
    assert len(torch.unique(drawn, dim=0)) == 24
    again = torch.stack([torch.randn(3, generator=g) for g in make().at("lib").generators()])
    assert torch.equal(drawn[:12], again)


MANY = Rng.for_samples([f"n{i}" for i in range(20_000)], "moments")


@pytest.mark.parametrize("name", [("m",), ("m", 1)])
def test_normals_are_standard_and_independent(name: tuple) -> None:
    """Across samples and across draws: mean, variance, kurtosis, correlation within five standard errors."""
    x, y = (MANY.at("normals", *name).normal((2,)).double() for _ in range(2))
    columns = torch.cat([x, y], 1)
    n = len(columns)
    assert columns.mean(0).abs().max() < 5 / n**0.5
    assert (columns.var(0) - 1).abs().max() < 5 * (2 / n) ** 0.5
    assert ((columns**4).mean(0) - 3).abs().max() < 5 * (96 / n) ** 0.5
    correlation = torch.corrcoef(columns.T) - torch.eye(4, dtype=torch.float64)
    assert correlation.abs().max() < 5 / n**0.5
    neighbours = torch.corrcoef(torch.stack([columns[:-1, 0], columns[1:, 0]]))[0, 1]
    assert abs(neighbours) < 5 / n**0.5


def test_other_distributions_have_their_moments() -> None:
    n = len(MANY)
    u = MANY.at("u").uniform((), 2.0, 5.0).double()
    assert u.min() >= 2 and u.max() < 5
    assert abs(u.mean() - 3.5) < 5 * (0.75 / n) ** 0.5 and abs(u.var() - 0.75) < 0.03
    i = MANY.at("i").integers(3, 7)
    assert i.dtype == torch.int64 and set(i.tolist()) == {3, 4, 5, 6}
    assert ((torch.bincount(i)[3:] - n / 4).abs() < 5 * (n * 3 / 16) ** 0.5).all()
    r = MANY.at("r").rademacher()
    assert set(r.tolist()) == {-1.0, 1.0} and abs(r.mean()) < 5 / n**0.5
    p = MANY[:4000].at("p").permutation(3)
    assert (p.sort(1).values == torch.arange(3)).all()
    assert ((torch.bincount(p[:, 0] * 3 + p[:, 1], minlength=9)[[1, 2, 3, 5, 6, 7]] - 4000 / 6).abs() < 5 * (4000 * 5 / 36) ** 0.5).all()


def test_dtypes_and_shapes() -> None:
    rng = make()
    assert rng.at("a").normal((2,), dtype=torch.float64).dtype == torch.float64
    assert rng.at("b").normal().shape == (12,)
    assert len(rng) == 12 and len(rng[:0]) == 0
    assert rng[:0].at("a").normal((2,)).shape == (0, 2)


@QUICK
@given(key=st.lists(st.one_of(st.text(max_size=8), st.integers()), min_size=1, max_size=4))
def test_keyed_is_a_function_of_its_key(key: list) -> None:
    assert np.array_equal(keyed(*key).standard_normal(3), keyed(*key).standard_normal(3))
    assert not np.array_equal(keyed(*key).standard_normal(3), keyed(*key, "more").standard_normal(3))


def test_keyed_generators_are_uncorrelated() -> None:
    rows = np.stack([keyed("corr", i).standard_normal(2000) for i in range(12)])
    assert np.abs(np.corrcoef(rows) - np.eye(12)).max() < 5 / 2000**0.5
