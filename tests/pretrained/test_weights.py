"""Published weights: where they are looked for, when they are believed, what messages say."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from aelab import pretrained, roots
from aelab.errors import ConfigError, DataError
from aelab.pretrained import RESNET18, Published

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data, no weights, no cache, no network."""
    for name in ("AELAB_DATA", "AELAB_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("aelab.pretrained.weights._download", _no_network)


def _no_network(published: Published, target: Path) -> None:
    raise OSError("no network in tests")


@pytest.fixture
def known(tmp_path: Path) -> dict[str, Published]:
    """One published file, as its publisher has it: its checksum is that of `original.pth`."""
    original = tmp_path / "original.pth"
    torch.save(TENSORS, original)
    sha256 = hashlib.sha256(original.read_bytes()).hexdigest()
    address = "https://example.org/net-0123.pth"
    return {"V1": Published("V1", "net-0123.pth", address, sha256, 1)}


def _put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("given", ["V1", "v1", "default", "DEFAULT"])
def test_a_name_means_the_file_in_the_cache(
    given: str, known: dict[str, Published], tmp_path: Path
) -> None:
    content = (tmp_path / "original.pth").read_bytes()
    path = _put(tmp_path / "cache/weights/net-0123.pth", content)
    found = pretrained.find_weights(given, known)
    assert found.path == path
    found, tensors = pretrained.read_weights(found)
    assert torch.equal(tensors["a.weight"], TENSORS["a.weight"])
    assert pretrained.weights_note(found) == f"weights V1, sha256 {known['V1'].sha256[:12]}"


@pytest.mark.parametrize("place", ["data/weights", "torch/hub/checkpoints", "cache/weights"])
def test_where_others_put_files_only_the_published_one_is_taken(
    place: str, known: dict[str, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELAB_DATA", str(tmp_path / "data"))
    path = _put(tmp_path / place / "net-0123.pth", b"another file of that name")
    found = pretrained.find_weights("V1", known)
    assert found.path is None
    assert any(f"{path} (another or a damaged file" in text for text in found.places)
    _put(path, (tmp_path / "original.pth").read_bytes() + b"")
    assert pretrained.find_weights("V1", known).path == path


@pytest.mark.parametrize("name", ["net-0123.pth", "net-0123.safetensors", "net.safetensors"])
def test_a_folder_of_ones_own_may_hold_other_weights_and_the_note_says_so(
    name: str, known: dict[str, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine" / name
    path.parent.mkdir()
    if path.suffix == ".pth":
        torch.save({**TENSORS, "a.bias": torch.zeros(2)}, path)
    else:
        safetensors.torch.save_file(TENSORS, path)
    for value in (path.parent, path):
        monkeypatch.setenv("AELAB_WEIGHTS", str(value))
        found, tensors = pretrained.read_weights(pretrained.find_weights("V1", known))
        assert found.path == path and set(tensors) == set(TENSORS)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        note = f"weights of {name}, sha256 {sha256[:12]}: not the published V1"
        assert pretrained.weights_note(found) == note


def test_a_place_that_does_not_exist_is_a_mistake_not_a_download(
    known: dict[str, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELAB_WEIGHTS", str(tmp_path / "weigths"))
    with pytest.raises(DataError, match="weigths, which does not exist"):
        pretrained.find_weights("V1", known)


def test_a_missing_file_is_fetched_into_the_cache(
    known: dict[str, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (tmp_path / "original.pth").read_bytes()
    monkeypatch.setattr(
        "aelab.pretrained.weights._download", lambda published, target: _put(target, content)
    )
    found = pretrained.find_weights("V1", known)
    note = "weights net-0123.pth are not here yet; a run downloads them (1 MB)"
    assert found.path is None and pretrained.weights_note(found) == note
    found, tensors = pretrained.read_weights(found)
    assert found.path == tmp_path / "cache/weights/net-0123.pth" and set(tensors) == set(TENSORS)


def test_without_network_the_message_says_which_file_to_put_where(
    known: dict[str, Published], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        pretrained.read_weights(pretrained.find_weights("V1", known))
    text = str(caught.value)
    assert "no network in tests" in text and known["V1"].address in text
    assert f"put it at {tmp_path / 'cache/weights/net-0123.pth'}" in text
    assert str(tmp_path / "torch/hub/checkpoints/net-0123.pth") in text
    assert "set AELAB_WEIGHTS to the file or its folder" in text


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of `original.pth` on a server of this machine."""
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        """Says nothing on the terminal."""

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/original.pth"
        running.shutdown()
        thread.join()


def test_a_download_is_kept_only_with_the_right_checksum(
    known: dict[str, Published], tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("AELAB_WEIGHTS", raising=False)
    target = tmp_path / "cache/weights/net-0123.pth"
    wrong = {"V1": dataclasses.replace(known["V1"], address=server, sha256="0" * 64)}
    with pytest.raises(DataError, match="hash"):
        pretrained.read_weights(pretrained.find_weights("V1", wrong))
    assert not target.exists()
    right = {"V1": dataclasses.replace(known["V1"], address=server)}
    found, tensors = pretrained.read_weights(pretrained.find_weights("V1", right))
    assert found.path == target and set(tensors) == set(TENSORS)


def test_a_path_is_read_only_below_the_folders_that_may_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret" / "net.pth"
    secret.parent.mkdir()
    torch.save(TENSORS, secret)
    home = tmp_path / "home"
    home.mkdir()
    torch.save(TENSORS, home / "own.pth")
    (home / "link.pth").symlink_to(secret)
    with roots.using([home]):
        assert pretrained.find_weights("own.pth", RESNET18).path == home / "own.pth"
        for given in (str(secret), "../secret/net.pth", "link.pth"):
            with pytest.raises(DataError, match="outside the folders"):
                pretrained.find_weights(given, RESNET18)
        monkeypatch.setenv("AELAB_WEIGHTS", str(secret.parent))
        for given in (str(secret), "net.pth"):
            assert pretrained.find_weights(given, RESNET18).path == secret
    assert pretrained.find_weights(secret, RESNET18).path == secret


@pytest.mark.parametrize("given", ["imagenet1k_v2", "IMAGENET", 3, True])
def test_an_unknown_name_lists_what_is_possible(given: object) -> None:
    with pytest.raises(ConfigError, match="possible: IMAGENET1K_V1, or the path"):
        pretrained.find_weights(given, RESNET18)


def test_a_missing_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file of weights nothing\.pth"):
        pretrained.find_weights("nothing.pth", RESNET18)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_damaged_or_foreign_file_is_told(name: str, tmp_path: Path) -> None:
    path = _put(tmp_path / name, b"<html>not found</html>")
    with pytest.raises(DataError, match=f"cannot read weights from {path}"):
        pretrained.read_weights(pretrained.find_weights(path, RESNET18))
    if path.suffix == ".pth":
        torch.save([TENSORS], path)
        with pytest.raises(DataError, match="holds no state_dict"):
            pretrained.read_weights(pretrained.find_weights(path, RESNET18))


def test_a_file_that_carries_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        """Would run something when unpickled."""

        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'target')!r}, 'w')",)

    path = tmp_path / "net.pth"
    torch.save({"a": Evil()}, path)
    with pytest.raises(DataError, match="cannot read weights"):
        pretrained.read_weights(pretrained.find_weights(path, RESNET18))
    assert not (tmp_path / "target").exists()


def test_the_published_file_is_torchvisions() -> None:
    published = RESNET18["IMAGENET1K_V1"]
    prefix = published.file.removesuffix(".pth").partition("-")[2]
    assert published.sha256.startswith(prefix) and len(published.sha256) == 64
    assert published.address.endswith(published.file)


def test_restoring_ends_with_its_block() -> None:
    assert not pretrained.is_restoring()
    with pytest.raises(ValueError, match="inside"), pretrained.restoring():
        assert pretrained.is_restoring()
        raise ValueError("inside")
    assert not pretrained.is_restoring()
