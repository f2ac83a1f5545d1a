"""A run for other programs: graphs, weights and a card, loaded as the card says."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from aelab.bridges import hub
from aelab.cli.main import app
from aelab.errors import MissingExtra, StoreError, UserError
from aelab.lab import Lab
from aelab.study.graphs import largest_difference
from aelab.study.opened import OpenedRun

pytest.importorskip("onnxruntime")

FILE = """
experiment_name: digits/vae
train_set: image_folder_dataset("private/photos", (1, 8, 8)).transform(VT.Normalize([0.5], [0.5]))
model: |
  VariationalAutoencoder(
      VariationalEncoder(EncoderMLP((1, 8, 8), 6, hidden=(8,)), 6, 3),
      DecoderMLP((1, 8, 8), 3, hidden=(8,)), "l2", 1.0, 0.001)
batch_size: 4
learnrate: 0.01
optimizer: Adam
max_images: 32
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a range of -1..1 and without a validation set, and its export."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "private/photos").mkdir(parents=True)
    made = np.random.default_rng(0)
    for number in range(8):
        pixels = made.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"private/photos/{number}.png")
    (folder / "vae.yml").write_text(FILE)
    here = Lab(folder / "runs", device="cpu")
    for _ in here.run(folder / "vae.yml"):
        pass
    here.open("digits/vae").export(folder / "exported", license="cc-by-4.0")
    return folder


@pytest.fixture
def opened(home: Path) -> OpenedRun:
    return Lab(home / "runs", device="cpu").open("digits/vae")


#: What a stranger has: no aelab at all.
_WITHOUT_AELAB = "import sys; sys.modules['aelab'] = None\n"


def loaded(folder: Path, first_line: str, given: np.ndarray, *, alone: bool = False) -> Any:
    """What the loading example of the card gives for some images.

    Args:
        alone: in a process of its own that has no aelab.
    """
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    (code,) = [block for block in blocks if block.startswith(first_line)]
    assert len(code.splitlines()) == 3
    np.save(folder / "given.npy", given)
    code = code.replace("numpy.zeros((1, 1, 8, 8), ", "numpy.load('given.npy').astype(")
    code = code.replace("torch.zeros(1, 1, 8, 8)", "torch.tensor(numpy.load('given.npy'))")
    code = code.replace("torch.zeros((1, 1, 8, 8)", "torch.tensor(numpy.load('given.npy')")
    code = "import numpy\n" + code
    code += "\nwanted = getattr(reconstructions, 'detach', lambda: reconstructions)()"
    code += "\nnumpy.save('found.npy', numpy.asarray(wanted))\n"
    if alone:
        code = _WITHOUT_AELAB + code
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=folder)
    else:
        with contextlib.chdir(folder), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.export, about its own tree of arguments
            exec(code, {"__name__": "example"})
    return torch.from_numpy(np.load(folder / "found.npy"))


