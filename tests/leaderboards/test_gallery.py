"""The number under a picture is the number of that picture."""

from __future__ import annotations

import numpy as np

from scorebench.leaderboards import board as boards
from scorebench.leaderboards.gallery import gallery
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import gather


def test_captions_belong_to_their_pictures(tmp_path, make):
    store = Store(tmp_path)
    levels = {"dncnn": 29.2, "nlm": 27.5, "tv": 26.1, "noisy-input": 20.2}
    expected = {}
    for variant, level in levels.items():
        record, samples = make.unit(variant, 0, 0, level)
        if variant == "noisy-input":  # what it answers is what is given: shown once, under "given"
            samples["preview/photo0/answer"] = samples["preview/photo0/given"]
            samples["preview/photo1/answer"] = samples["preview/photo1/given"]
        else:
            samples["preview/photo0/answer"] = np.roll(samples["preview/photo0/answer"], round(level), -1)
        store.append(record, samples)
        expected["given" if variant == "noisy-input" else variant] = samples["metric/psnr"]
    board = boards.build(make.META, gather([tmp_path], reference=False))
    strips = gallery(board).strips
    assert strips
    for strip in strips:
        captions = {f.title: f.caption for f in strip.figures}
        assert set(captions) == {"clean", *expected}
        for title, values in expected.items():
            assert captions[title].split()[0] == f"{values[int(strip.title[-1])]:.2f}", title
        assert captions["clean"] == ""
