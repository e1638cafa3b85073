"""EEG: what is simulated, what the transformer may see, and that classical cleaning takes away what it should and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorebench.baselines.denoising.art_eeg import ART
from scorebench.baselines.denoising.eeg_filters import BandPass, ICAThresholding, WaveletClipping, analyse, synthesise
from scorebench.baselines.denoising.ic_u_net import CNN1d, ICUNet
from scorebench.baselines.method import DataSpec
from scorebench.baselines.nets.transformer import Attention
from scorebench.configs.errors import RequestError
from scorebench.datasets.eeg import ELECTRODES, FS, artefact, brain, head
from scorebench.datasets.keys import keyed
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Request, Returns

DATA = DataSpec("signal", 8, (8, 256), 0, FS)
TASKS = [f"denoising/eeg-{k}" for k in ("mixed", "blink", "muscle", "line")]


def ask(noisy: torch.Tensor) -> Request:
    return Request("enhance", {"noisy": noisy, "sample_rate": FS}, n=len(noisy), rng=Rng([0] * len(noisy)), returns=Returns("signal"))


def windows(kind: str | None, n: int = 40) -> np.ndarray:
    make = (lambda h, r: artefact(kind, h, r)) if kind else brain
    return np.stack([make(head(1, "dev", i % 4), keyed("w", kind, i)) for i in range(n)])


def power(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Share of the power between two frequencies, per electrode."""
    spectrum = (np.abs(np.fft.rfft(x, axis=-1)) ** 2).sum(0)
    hz = np.fft.rfftfreq(x.shape[-1], 1 / FS)
    return spectrum[:, (hz >= low) & (hz < high)].sum(1) / spectrum.sum(1)


# ---------------------------------------------------------------------- data
def test_artefacts_are_where_and_how_they_should_be():
    blink, muscle, line = (windows(k) for k in ("blink", "muscle", "line"))
    front, temples, back = [0, 1], [2, 3], [6, 7]
    size = lambda x, where: np.sqrt((x[:, where] ** 2).mean())  # noqa: E731
    assert size(blink, front) > 2 * size(blink, temples) > 10 * size(blink, back)
    assert size(muscle, temples) > 3 * size(muscle, back)
    assert (power(blink, 0, 8) > 0.95).all() and (power(muscle, 20, 64)[temples] > 0.9).all() and (power(line, 48, 52) > 0.9).all()


def test_brain_has_alpha_at_the_back_and_a_falling_spectrum():
    x = windows(None, 80)
    alpha = power(x, 8, 12)
    assert alpha[[6, 7]].min() > 1.2 * alpha[[0, 1]].max(), ELECTRODES
    assert (power(x, 1, 8) > 5 * power(x, 40, 64)).all() and 0.7 < x.std() < 2.0


def test_pairs_are_exact_and_subjects_apart():
    task = registry.get(TASKS[1])
    o = task.observe("test", task.ids("test")[3])
    assert o.given["noisy"].shape == (8, 256) and torch.equal(o.given["noisy"], o.target["noisy"])
    other = task.observe("test", task.ids("test")[3], draw=1)
    assert torch.equal(o.target["clean"], other.target["clean"]) and not torch.equal(o.given["noisy"], other.given["noisy"])
    heads = [head(1, s, 0).alpha_hz for s in ("train", "dev", "test")]
    assert len(set(heads)) == 3
    assert {i.rsplit("-", 1)[0] for i in task.ids("test")} == {f"test-s{k:02d}" for k in range(10)}


def test_training_items_are_pairs_and_fits_are_shared():
    tasks = [registry.get(t) for t in TASKS]
    assert len({repr(t.training_key("paired")) for t in tasks}) == 1
    items = tasks[0].training_set("paired", 0)
    item = items[5]
    assert set(item) == {"input", "target"} and not torch.equal(item["input"], item["target"])
    assert torch.equal(items[5]["input"], tasks[2].training_set("paired", 0)[5]["input"])
    assert set(tasks[0].training_set("noisy", 0)[0]) == {"input"}
    with pytest.raises(RequestError, match="not 'noisy-pairs'"):
        tasks[0].training_set("noisy-pairs", 0)


# ---------------------------------------------------------------------- networks
def test_attention_is_torchs():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3, causal=True), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([f.weight for f in (ours.query, ours.key, ours.value)]))
        theirs.in_proj_bias.copy_(torch.cat([f.bias for f in (ours.query, ours.key, ours.value)]))
    theirs.out_proj = ours.out
    x = torch.randn(2, 7, 12)
    mask = torch.ones(7, 7, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(x), theirs(x, x, x, attn_mask=mask)[0])