def given(count: int = 5) -> np.ndarray:
    return np.random.default_rng(1).random((count, 1, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_graphs_run_as_the_card_says(home: Path, opened: OpenedRun, alone: bool) -> None:
    images = given()
    wanted = (opened.reconstruct(2 * torch.from_numpy(images) - 1) + 1) / 2  # the run has -1..1
    for first in ("import onnxruntime", "import torch\nmodel = torch.export"):
        found = loaded(home / "exported", first, images, alone=alone)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_encoder_and_decoder_are_the_two_halves(home: Path, opened: OpenedRun) -> None:
    import onnxruntime

    images = given(2)
    encoder, decoder = (
        onnxruntime.InferenceSession(home / f"exported/{name}.onnx")
        for name in ("encoder", "decoder")
    )
    (latents,) = encoder.run(None, {"images": images})
    wanted = opened.encode(2 * torch.from_numpy(images) - 1)
    torch.testing.assert_close(torch.from_numpy(latents), wanted, rtol=1e-5, atol=1e-5)
    (made,) = decoder.run(["images"], {"latents": latents})
    decoded = (opened.decode(wanted) + 1) / 2
    torch.testing.assert_close(torch.from_numpy(made), decoded, rtol=1e-5, atol=1e-5)


def test_aelab_opens_the_exported_folder_without_data_and_run(home: Path) -> None:
    pictures = (255 * given()).astype(np.uint8)
    found = loaded(home / "exported", "import aelab", pictures)
    here = Lab(home / "runs", device="cpu")
    wanted = here.open_model("digits/vae")(torch.from_numpy(pictures)).reconstruction
    assert torch.equal(found, wanted.detach())
    samples = Lab(home / "no-runs", device="cpu").open(str(home / "exported")).sample(3)
    assert torch.equal(samples, here.open("digits/vae").sample(3))


def test_the_weights_have_the_names_of_the_module(home: Path, opened: OpenedRun) -> None:
    from safetensors.torch import load_file

    weights = load_file(home / "exported/checkpoints/best.safetensors")
    plain = {name.removeprefix("model."): value for name, value in weights.items()}
    assert plain.keys() == opened.model.state_dict().keys()
    opened.model.load_state_dict(plain)


def test_the_card_tells_data_hashes_measures_and_licence(home: Path, opened: OpenedRun) -> None:
    card = (home / "exported/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: aelab\n")
    record = opened.run.record
    entry = record["data"]["train"][0]
    assert f"{entry['count']} images" in card and entry["sha256"] in card
    assert record["data"]["train_content"] in card and record["identity"] in card
    assert "-1..1" in card and "best training loss" not in card.split("## Measures")[0]
    for name in ("model.onnx", "decoder.pt2", "checkpoints/best.safetensors"):
        assert f"| `{name}` | {(home / 'exported' / name).stat().st_size:,} bytes" in card


def test_no_file_names_a_folder_of_this_machine(home: Path) -> None:
    for path in (home / "exported").rglob("*.*"):
        content = path.read_bytes()
        assert str(home).encode() not in content, path
        assert b"site-packages" not in content and b"/src/aelab" not in content, path
    record = json.loads((home / "exported/run.json").read_text())
    assert record["data"]["train"][0]["source"] == "photos"
    assert not (home / "exported/place.json").exists()


def test_the_verb_says_what_is_missing_and_writes_what_is_asked(home: Path) -> None:
    call = ["export", "digits/vae", "--runs", str(home / "runs"), "--device", "cpu"]
    none = CliRunner().invoke(app, call)
    assert isinstance(none.exception, UserError) and "--onnx" in str(none.exception)
    place = home / "typed"
    done = CliRunner().invoke(app, [*call, "--safetensors", "--out", str(place)])
    assert done.exit_code == 0, done.output
    assert (place / "README.md").exists() and not list(place.glob("*.onnx"))
    assert "onnxruntime" not in (place / "README.md").read_text()
    assert "licence | not stated" in (place / "README.md").read_text()
    (place / "README.md").write_text("mine")
    again = CliRunner().invoke(app, [*call, "--safetensors", "--out", str(place)])
    assert isinstance(again.exception, UserError) and "--force" in str(again.exception)
    with pytest.raises(UserError, match="was trained here"):
        Lab(home / "runs", device="cpu").open("digits/vae").export(home / "runs/digits/vae")


def test_without_its_packages_onnx_is_refused_at_once(
    opened: OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match="onnxscript"):
        opened.export(tmp_path / "x", ["onnx"])
    assert not (tmp_path / "x").exists()


def test_a_graph_that_gives_other_numbers_is_refused() -> None:
    with pytest.raises(UserError, match="other numbers"):
        largest_difference(torch.zeros(10), torch.ones(10), "run: model")
    with pytest.raises(UserError, match="other numbers"):
        largest_difference(torch.zeros(10), torch.zeros(9), "run: model")
    assert largest_difference(torch.zeros(1000), torch.eye(1000)[0], "one code of many") == 1


def test_a_model_goes_to_a_folder_and_comes_back_as_a_run(home: Path, tmp_path: Path) -> None:
    place = tmp_path / "shared/vae"
    call = ["export", "digits/vae", "--runs", str(home / "runs"), "--safetensors"]
    call += ["--out", str(tmp_path / "out"), "--push", str(place), "--device", "cpu"]
    pushed = CliRunner().invoke(app, call)
    assert pushed.exit_code == 0 and pushed.output.splitlines()[-1] == str(place), pushed.output
    pulled = CliRunner().invoke(
        app, ["pull", str(place), "--as", "theirs/vae", "--runs", str(tmp_path / "runs")]
    )
    assert pulled.exit_code == 0, pulled.exception
    theirs = Lab(tmp_path / "runs", device="cpu")
    assert [run.folder for run in theirs.find()] == ["theirs/vae"]
    images = torch.from_numpy(given())
    ours = Lab(home / "runs", device="cpu").open("digits/vae")
    assert torch.equal(theirs.open("theirs/vae").encode(images), ours.encode(images))
    assert "theirs/vae" in theirs.ls() and "theirs/vae" in str(theirs.table())
    with pytest.raises(StoreError, match="exists"):
        hub.pull(str(place), tmp_path / "runs", "theirs/vae")


def test_a_hub_is_not_trusted(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/README.md").write_text("mine")
    with pytest.raises(UserError, match="other files"):
        hub.FolderHub(tmp_path / "other").push(home / "exported", ["README.md"])
    with pytest.raises(StoreError, match="no run"):
        hub.pull(str(tmp_path / "other"), tmp_path / "runs")
    with pytest.raises(UserError, match="no such folder"):
        hub.pull(str(tmp_path / "nothing"), tmp_path / "runs")
    with pytest.raises(StoreError, match="plain name"):
        hub.pull(str(tmp_path / "other"), tmp_path / "runs", "../climbs")
    evil = tmp_path / "evil"
    hub.FolderHub(evil).push(
        home / "exported",
        ["README.md", "run.json", "resolved.yml", "checkpoints/best.safetensors",
         "checkpoints/best.json"],
    )  # fmt: skip
    (evil / "own.py").write_text("print('code')")
    (evil / "calls.json").symlink_to(home / "vae.yml")
    with pytest.raises(StoreError):
        hub.pull(str(evil), tmp_path / "runs")
    (evil / "calls.json").unlink()
    path = hub.pull(str(evil), tmp_path / "runs")
    assert not (path / "own.py").exists()
    (evil / "checkpoints/best.safetensors").write_bytes(b"changed")
    with pytest.raises(StoreError, match="damaged"):
        hub.pull(str(evil), tmp_path / "runs", "again")


def test_the_hub_of_hugging_face_is_called_as_it_wants(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its real signatures; what would go over the network is kept in a folder."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    store = hub.FolderHub(tmp_path / "cloud")
    told: dict[str, Any] = {}
    real = huggingface_hub.HfApi

    class Api:
        def __init__(self, **options: Any) -> None:
            real(**options)

        def create_repo(self, *given: Any, **options: Any) -> str:
            told["made"] = _bound(real.create_repo, None, *given, **options)
            return "https://hub.example/me/vae"

        def upload_folder(self, **options: Any) -> None:
            bound = _bound(real.upload_folder, None, **options)
            store.push(bound["folder_path"], bound["allow_patterns"])

    def snapshot_download(*given: Any, **options: Any) -> str:
        bound = _bound(download, *given, **options)
        place = Path(bound["local_dir"])
        for name in bound["allow_patterns"]:
            if (store.path / name).exists():
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_bytes((store.path / name).read_bytes())
        return str(place)

    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    names = [path.relative_to(home / "exported").as_posix()
             for path in (home / "exported").rglob("*.*")]  # fmt: skip
    address = hub.make_hub("hf:me/vae").push(home / "exported", names, private=True)
    assert address == "https://hub.example/me/vae"
    assert told["made"]["repo_id"] == "me/vae" and told["made"]["private"] is True
    path = hub.pull("hf:me/vae", tmp_path / "runs")
    assert path.name == "vae" and not (path / "model.onnx").exists()
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, **__: (_ for _ in ()).throw(OSError("404"))
    )
    with pytest.raises(UserError, match="404"):
        hub.pull("hf:me/vae", tmp_path / "runs", "second")
    with pytest.raises(UserError, match="OWNER/NAME"):
        hub.make_hub("hf:vae")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="huggingface_hub"):
        hub.make_hub("hf:me/vae")


def _bound(function: Any, *given: Any, **options: Any) -> dict[str, Any]:
    return signature(function).bind(*given, **options).arguments
