"""Kali fractals against the formula written out for one pixel, and the promises about seeds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from aelab.data import MEMORY, ImageFilter, kali_dataset
from aelab.data.image_filter import gaussian_blur, png_ratio
from aelab.data.sources.kali import MIXTURE, PRESETS, _turns
from aelab.data.sources.kali_formula import MODES, Parameters, Ranges, draw_block, render_kali
from aelab.errors import DataError
from aelab.founding.data import Kali2dDataset


def slow_pixel(
    parameters: Parameters, image: int, x: float, y: float, *, exponent: float = 0.0,
    sin_frequency: float = 0.0,
) -> list[float]:  # fmt: skip
    """One pixel as the description has it, in plain Python."""
    dims, channels = parameters.out_weights.shape[1:]
    scale, offset = float(parameters.scale[image]), parameters.offset[image].tolist()
    subtract = parameters.parameter[image].tolist()
    mode, n = MODES[int(parameters.mode[image])], int(parameters.iterations[image])
    p = [c * scale + o for c, o in zip([x, y] + [0.0] * (dims - 2), offset, strict=True)]
    start = float(n) if mode in ("min", "submin") else 0.0
    accum = [start] * dims
    for step in range(n):
        d = sum(v * v for v in p) + 1e-6
        p = [abs(v) / d for v in p]
        a = list(p)
        if exponent:
            a = [math.exp(-v * exponent) for v in a]
        if sin_frequency:
            a = [math.sin(v * sin_frequency) for v in a]
        for k in range(dims):
            if mode == "none":
                accum[k] = a[k]
            elif mode == "mean":
                accum[k] += a[k]
            elif mode == "max":
                accum[k] = max(accum[k], a[k])
            elif mode == "min":
                accum[k] = min(accum[k], a[k])
            elif mode == "submin":
                accum[k] -= min(accum[k], a[k])
            elif mode == "alternate":
                accum[k] += a[k] if step % 2 == 0 else -a[k]
        if step < n - 1:
            p = [v - s for v, s in zip(p, subtract, strict=True)]
    factor = {"none": 1.0, "min": float(n), "alternate": 2.0 / n}.get(mode, 1.0 / n)
    accum = [v * factor for v in accum]
    weights = parameters.out_weights[image].tolist()
    colour = [sum(accum[k] * weights[k][c] for k in range(dims)) for c in range(channels)]
    return [min(max(v, 0.0), 1.0) for v in colour]


def double(parameters: Parameters) -> Parameters:
    return Parameters(*(v.double() if v.is_floating_point() else v for v in parameters))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_equals_the_formula_pixel_by_pixel(mode: str, channels: int) -> None:
    parameters = double(draw_block(Ranges(iterations=(1, 12), modes=(mode,)), 7, 0, channels))
    parameters = parameters.rows(slice(0, 6))
    images = render_kali(parameters, (3, 5), dtype=torch.float64)
    assert images.shape == (6, channels, 3, 5)
    for image in range(6):
        for row in range(3):
            for column in range(5):
                slow = slow_pixel(parameters, image, column / 2 - 1, row - 1.0)
                fast = images[image, :, row, column].tolist()
                assert fast == pytest.approx(slow, abs=1e-7)


def test_exponent_and_sine_are_gathered_in_this_order() -> None:
    parameters = double(draw_block(Ranges(iterations=(2, 6), modes=("mean",)), 1, 0, 3))
    parameters = parameters.rows(slice(0, 4))
    images = render_kali(parameters, (1, 1), exponent=0.7, sin_frequency=3.0, dtype=torch.float64)
    for image in range(4):
        slow = slow_pixel(parameters, image, 0.0, 0.0, exponent=0.7, sin_frequency=3.0)
        assert images[image, :, 0, 0].tolist() == pytest.approx(slow, abs=1e-7)


def test_antialiasing_is_the_mean_of_shifted_renders() -> None:
    parameters = double(draw_block(Ranges(iterations=(1, 8)), 3, 0, 3)).rows(slice(0, 5))
    images = render_kali(parameters, (4, 4), aa=2, dtype=torch.float64)
    for image in range(5):
        shifted = [
            slow_pixel(parameters, image, -1 / 3 + right / 8, 1 / 3 + down / 8)
            for down in range(2)
            for right in range(2)
        ]
        mean = torch.tensor(shifted, dtype=torch.float64).mean(0)
        assert images[image, :, 2, 1].tolist() == pytest.approx(mean.tolist(), abs=1e-7)


def test_images_with_other_neighbours_are_the_same_images() -> None:
    parameters = draw_block(Ranges(), 5, 0, 3)
    together = render_kali(parameters, (8, 8))
    alone = torch.cat(
        [render_kali(parameters.rows(slice(i, i + 1)), (8, 8)) for i in range(0, 256, 17)]
    )
    assert torch.allclose(together[::17], alone, atol=1e-5)


def test_parameters_lie_in_their_ranges() -> None:
    ranges = Ranges((0.1, 0.5), (-1.0, 3.0), (5, 20), ("min", "max"))
    drawn = draw_block(ranges, 2, 0, 3)
    assert drawn.scale.min() >= 0.1 and drawn.scale.max() <= 0.5
    assert drawn.offset.min() >= -1 and drawn.offset.max() <= 3 and drawn.offset.mean() > 0.7
    assert drawn.parameter.min() >= 0 and drawn.parameter.max() <= 1.2
    assert drawn.iterations.min() >= 5 and drawn.iterations.max() <= 20
    assert {MODES[mode] for mode in drawn.mode.tolist()} == {"min", "max"}


def test_small_pictures_get_more_iterations() -> None:
    drawn = draw_block(Ranges((0.05, 0.05), iterations=(1, 37)), 2, 0, 3)
    assert drawn.iterations.min() >= 21


def test_the_sign_slip_moves_offsets_below_the_least() -> None:
    slipped = draw_block(Ranges(legacy_offset=True), 2, 0, 3).offset
    assert slipped.min() < -5.5 and slipped.max() <= -2
    right = kali_dataset(size=4).load()
    legacy = kali_dataset(size=4, legacy_offset=True).load()
    assert right.content_sha256 != legacy.content_sha256


def test_sets_are_deterministic_and_smaller_ones_begin_larger_ones() -> None:
    few = kali_dataset((3, 16, 16), 300).load().pixels
    MEMORY.clear()
    many = kali_dataset((3, 16, 16), 600).load().pixels
    assert torch.equal(few, many[:300])
    MEMORY.clear()
    assert torch.equal(kali_dataset((3, 16, 16), 300).load().pixels, few)


def test_other_seeds_share_no_interesting_image() -> None:
    first, second = (
        {
            i.numpy().tobytes()
            for i in kali_dataset(size=500, seed=s).load().pixels
            if i.float().std() > 5
        }
        for s in (23, 24)
    )
    assert len(first) > 300 and not first & second


def test_grey_is_the_luma_of_the_same_pictures_and_any_channels_work() -> None:
    colour = kali_dataset((3, 8, 8), 20).resize((1, 8, 8)).load().pixels
    assert torch.equal(kali_dataset((1, 8, 8), 20).load().pixels, colour)
    assert kali_dataset((2, 8, 9), 3).load().pixels.shape == (3, 2, 8, 9)
    assert kali_dataset((5, 8, 9), 3).load().pixels.shape == (3, 5, 8, 9)


def test_a_render_that_took_long_is_kept_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aelab.data.sources.kali._KEEP_SECONDS", 0.0)
    first = kali_dataset((3, 8, 8), 20).load()
    assert len(list((tmp_path / "cache" / "kali").iterdir())) == 1
    MEMORY.clear()
    monkeypatch.setattr("aelab.data.sources.kali.render_recipes", None)  # must not be asked again
    assert kali_dataset((3, 8, 8), 20).load().content_sha256 == first.content_sha256
    MEMORY.clear()
    monkeypatch.setattr("aelab.data.memory.MAPPED_BYTES", 0)
    mapped = kali_dataset((3, 8, 8), 20).load()
    assert mapped.facts["memory_mapped"] and mapped.content_sha256 == first.content_sha256


def test_an_unwritable_cache_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("aelab.data.sources.kali._KEEP_SECONDS", 0.0)
    assert len(kali_dataset((3, 8, 8), 20).load()) == 20


@pytest.mark.parametrize("preset", [3, 6, 8])
def test_presets_give_images_that_pass_their_filter(preset: int) -> None:
    pixels = kali_dataset((3, 16, 16), 6, preset=preset).load().pixels.float() / 255
    keep = PRESETS[preset - 1].keep
    assert keep is not None and keep.mean[1] is not None
    assert pixels.flatten(1).mean(1).max() <= keep.mean[1] + 0.1


def test_the_mixture_takes_turns_by_its_counts() -> None:
    turns = _turns(150, 1)
    assert torch.bincount(turns, minlength=11).tolist() == [10 * count for count in MIXTURE]
    assert turns[:15].sort()[0].tolist() == turns[15:30].sort()[0].tolist()
    assert turns[:15].tolist() != turns[15:30].tolist()


def test_a_filter_of_ones_own_chooses() -> None:
    dark = kali_dataset((3, 8, 8), 30, keep=ImageFilter(mean=(None, 0.2))).load().pixels
    assert dark.float().mean() < 0.2 * 255
    never = ImageFilter(also=lambda image: False)
    with pytest.raises(DataError, match="the filter kept 0 of"):
        kali_dataset((3, 4, 4), 5, keep=never, keep_size=2).load()


def test_filter_measures_are_what_they_say() -> None:
    flat = torch.full((1, 3, 16, 16), 0.5)
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert png_ratio(flat) < 0.2 < 0.9 < png_ratio(noise)
    assert torch.allclose(gaussian_blur(flat, 11, 10.0), flat)
    assert gaussian_blur(noise, 11, 10.0).std() < 0.1 * noise.std()
    assert ImageFilter(ratio=(0.9, None))(noise[0]) and not ImageFilter(ratio=(0.9, None))(flat[0])
    assert ImageFilter(std=(0.2, 0.4), channel_std=(0.2, None))(noise[0])
    assert not ImageFilter(scaled_ratio=(0.9, None))(flat[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accumulation_modes": ["mean", "maximum"]}, "did you mean 'max'"),
        ({"accumulation_modes": []}, "is empty"),
        ({"min_scale": 3.0}, "min_scale 3.0 is above max_scale 2.0"),
        ({"min_iterations": 0}, "starts at 1"),
        ({"preset": 12}, "preset is 1 to 11"),
        ({"preset": 2, "aa": 4}, "a preset decides"),
        ({"size": 0}, "size must be at least 1"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        kali_dataset(**arguments)  # type: ignore[arg-type]


def test_the_old_name_takes_the_old_arguments() -> None:
    old = Kali2dDataset((3, 8, 8), 10, 5, max_iterations=20, dtype=torch.float32, aa=2)
    new = kali_dataset((3, 8, 8), 10, 5, max_iterations=20, aa=2)
    assert old.load().content_sha256 == new.load().content_sha256
    with pytest.raises(DataError, match="with_parameters"):
        Kali2dDataset((3, 8, 8), 10, with_parameters=True)


def test_progress_counts_the_images_that_passed_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    from aelab import preparation as progress

    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(progress, "_INTERVAL_SECONDS", -1.0)
    told: list[int] = []
    few = ImageFilter(channel_std=(0.2, None))
    with progress.reporting(lambda what, done, total: told.append(done)):
        kali_dataset((1, 8, 8), size=60, seed=91, max_iterations=5, keep=few, keep_size=8).load()
    assert told == sorted(told) and told[-1] == 60 and 0 < told[0] < 60