def test_decoder_sees_only_the_past_of_what_it_is_shown_and_all_of_the_window():
    torch.manual_seed(0)
    net = ART(DATA).eval().network
    noisy, shown = torch.randn(1, 8, 64), torch.randn(1, 8, 64)
    base = net(noisy, shown)
    changed = shown.clone()
    changed[..., 30] += 5
    moved = (net(noisy, changed) - base).abs().amax((0, 1))
    assert (moved[:31] == 0).all() and moved[31] > 1e-4, "position t is answered from what was shown before t"
    later = noisy.clone()
    later[..., 60] += 5
    assert ((net(later, shown) - base).abs().amax((0, 1)) > 0).all()


def test_decoder_variants_train_on_what_they_say():
    torch.manual_seed(0)
    noisy, clean = torch.randn(2, 8, 256), torch.randn(2, 8, 256)
    for decoder in ("clean", "noisy", "none"):
        torch.manual_seed(1)
        method = ART(DATA, decoder=decoder)
        shown = clean if decoder == "clean" else noisy
        assert torch.equal(method.loss(noisy, clean), (method.network(noisy, shown) - clean).square().mean())
        other = (method.network(noisy, clean) - method.network(noisy, noisy)).abs().max()
        assert (other == 0) == (decoder == "none")
    with pytest.raises(RequestError, match="accepted: clean, noisy, none"):
        ART(DATA, decoder="both")


def test_networks_are_of_comparable_size_and_follow_the_scale():
    sizes = {}
    for cls in (ART, ICUNet, CNN1d):
        torch.manual_seed(0)
        method = cls(DATA).eval()
        sizes[cls.__name__] = sum(p.numel() for p in method.parameters())
        x = torch.randn(3, 8, 256) + 0.5
        torch.testing.assert_close(method.enhance(ask(4 * x)), 4 * method.enhance(ask(x)), rtol=1e-3, atol=1e-3)
    assert max(sizes.values()) < 1.3 * min(sizes.values()), sizes


def test_a_short_training_lowers_the_loss():
    items = registry.get(TASKS[0]).training_set("paired", 0)
    batch = {k: torch.stack([items[i][k] for i in range(4)]) for k in ("input", "target")}
    for cls in (ART, ICUNet, CNN1d):
        torch.manual_seed(0)
        method = cls(DATA)
        optimiser = torch.optim.Adam(method.parameters(), 3e-3)
        losses = []
        for _ in range(8):
            optimiser.zero_grad()
            loss = method.training_step(batch)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0], cls.__name__


# ---------------------------------------------------------------------- classical cleaning
def test_wavelets_reconstruct_and_leave_regular_signals_alone():
    x = keyed("x").standard_normal((3, 128))
    np.testing.assert_allclose(synthesise(*analyse(x, 4, 4), 4), x, atol=1e-12)
    wide = WaveletClipping(strength=1e3, finest=0).filtered(x, FS)
    np.testing.assert_allclose(wide, x, atol=1e-9)


def test_band_pass_keeps_alpha_and_removes_the_mains():
    t = np.arange(256) / FS
    alpha, mains = np.sin(2 * np.pi * 10 * t)[None], np.sin(2 * np.pi * 50 * t)[None]
    method = BandPass(2, 40)
    assert np.abs(method.filtered(alpha, FS) - alpha)[:, 40:-40].max() < 0.1
    assert np.abs(method.filtered(mains, FS))[:, 40:-40].max() < 0.05


def test_components_of_blinks_and_mains_are_dropped():
    clean = windows(None, 6)
    bump = 12 * np.exp(-0.5 * ((np.arange(256) - 100) / 10) ** 2)
    mains = np.sin(2 * np.pi * 50 * np.arange(256) / FS)
    gains = keyed("g").uniform(0.3, 1.0, (2, 8, 1))
    for window in clean:
        noisy = window + gains[0] * bump + 2 * gains[1] * mains
        out = ICAThresholding().filtered(noisy, FS)
        assert np.square(out - window).mean() < 0.4 * np.square(noisy - window).mean()
        assert (power(out[None], 48, 52) < 0.5 * power(noisy[None], 48, 52)).mean() > 0.7
