"""The founding documents' texts on the published data; random weights where there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from aelab import config, lab
from aelab.execute import events as ev
from aelab.founding.resnet import resnet18_open

FILES = sorted((Path(__file__).parents[2] / "experiments" / "founding").glob("*.yml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_document_learns_from_the_published_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ.get("AELAB_DATA"), "set AELAB_DATA to the folder of the published files"
    if not os.environ.get("AELAB_WEIGHTS"):
        torch.save(resnet18_open().state_dict(), tmp_path / "resnet18-f37072fd.pth")
        monkeypatch.setenv("AELAB_WEIGHTS", str(tmp_path))
    first = config.load(path).runs()[0].name
    changes = {"max_inputs": 2_048, "num_train_loss_steps": 512, "validation_limit": 256}
    runs = tmp_path / "runs"
    events = list(lab.run(path, only=first, changes=changes, device="cpu", runs=runs))
    assert not [event.message for event in events if isinstance(event, ev.RunErred)]
    losses = [event.loss for event in events if isinstance(event, ev.RunProgress)]
    assert losses[-1] < losses[0]
