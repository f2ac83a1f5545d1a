"""Downloads that fail in a trusted file: the address, the reason and a way out are told."""

from __future__ import annotations

from email.message import Message
from pathlib import Path
from urllib.error import HTTPError

import pytest
import torch

from aelab.config.connection import failed_download
from aelab.lab import Lab

#: Nothing listens at this port of this machine.
CLOSED = "http://127.0.0.1:9/models/net-12345678.pth"
FILE = """
experiment_name: hub
globals:
  SHAPE: (1, 8, 8)
train_set: noise_dataset(SHAPE, 64)
model: |
  LINE
  EncoderDecoder(EncoderMLP(SHAPE, 4), DecoderMLP(SHAPE, 4))
batch_size: 32
learnrate: 0.001
optimizer: Adam
loss_function: l1
max_images: 64
"""


def test_a_failed_download_says_where_what_was_tried_and_the_way_out(tmp_path: Path) -> None:
    call = f"torch.hub.load_state_dict_from_url('{CLOSED}', model_dir='{tmp_path}/w')"
    path = tmp_path / "hub.yml"
    path.write_text(FILE.replace("LINE", call))
    (plan,) = Lab(tmp_path / "runs", trust=True, device="cpu").check(path).runs
    (problem,) = plan.problems
    assert f"cannot download {CLOSED}: Connection refused" in problem
    assert "hub.yml:7" in problem and "URLError" not in problem
    assert f"put it at {tmp_path}/w/net-12345678.pth" in problem


def test_a_download_in_a_module_of_the_file_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import torch\nfrom urllib.request import urlopen\n"
        "class Late(torch.nn.Module):\n"
        "    def forward(self, images, noise=None):\n"
        f"        return urlopen({CLOSED!r})\n"
    )
    path = tmp_path / "late.yml"
    text = FILE.replace("LINE", "from late import Late")
    path.write_text(
        text.replace("EncoderDecoder(EncoderMLP(SHAPE, 4), DecoderMLP(SHAPE, 4))", "Late()")
    )
    (plan,) = Lab(tmp_path / "runs", trust=True, device="cpu").check(path).runs
    problem = plan.problems[0]
    assert f"cannot download {CLOSED}: Connection refused (late.py, line 5)" in problem
    assert "name the local file in place of the address" in problem


def test_an_answer_of_the_server_is_told_by_its_number() -> None:
    error = HTTPError("https://host.invalid/a.pth", 404, "Not Found", Message(), None)
    message, hint = failed_download(error) or ("", "")
    assert message == (
        "cannot download https://host.invalid/a.pth: the server answers 404, Not Found"
    )
    assert "correct the address" in hint


@pytest.mark.parametrize("error", [ValueError("no"), FileNotFoundError("a.pt"), RuntimeError("x")])
def test_other_errors_are_no_downloads(error: Exception) -> None:
    assert failed_download(error) is None


def test_an_error_that_comes_from_a_connection_is_told_as_such(tmp_path: Path) -> None:
    def wrapped() -> None:
        try:
            torch.hub.download_url_to_file(CLOSED, str(tmp_path / "a.pth"), progress=False)
        except OSError as error:
            raise RuntimeError("Error downloading a.pth") from error

    with pytest.raises(RuntimeError) as caught:
        wrapped()
    message, hint = failed_download(caught.value) or ("", "")
    assert message == f"cannot download {CLOSED}: Connection refused"
    assert f"put it at {tmp_path}/a.pth" in hint
