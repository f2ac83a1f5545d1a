"""Each check of a built run finds its fault, says by how much, and is silent on a sound run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab import config, lab
from aelab.assembly.parts import build
from aelab.assembly.workspace import Workspace
from aelab.doctor import checks, preflight
from aelab.doctor.checks import CHECKS, BuiltRun, bypass, examine, pictures, schedule
from aelab.doctor.examination import FEW_BATCHES, _covering, _spread, built_run
from aelab.doctor.reader import Reader
from aelab.findings import CODES, Finding
from aelab.losses.names import PENALTIES
from aelab.models import DecoderMLP, EncoderDecoder, EncoderMLP, implicit
from aelab.types import Output

FILE = {
    "experiment_name": "sound",
    "train_set": "noise_dataset((1, 8, 8), size=256, mean=.5, std=.2, seed=1)",
    "validation_set": "noise_dataset((1, 8, 8), size=64, mean=.5, std=.2, seed=2)",
    "model": "EncoderDecoder(EncoderMLP((1, 8, 8), 8), DecoderMLP((1, 8, 8), 8))",
    "loss_function": "l1",
    "batch_size": "16",
    "learnrate": "0.001",
    "optimizer": "Adam",
    "max_images": "16000",
}
ENCODER, DECODER = "EncoderMLP((1, 8, 8), 8)", "DecoderMLP((1, 8, 8), 8)"


def written(folder: Path, **keys: str) -> Path:
    path = folder / "file.yml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in {**FILE, **keys}.items()))
    return path


def built(folder: Path, **keys: str) -> BuiltRun:
    (spec,) = config.load(written(folder, **keys)).runs()
    parts = build(spec, Workspace(device="cpu"))
    return built_run(spec, parts, Reader().look(parts.train[0]), 20_000)


def found(folder: Path, **keys: str) -> dict[str, Finding]:
    return {entry.code: entry for entry in examine(built(folder, **keys))}


def only(folder: Path, code: str, **keys: str) -> Finding:
    """The only finding of a file, which has this code."""
    told = found(folder, **keys)
    assert list(told) == [code], told
    assert told[code].way_out and CODES[code].has_figures
    return told[code]


def block(text: str) -> str:
    return "|\n" + "".join(f"  {line}\n" for line in text.strip().splitlines())


def test_a_sound_run_has_no_finding_and_is_left_as_it_is(tmp_path: Path) -> None:
    run = built(tmp_path)
    weights = [p.clone() for p in run.parts.model.parameters()]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert examine(run) == []
    assert torch.equal(state, torch.get_rng_state()) and threads == torch.get_num_threads()
    assert all(map(torch.equal, weights, run.parts.model.parameters()))


@pytest.mark.parametrize(
    ("scheduler", "code"),
    [
        ("{CosineAnnealingLR: {T_max: 600}}", "schedule-rises-again"),
        ("{CosineAnnealingLR: {T_max: 1000}}", None),
        ("{ExponentialLR: {gamma: 0.98}}", "schedule-ends-early"),
        ("{ExponentialLR: {gamma: 0.9993}}", None),
        ("{WarmupCosine: {warmup_images: 4000}}", None),
        ("{OneCycleLR: {}}", None),
        ("{CosineAnnealingWarmRestarts: {T_0: 100}}", None),
        ("{StepLR: {step_size: 300}}", None),
    ],
)
def test_a_schedule_ends_with_its_run(tmp_path: Path, scheduler: str, code: str | None) -> None:
    if code is None:
        assert found(tmp_path, scheduler=scheduler) == {}
        return
    told = only(tmp_path, code, scheduler=scheduler)
    assert "1,000 batches" in told.way_out or "1,000" in told.way_out


def test_a_short_run_is_looked_at_and_of_a_long_one_no_part_is_taken_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = "{ExponentialLR: {gamma: 0.9}}"
    told = only(tmp_path, "schedule-ends-early", scheduler=dies, max_images="2400")
    assert "after 44% of the run" in told.message  # 0.9 ** 66 is a thousandth; 150 batches
    monkeypatch.setattr(schedule, "MOST_STEPS", 600)
    rises = "{CosineAnnealingLR: {T_max: 400}}"
    assert found(tmp_path, scheduler=rises) == {}
    assert schedule.rates_of(built(tmp_path, scheduler=rises)) == []


def test_dropout_that_stays_in_evaluation_mode_is_named(tmp_path: Path) -> None:
    drop = "class Drop(nn.Module):\n  def forward(self, x):\n    return F.dropout(x, 0.5, True)"
    model = f"EncoderDecoder(nn.Sequential(EncoderMLP((1, 8, 8), 8), Drop()), {DECODER})"
    (spec,) = config.load(written(tmp_path, model=block(f"{drop}\n{model}")), trust=True).runs()
    parts = build(spec, Workspace(device="cpu", trust=True))
    run = built_run(spec, parts, Reader().look(parts.train[0]), 20_000)
    codes = [entry.code for entry in examine(run)]
    assert codes == ["random-in-evaluation"]


def test_statistics_of_the_batch_in_evaluation_mode_tie_its_images_together(tmp_path: Path) -> None:
    norm = "nn.BatchNorm1d(8, track_running_stats=False)"
    model = f"EncoderDecoder(nn.Sequential(EncoderMLP((1, 8, 8), 8), {norm}), {DECODER})"
    told = only(tmp_path, "batch-mates", model=model)
    assert "BatchNorm1d 'encoder.1'" in told.message and "%" in told.message


@pytest.mark.parametrize(("size", "told"), [(163, True), (176, False)])
def test_a_norm_that_learns_from_a_last_batch_of_three_is_named(
    tmp_path: Path, size: int, told: bool
) -> None:
    model = f"EncoderDecoder(nn.Sequential(EncoderMLP((1, 8, 8), 8), nn.BatchNorm1d(8)), {DECODER})"
    data = f"noise_dataset((1, 8, 8), size={size}, mean=.5, std=.2, seed=1)"
    if not told:
        assert found(tmp_path, model=model, train_set=data) == {}
        return
    tiny = only(tmp_path, "tiny-last-batch", model=model, train_set=data)
    assert "batch of 3 images" in tiny.message and "10%" in tiny.message
    assert 163 % int(tiny.way_out.split()[1].strip(",")) >= 16


def test_a_sigmoid_that_l1_pulls_to_black_is_named(tmp_path: Path) -> None:
    dark = "TensorDataset((torch.rand(256, 1, 8, 8) - 0.7).clamp(0, 1))"
    model = 'EncoderDecoder(EncoderMLP((1, 8, 8), 8), DecoderMLP((1, 8, 8), 8, activation_last_layer="sigmoid"))'  # noqa: E501
    told = only(tmp_path, "output-saturates", train_set=dark, model=model)
    assert "100% of the pixels are 0 in more than half" in told.message
    assert found(tmp_path, train_set=dark, model=model, loss_function="l2") == {}


def test_a_tanh_saturates_at_white_and_not_at_the_black_in_its_middle(tmp_path: Path) -> None:
    model = 'EncoderDecoder(EncoderMLP((1, 8, 8), 8), DecoderMLP((1, 8, 8), 8, activation_last_layer="tanh"))'  # noqa: E501
    dark = "TensorDataset((torch.rand(256, 1, 8, 8) - 0.7).clamp(0, 1))"
    bright = "TensorDataset((torch.rand(256, 1, 8, 8) + 0.7).clamp(0, 1))"
    assert found(tmp_path, train_set=dark, model=model) == {}
    told = only(tmp_path, "output-saturates", train_set=bright, model=model)
    assert "100% of the pixels are 1 in more than half" in told.message


@pytest.mark.parametrize("name", ["Sigmoid", "ReLU"])
def test_a_decoder_that_makes_its_pictures_in_parts_has_a_last_activation_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(implicit, "_CPU_NUMBERS", 2 * 64 * 16)  # two pictures at a time
    dark = "TensorDataset((torch.rand(256, 1, 8, 8) - 0.7).clamp(0, 1))"
    decoder = (
        "ImageManifoldDecoder(8, 1, default_shape=(8, 8), num_hidden=16, "
        f'activation_out="{name.lower()}")'
    )
    model = f"EncoderDecoder(EncoderMLP((1, 8, 8), 8), {decoder})"
    told = found(tmp_path, train_set=dark, model=model)
    if name == "Sigmoid":
        assert "ends with Sigmoid" in told["output-saturates"].message
        return
    run = built(tmp_path, train_set=dark, model=model)
    last = pictures._last_activation(run)
    assert last is not None
    _, slopes, values = last
    assert torch.equal(slopes, (values > 0).float())  # each slope beside its value


def test_a_latent_with_more_numbers_than_directions_is_named(tmp_path: Path) -> None:
    flat = "TensorDataset(torch.rand(256, 1, 1, 4).expand(256, 1, 8, 4).repeat(1, 1, 1, 2) * 1.0)"
    told = only(tmp_path, "latent-too-wide", train_set=flat)
    assert "8 numbers" in told.message and "4 directions" in told.message
    wide = "EncoderDecoder(EncoderMLP((1, 8, 8), 64), DecoderMLP((1, 8, 8), 64))"
    told = only(tmp_path, "latent-too-wide", model=wide)
    assert told.level == "warning" and told.way_out.endswith("6 numbers")


@pytest.mark.parametrize(
    "model",
    [
        "top_down_vae((1, 8, 8), cells=(1, 1), channels=8, latent_channels=8)",
        "MaskedAutoencoder((1, 8, 8), 64, patch_size=4, num_hidden=16)",
        f"VariationalAutoencoder(VariationalEncoder({ENCODER}, 8, 80), DecoderMLP((1, 8, 8), 80))",
    ],
)
def test_a_wide_latent_that_is_limited_otherwise_is_right(tmp_path: Path, model: str) -> None:
    run = built(tmp_path, model=model)
    assert run.first_pass.output.latent[0].numel() > 64
    told = [entry.level for entry in examine(run) if entry.code == "latent-too-wide"]
    assert "warning" not in told


def test_a_term_without_gradient_is_named(tmp_path: Path) -> None:
    model = f"EncoderDecoder(EncoderMLP((1, 8, 8), 8), nn.Sequential({DECODER}, nn.Softshrink(9)))"
    told = only(tmp_path, "term-without-gradient", model=model)
    assert told.message.startswith("l1 has no gradient at the start")


def test_a_term_that_outweighs_the_picture_is_named(tmp_path: Path) -> None:
    told = only(tmp_path, "term-outweighed", objective="{l1: 1, feature_statistics: 5000}",
                loss_function="l1")  # fmt: skip
    assert "feature_statistics outweighs l1" in told.message
    assert found(tmp_path, objective="{l1: 1, feature_statistics: 0.1}") == {}


@pytest.mark.parametrize(
    ("weight", "code"), [(1.0, "kl-collapse"), (0.001, None), (1e-12, "kl-without-effect")]
)
def test_the_weight_of_a_kl_is_judged_by_the_pixels(
    tmp_path: Path, weight: float, code: str | None
) -> None:
    model = (
        "VariationalAutoencoder(VariationalEncoder(EncoderMLP((1, 8, 8), 16), 16, 8), "
        f'{DECODER}, reconstruction_loss="l2", kl_loss_weight={weight})'
    )
    if code is None:
        assert found(tmp_path, model=model) == {}
    else:
        assert "64 pixels" in only(tmp_path, code, model=model).message


@pytest.mark.parametrize(
    ("decoder", "told"),
    [
        ("kernel_size=3, stride=2", "1 of 8 rows and 1 of 8 columns"),
        ("kernel_size=(2, 2), stride=(1, 3)", "2 of 8 rows and 2 of 8 columns"),
        ("kernel_size=4, stride=2, channels=(16,)", None),
        ("kernel_size=3, stride=1", None),
    ],
)
def test_rows_and_columns_that_no_kernel_reaches_are_counted(
    tmp_path: Path, decoder: str, told: str | None
) -> None:
    model = f"EncoderDecoder({ENCODER}, DecoderConv2d((1, 8, 8), 8, {decoder}))"
    if told is None:
        assert found(tmp_path, model=model) == {}
        return
    finding = only(tmp_path, "pixels-unreached", model=model)
    assert told in finding.message and "kernel_size" in finding.way_out


def test_pixels_that_are_equal_in_all_images_need_no_kernel(tmp_path: Path) -> None:
    run = built(tmp_path, model=f"EncoderDecoder({ENCODER}, DecoderConv2d((1, 8, 8), 8, stride=2))")
    pixels = run.train.pixels.clone()
    assert list(pictures.unreached_pixels(run))
    pixels[:, :, -1], pixels[:, :, :, -1] = 0, 0
    black = replace(run, train=replace(run.train, pixels=pixels, content_sha256=""))
    assert list(pictures.unreached_pixels(black)) == []


def test_a_penalty_that_a_smaller_code_escapes_is_named(tmp_path: Path) -> None:
    told = only(tmp_path, "free-rescaling", objective="{l1: 1, latent_l2: 0.5}")
    assert "latent_l2 shrinks the code" in told.message
    slope = "{l1: 1, latent_l2: 0.5, decoder_gradient: 0.1}"  # grows as the decoder does
    assert found(tmp_path, objective=slope) == {}


def test_a_flatter_encoder_with_a_steeper_decoder_escapes_the_contractive_penalty(
    tmp_path: Path,
) -> None:
    told = only(tmp_path, "free-rescaling", objective="{l1: 1, contractive: 0.1}")
    assert "contractive shrinks the code" in told.message
    decays = "{AdamW: {weight_decay: 0.01}}"
    assert found(tmp_path, objective="{l1: 1, contractive: 0.1}", optimizer=decays) == {}


def test_a_penalty_that_is_smaller_for_larger_codes_has_a_minimum_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hill(output: Output) -> Tensor:  # as `mmd` for small codes beside the prior's middle
        size = output.latent.flatten(1).abs().mean(1)
        return 2 * size - size.square()

    monkeypatch.setitem(PENALTIES._ours, "hill", hill)
    assert found(tmp_path, objective="{l1: 1, hill: 0.1}") == {}
    monkeypatch.setattr("aelab.doctor.checks.objective.LARGER", ())
    assert "free-rescaling" in found(tmp_path, objective="{l1: 1, hill: 0.1}")


@pytest.mark.parametrize("penalty", ["latent_l1", "latent_l2"])
def test_weights_that_decay_bound_the_decoder_against_a_smaller_code(
    tmp_path: Path, penalty: str
) -> None:
    """Regularised autoencoders of Ghosh et al. 2020 (RAE-L2): the way out that the doctor names."""
    objective = f"{{l1: 1, {penalty}: 0.5}}"
    assert found(tmp_path, objective=objective, optimizer="AdamW") == {}
    assert "free-rescaling" in found(
        tmp_path, objective=objective, optimizer="{AdamW: {weight_decay: 0}}"
    )


@pytest.mark.parametrize(
    "scheduler",
    [
        "{ExponentialLR: {gamma: 1.005}}",
        "{MultiStepLR: {milestones: [200, 400], gamma: 12}}",
    ],
)
def test_a_rate_that_rises_to_the_end_of_the_run_is_named(tmp_path: Path, scheduler: str) -> None:
    told = only(tmp_path, "schedule-rises-again", scheduler=scheduler, learnrate="1e-4")
    assert "after 30% of the run" in told.message and "at its end" in told.message
    assert found(tmp_path, scheduler="{MultiStepLR: {milestones: [200, 400], gamma: 0.5}}") == {}


def test_a_rate_that_explodes_in_a_few_steps_is_named(tmp_path: Path) -> None:
    told = only(tmp_path, "learnrate-explodes", learnrate="0.09")
    assert "times above the usual one of Adam" in told.message
    assert found(tmp_path, learnrate="0.005") == {}


def test_a_check_that_fails_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: BuiltRun) -> list[Finding]:
        raise ZeroDivisionError("of the check")

    monkeypatch.setattr(checks, "CHECKS", (broken, *CHECKS))
    (told,) = examine(built(tmp_path))
    assert told.code == "check-failed" and "broken" in told.message
    assert "ZeroDivisionError: of the check" in told.message


def test_without_images_what_needs_none_is_still_looked_for(tmp_path: Path) -> None:
    norm = "nn.BatchNorm1d(8, track_running_stats=False)"
    model = f"EncoderDecoder(nn.Sequential(EncoderMLP((1, 8, 8), 8), {norm}), {DECODER})"
    run = replace(built(tmp_path, model=model), train=None)
    assert [entry.code for entry in examine(run)] == ["batch-mates"]


def test_checks_that_change_weights_give_them_back(tmp_path: Path) -> None:
    run = built(tmp_path, objective="{l1: 1, latent_l2: 0.5}")
    before = [parameter.clone() for parameter in run.model.parameters()]
    assert [entry.code for entry in examine(run)] == ["free-rescaling"]
    for own, model, shared in zip(
        before, run.model.parameters(), run.evaluated.parameters(), strict=True
    ):
        assert torch.equal(own, model) and torch.equal(own, shared)


def test_a_statistic_of_a_set_is_that_of_its_sample_and_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = built(tmp_path)
    assert torch.allclose(run.variance, run.sample.var(0))
    assert torch.equal(run.median, run.sample.sort(0).values[(len(run.sample) - 1) // 2])
    other = built(tmp_path)
    monkeypatch.setattr(BuiltRun, "sample", None)
    assert torch.equal(other.variance, run.variance) and torch.equal(other.median, run.median)


def test_runs_are_looked_into_from_both_ends_of_a_matrix() -> None:
    assert list(_spread(6)) == [0, 5, 2, 1, 3, 4]
    assert [sorted(_spread(n)) for n in range(4)] == [[], [0], [0, 1], [0, 1, 2]]


def test_each_value_of_each_matrix_key_is_looked_into_before_any_twice() -> None:
    matrix = [{"width": width, "lr": lr} for width in range(8) for lr in range(5)]
    found = list(_covering(matrix))
    first = [place for place, is_met in found if not is_met]
    assert [is_met for _, is_met in found] == [False] * 8 + [True] * 32
    assert {matrix[place]["width"] for place in first} == set(range(8))
    assert {matrix[place]["lr"] for place in first[:5]} == set(range(5))
    assert sorted(place for place, _ in found) == list(range(40))


def test_a_model_is_tried_once_for_runs_that_learn_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    try_model = preflight.try_model

    def counted(*given: Any) -> Any:
        tried.append(given)
        return try_model(*given)

    monkeypatch.setattr(preflight, "try_model", counted)
    keys = {
        "experiment_name": "${matrix_slug}",
        "matrix": "{rate: [0.1, 0.01, 0.001], code: [2, 4]}",
        "model": FILE["model"].replace("8), 8)", "8), ${code})"),
        "learnrate": "${rate}",
    }
    plan = lab.check(written(tmp_path, **keys))
    assert len(tried) == 2 and not plan.problems
    assert [run.latent_shape for run in plan.runs] == [(2,), (4,)] * 3


def test_check_run_record_table_and_report_say_the_same(tmp_path: Path) -> None:
    norm = "nn.BatchNorm1d(8, track_running_stats=False)"
    model = f"EncoderDecoder(nn.Sequential(EncoderMLP((1, 8, 8), 8), {norm}), {DECODER})"
    enough = str(16 * FEW_BATCHES)
    path = written(tmp_path, model=model, max_images=enough, trials="2")
    plan = lab.check(path)
    (planned,) = plan.findings
    assert planned.code == "batch-mates" and all(run.is_examined for run in plan.runs)
    runs = tmp_path / "runs"
    events = list(lab.run(path, runs=runs, device="cpu"))
    told = [e.findings for e in events if getattr(e, "parameters", None)]
    assert [[f.code for f in fs] for fs in told] == [["batch-mates"]] * 2
    records = [json.loads(file.read_text()) for file in sorted(runs.rglob("run.json"))]
    assert [[f["code"] for f in r["findings"]] for r in records] == [["batch-mates"]] * 2
    assert lab.table(runs=runs, format="markdown").count("depends on the other images") == 1
    page = lab.report(runs=runs, out=tmp_path / "page.html").read_text()
    assert page.count("depends on the other images") == 2 and "(2 of 2 runs)" in page


def test_a_run_of_a_few_batches_is_not_looked_into(tmp_path: Path) -> None:
    norm = "nn.BatchNorm1d(8, track_running_stats=False)"
    model = f"EncoderDecoder(nn.Sequential(EncoderMLP((1, 8, 8), 8), {norm}), {DECODER})"
    path = written(tmp_path, model=model, max_images="160")
    list(lab.run(path, runs=tmp_path / "runs", device="cpu"))
    (record,) = (tmp_path / "runs").rglob("run.json")
    assert json.loads(record.read_text())["findings"] == []


def test_skips_beside_the_code_are_told_with_the_losses_of_swapped_parts(tmp_path: Path) -> None:
    digits = {
        "train_set": "digits_dataset()",
        "validation_set": "digits_dataset(train=False)",
        "loss_function": "l2",
        "learnrate": "0.003",
    }
    told = found(tmp_path, model="UNet((1, 28, 28), 8, channels=(8, 8))", **digits)["code-bypassed"]
    assert told.level == "warning" and "steps of a trial" in told.message
    numbers = re.findall(r"(?:loss is|images|zeros) ([\d.]+\d)", told.message)
    own, others, zeros, beside = map(float, numbers)
    assert own < 0.03 and others < 1.5 * own and zeros < 1.5 * own and beside > 3 * own
    assert "skips=0" in told.way_out and CODES["code-bypassed"].has_figures


def test_skips_are_noted_where_a_trial_shows_nothing(tmp_path: Path) -> None:
    told = only(tmp_path, "code-bypassed", model="UNet((1, 8, 8), 8, channels=(8, 8))")
    assert told.level == "note" and "hardly need the code" not in told.message
    assert found(tmp_path, model="UNet((1, 8, 8), 8, channels=(8, 8), skips=0)") == {}


def test_a_model_whose_pictures_are_not_those_of_its_codes_is_found_without_skips(
    tmp_path: Path,
) -> None:
    class Cheating(nn.Module):
        """Adds half of the image to what its code gives."""

        noise_shape, terms = None, ()

        def __init__(self) -> None:
            super().__init__()
            self.inner = EncoderDecoder(EncoderMLP((1, 8, 8), 8), DecoderMLP((1, 8, 8), 8))
            self.encode, self.decode = self.inner.encode, self.inner.decode

        def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
            output: Output = self.inner(images)
            return output._replace(reconstruction=output.reconstruction + images / 2)

    run = built(tmp_path)
    assert list(bypass.pictures_beside_code(run)) == []
    (told,) = bypass.pictures_beside_code(replace(run, parts=replace(run.parts, model=Cheating())))
    assert told.level == "warning" and "% of their spread" in told.message
