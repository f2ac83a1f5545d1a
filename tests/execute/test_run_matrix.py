"""The main path: a file in, run directories out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec, evaluate_blocks
from aelab.doctor.experiment import specs_of
from aelab.errors import Problems, UserError
from aelab.execute import events as ev
from aelab.execute.jobs import Job, Options
from aelab.execute.session import train_run
from aelab.execute.stop import StopRequest


def _run(file: Path, runs: Path, **options: object) -> list[ev.Event]:
    return list(lab.run(file, runs=runs, device="cpu", **options))  # type: ignore[arg-type]


def _state(runs: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(runs)): path.read_bytes()
        for path in sorted(runs.rglob("latest.safetensors"))
    }


def _losses(runs: Path) -> dict[str, list[dict]]:
    rows = {}
    for path in sorted(runs.rglob("metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line.pop("seconds")
        rows[str(path.relative_to(runs))] = lines
    return rows


def test_every_run_of_the_matrix_is_trained_and_stored(tiny: Path, tmp_path: Path) -> None:
    events = _run(tiny, tmp_path / "runs")
    assert isinstance(events[0], ev.MatrixStarted) and len(events[0].names) == 4
    assert isinstance(events[-1], ev.MatrixFinished)
    assert (events[-1].finished, events[-1].failed) == (4, 0)
    folder = tmp_path / "runs" / "tiny" / "net-mlp_seed-1"
    record = json.loads((folder / "run.json").read_text())
    assert record["matrix"] == {"net": "mlp", "seed": 1}
    assert record["shape"] == [1, 8, 8]
    assert record["parameters"]["model"] > 0
    assert record["data"]["train"][0]["count"] == 200
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["images"]) == ("finished", 480)
    assert {path.name for path in (folder / "images").iterdir()} >= {
        "train-originals.png",
        "heldout-originals.png",
        "train-000000000.png",
        "heldout-000000480.png",
    }


def test_the_same_command_again_skips_what_is_finished(tiny: Path, tmp_path: Path) -> None:
    _run(tiny, tmp_path / "runs")
    before = _state(tmp_path / "runs")
    events = _run(tiny, tmp_path / "runs")
    assert (events[-1].finished, events[-1].skipped) == (0, 4)  # type: ignore[union-attr]
    assert _state(tmp_path / "runs") == before


def test_the_same_seed_gives_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    _run(tiny, tmp_path / "a")
    _run(tiny, tmp_path / "b")
    assert _state(tmp_path / "a") == _state(tmp_path / "b")
    assert _losses(tmp_path / "a") == _losses(tmp_path / "b")


def test_a_run_is_built_once_on_its_way_to_training(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def counted(spec: RunSpec, *given: Any) -> Any:
        """The same, noted."""
        built.append(spec.name)
        return evaluate_blocks(spec, *given)

    monkeypatch.setattr("aelab.assembly.parts.evaluate_blocks", counted)
    stop = StopRequest()
    for event in lab.run(tiny, runs=tmp_path / "runs", device="cpu", only="*seed-1*", stop=stop):
        if isinstance(event, ev.RunProgress) and event.images >= 240 and not stop:
            stop.ask()
    assert built == ["tiny/net:mlp_seed:1"]
    _run(tiny, tmp_path / "runs", only="*seed-1*")
    assert built == ["tiny/net:mlp_seed:1"] * 2 + ["tiny/net:conv_seed:1"]


def test_what_a_look_at_a_run_built_trains_to_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    _run(tiny, tmp_path / "looked", only="*seed-1*")
    workspace = Workspace.of(tmp_path / "at-once", device="cpu")
    for number, spec in enumerate(specs_of(tiny, workspace, "*seed-1*"), 1):
        list(train_run(Job(spec, number), workspace, Options(), StopRequest()))
    assert _state(tmp_path / "at-once") == _state(tmp_path / "looked")
    assert _losses(tmp_path / "at-once") == _losses(tmp_path / "looked")


def test_another_seed_gives_other_weights_and_the_same_architecture(
    tiny: Path, tmp_path: Path
) -> None:
    _run(tiny, tmp_path / "runs", only="net-mlp*")
    one, two = _state(tmp_path / "runs").values()
    assert one != two and len(one) == len(two)


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_a_stopped_run_continues_bit_for_bit(tiny: Path, tmp_path: Path, net: str) -> None:
    only = f"tiny/net-{net}_seed-1"
    _run(tiny, tmp_path / "whole", only=only)
    stop = StopRequest()
    for event in lab.run(tiny, runs=tmp_path / "cut", device="cpu", only=only, stop=stop):
        if isinstance(event, ev.RunProgress) and event.images >= 240 and not stop:
            stop.ask()
    assert isinstance(event, ev.MatrixFinished) and event.interrupted
    status = json.loads((tmp_path / "cut" / only / "status.json").read_text())
    assert status["state"] == "interrupted" and 240 <= status["images"] < 480
    _run(tiny, tmp_path / "cut", only=only)
    assert _losses(tmp_path / "whole") == _losses(tmp_path / "cut")
    whole, cut = _state(tmp_path / "whole"), _state(tmp_path / "cut")
    assert whole == cut


def test_one_failing_run_does_not_end_the_matrix(tiny: Path, tmp_path: Path) -> None:
    text = tiny.read_text().replace("learnrate: 0.001", "learnrate: ${lr}")
    text = text.replace("seed: [1, 2]", "seed: [1]\n  lr: [0.001, 1e30]")
    tiny.write_text(text)
    events = _run(tiny, tmp_path / "runs")
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished)
    assert (last.finished, last.failed) == (2, 2)
    table = json.loads(lab.table(runs=tmp_path / "runs", format="json"))
    failed = [row for row in table if row["state"] == "failed"]
    assert len(failed) == 2
    assert all("diverged" in str(row) for row in failed)


def test_a_failed_run_is_trained_again_only_on_request(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text().replace("learnrate: 0.001", "learnrate: 1e30"))
    runs = tmp_path / "runs"
    assert _run(tiny, runs, only="net-mlp_seed-1")[-1].failed == 1  # type: ignore[union-attr]
    assert _run(tiny, runs, only="net-mlp_seed-1")[-1].skipped == 1  # type: ignore[union-attr]
    again = _run(tiny, runs, only="net-mlp_seed-1", retry_failed=True)
    assert again[-1].failed == 1  # type: ignore[union-attr]


def test_changed_settings_do_not_overwrite_a_stored_run(tiny: Path, tmp_path: Path) -> None:
    _run(tiny, tmp_path / "runs", only="net-mlp_seed-1")
    tiny.write_text(tiny.read_text().replace("learnrate: 0.001", "learnrate: 0.002"))
    with pytest.raises(Problems, match="different run") as caught:
        _run(tiny, tmp_path / "runs", only="net-mlp_seed-1")
    assert "--restart" in str(caught.value)
    events = _run(tiny, tmp_path / "runs", only="net-mlp_seed-1", restart=True)
    assert events[-1].finished == 1  # type: ignore[union-attr]


def test_load_starts_a_new_run_from_a_kept_checkpoint(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text() + "keep_checkpoints: all\n")
    runs = tmp_path / "runs"
    _run(tiny, runs, only="net-mlp_seed-1")
    other = tiny.with_name("other.yml")
    text = tiny.read_text().replace("experiment_name: tiny/", "experiment_name: other/")
    other.write_text(
        text.replace("learnrate: 0.001", "learnrate: 1e-30") + "load: tiny/net-mlp_seed-1@160\n"
    )
    _run(other, runs, only="net-mlp_seed-1")
    import safetensors.torch

    source = safetensors.torch.load_file(
        runs / "tiny/net-mlp_seed-1/checkpoints/images-000000160.safetensors"
    )
    copied = safetensors.torch.load_file(
        runs / "other/net-mlp_seed-1/checkpoints/latest.safetensors"
    )
    weights = [name for name in source if name.startswith("model.")]
    assert weights and all(source[name].equal(copied[name]) for name in weights)


def test_an_unknown_glob_names_the_runs(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run of .* matches 'nothing'") as caught:
        _run(tiny, tmp_path / "runs", only="nothing")
    assert "tiny/net:mlp_seed:1" in str(caught.value)


def test_every_mistake_of_a_file_is_told_before_anything_is_trained(
    tiny: Path, tmp_path: Path
) -> None:
    text = tiny.read_text().replace("batch_size: 16", "batch_size: many\nbatchsize: 3")
    tiny.write_text(text)
    with pytest.raises(Problems) as caught:
        _run(tiny, tmp_path / "runs")
    assert "batch_size" in str(caught.value) and "batchsize" in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_check_lists_runs_with_costs(tiny: Path) -> None:
    plan = lab.check(tiny)
    assert [run.problems for run in plan.runs] == [[], [], [], []]
    conv = next(run for run in plan.runs if run.matrix["net"] == "conv")
    assert conv.parameters["model"] == conv.parameters["encoder"] + conv.parameters["decoder"]
    assert conv.images == 480 and conv.flops_per_image and conv.estimated_seconds
    assert conv.estimated_memory_mb and conv.latent_shape == (8,)


@pytest.mark.parametrize(("model", "planned"), [("net", 2), ("seed and net", 4)])
def test_check_builds_runs_that_differ_in_their_seed_once(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, model: str, planned: int
) -> None:
    from aelab.doctor import preflight

    names: list[str] = []
    plan = preflight._plan
    monkeypatch.setattr(
        preflight, "_plan", lambda spec, *rest: (names.append(spec.name), plan(spec, *rest))[1]
    )
    # A block that mentions the seed may build another model with it.
    tiny.write_text(tiny.read_text().replace("}[net]", f"}}[{model}]"))
    found = lab.check(tiny)
    assert len(names) == planned
    assert [run.name for run in found.runs] == [
        f"tiny/net:{net}_seed:{seed}" for net in ("mlp", "conv") for seed in (1, 2)
    ]
    assert [run.matrix["seed"] for run in found.runs] == [1, 2, 1, 2]
    assert found.runs[0].parameters == found.runs[1].parameters != found.runs[2].parameters


def test_check_names_the_impossible_run_and_keeps_the_others(tiny: Path) -> None:
    text = tiny.read_text().replace("kernel_size=3", "kernel_size=ks")
    tiny.write_text(text.replace("seed: [1, 2]", "seed: [1]\n  ks: [3, 7]"))
    plan = lab.check(tiny)
    bad = [run for run in plan.runs if run.problems]
    assert [run.matrix for run in bad] == [{"net": "conv", "seed": 1, "ks": 7}]
    assert "8" in bad[0].problems[0]


def test_resolved_text_gives_the_same_run_again(tiny: Path, tmp_path: Path) -> None:
    from aelab import config

    _run(tiny, tmp_path / "runs", only="net-conv_seed-2")
    folder = tmp_path / "runs" / "tiny" / "net-conv_seed-2"
    (again,) = config.load(folder / "resolved.yml").runs()
    assert again.identity == json.loads((folder / "run.json").read_text())["identity"]


def test_a_run_that_another_process_trains_is_refused(tiny: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    runs = tmp_path / "runs"
    _run(tiny, runs, only="net-mlp_seed-1")
    folder = runs / "tiny" / "net-mlp_seed-1"
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    with FileLock(folder / "lock"):
        events = _run(tiny, runs, only="net-mlp_seed-1")
    skipped = [event for event in events if isinstance(event, ev.RunSkipped)]
    assert len(skipped) == 1 and "trained by" in skipped[0].reason


def test_a_folder_of_another_run_is_found_before_anything_is_trained(
    tiny: Path, tmp_path: Path
) -> None:
    _run(tiny, tmp_path / "runs", only="net-conv_seed-2")
    tiny.write_text(tiny.read_text().replace("learnrate: 0.001", "learnrate: 0.002"))
    with pytest.raises(Problems, match="net-conv_seed-2"):
        _run(tiny, tmp_path / "runs")
    assert [path.name for path in (tmp_path / "runs/tiny").iterdir()] == ["net-conv_seed-2"]


def test_changed_data_fail_their_run_and_no_other(tiny: Path, tmp_path: Path) -> None:
    runs, only = tmp_path / "runs", "net-mlp*"
    stop = StopRequest()
    for event in lab.run(tiny, runs=runs, device="cpu", only="net-mlp_seed-1", stop=stop):
        if isinstance(event, ev.RunValidated) and not stop:
            stop.ask()
    record = runs / "tiny/net-mlp_seed-1/run.json"
    changed = json.loads(record.read_text())
    changed["data"]["train_content"] = "0" * 64
    record.write_text(json.dumps(changed))
    events = _run(tiny, runs, only=only)
    (failed,) = [event for event in events if isinstance(event, ev.RunErred)]
    assert "have changed" in failed.message and "--restart" in failed.message
    assert events[-1].finished == 1  # type: ignore[union-attr]


def test_a_damaged_latest_state_costs_training_but_no_results(tiny: Path, tmp_path: Path) -> None:
    only = "tiny/net-mlp_seed-1"
    _run(tiny, tmp_path / "whole", only=only)
    stop = StopRequest()
    for event in lab.run(tiny, runs=tmp_path / "cut", device="cpu", only=only, stop=stop):
        if isinstance(event, ev.RunProgress) and event.images >= 400 and not stop:
            stop.ask()
    folder = tmp_path / "cut" / only
    latest = folder / "checkpoints/latest.safetensors"
    damaged = latest.read_bytes()[:-100]
    latest.unlink()  # it may share its bytes with another state
    latest.write_bytes(damaged)
    _run(tiny, tmp_path / "cut", only=only)
    assert "skipped" in (folder / "log.txt").read_text()
    assert _losses(tmp_path / "whole") == _losses(tmp_path / "cut")
    assert _state(tmp_path / "whole") == _state(tmp_path / "cut")


def test_runs_in_folders_with_old_slugs_are_found_by_their_file(tiny: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    _run(tiny, runs, only="net-mlp*")
    (runs / "tiny/net-mlp_seed-1").rename(runs / "tiny/net:mlp_seed:1")
    found = lab.find_runs(tiny, runs=runs)
    assert [run.folder for run in found] == ["tiny/net:mlp_seed:1", "tiny/net-mlp_seed-2"]
    assert lab.table(tiny, runs=runs, each=True).count("mlp") == 2


def test_runs_made_with_more_trials_are_found_by_their_file(tiny: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    _run(tiny, runs, only="*mlp*seed:1*", changes={"trials": 2})
    found = lab.find_runs(tiny, runs=runs)
    assert [entry.folder.rpartition("_")[2] for entry in found] == ["trial-1", "trial-2"]
