"""Crops: keyed, in place, and independent of the order in which they are asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.configs.errors import RequestError
from scorebench.tasks import training_data as td


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose every value says where it stands."""
    return (np.arange(height * width, dtype=np.float32).reshape(1, height, width)) / 1e6


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(8, 40), width=st.integers(8, 40), patch=st.integers(1, 8), index=st.integers(0, 10**6 - 1), seed=st.integers(0, 5)
)
def test_a_crop_is_one_of_the_eight_turns_of_a_window(height, width, patch, index, seed):
    picture = coordinates(height, width)
    item = td.CropSet([(picture,)], td.named("target"), patch=patch, key=("t", seed))[index]["target"].numpy()
    assert item.shape == (1, patch, patch)
    corner = np.rint(item.min() * 1e6).astype(int)
    top, left = divmod(corner, width)
    window = picture[:, top : top + patch, left : left + patch]
    assert any(np.array_equal(item, td.turned(window, turn)) for turn in range(8))


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 10**6 - 1), scale=st.sampled_from([2, 3, 4]))
def test_low_and_high_resolution_crops_show_the_same_window(index, scale):
    rng = np.random.default_rng(0)
    low = rng.random((3, 20, 30), dtype=np.float32)
    high = low.repeat(scale, 1).repeat(scale, 2)
    item = td.CropSet([(low, high)], td.named("input", "target"), patch=6, key=("t",), scales=(1, scale))[index]
    enlarged = item["input"].numpy().repeat(scale, 1).repeat(scale, 2)
    assert item["target"].shape == (3, 6 * scale, 6 * scale)
    assert np.array_equal(enlarged, item["target"].numpy())


def test_the_eight_turns_are_distinct_and_undo_nothing_else():
    window = coordinates(5, 5)
    turns = {td.turned(window, t).tobytes() for t in range(8)}
    assert len(turns) == 8
    assert all(np.array_equal(np.sort(np.frombuffer(t, np.float32)), np.sort(window.ravel())) for t in turns)


def test_items_do_not_depend_on_order_and_differ_by_index_and_seed():
    pictures = [(coordinates(40, 40),), (coordinates(50, 30),)]

    def make(seed):
        return td.CropSet(pictures, td.named("target"), patch=16, key=("t", seed))

    first, again = make(0), make(0)
    forward = [first[i]["target"] for i in range(20)]
    backward = {i: again[i]["target"] for i in reversed(range(20))}
    assert all(torch.equal(forward[i], backward[i]) for i in range(20))
    assert any(not torch.equal(forward[i], make(1)[i]["target"]) for i in range(20))
    assert len({t.numpy().tobytes() for t in forward}) > 15


def test_positions_are_uniform():
    """Chi-square of 4,000 corners over 25 positions: within 5 standard deviations of its mean of 24."""
    items = td.CropSet([(coordinates(12, 12),)], td.named("target"), patch=8, key=("u",), augment=False)
    corners = [round(float(items[i]["target"].min()) * 1e6) for i in range(4000)]
    counts = np.array([corners.count(r * 12 + c) for r in range(5) for c in range(5)])
    assert counts.sum() == 4000
    chi2 = ((counts - 160) ** 2 / 160).sum()
    assert abs(chi2 - 24) < 5 * np.sqrt(48)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_compact_is_exact(seed):
    rng = np.random.default_rng(seed)
    eight = rng.integers(0, 256, (3, 7, 5)).astype(np.uint8)
    as_float = eight.astype(np.float32) / np.float32(255)
    assert td.compact(as_float).dtype == np.uint8
    assert np.array_equal(td.expand(td.compact(as_float)), as_float)
    other = rng.random((3, 7, 5), dtype=np.float32) * 3 - 1
    assert td.compact(other) is other


def test_keyed_streams_of_two_indices_share_no_number():
    keyed = td.Keyed("a")
    draws = [keyed[i].integers(0, 2**63, 2000) for i in range(3)]
    assert len(set(np.concatenate(draws).tolist())) == 6000
    assert np.array_equal(keyed[1].integers(0, 2**63, 5), draws[1][:5])


@pytest.mark.parametrize("patch", [0, 21])
def test_a_patch_that_does_not_fit_is_one_sentence(patch):
    with pytest.raises(RequestError, match="patch"):
        td.CropSet([(coordinates(30, 20),)], td.named("target"), patch=patch, key=("t",))


def test_an_index_outside_is_an_index_error():
    items = td.CropSet([(coordinates(30, 20),)], td.named("target"), patch=4, key=("t",), length=3)
    with pytest.raises(IndexError):
        items[3]
    assert len(items) == 3
