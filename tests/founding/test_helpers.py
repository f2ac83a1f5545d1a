"""Functions that blocks of old files call beside their models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aelab import catalogue
from aelab.config import Block, Scope, evaluate_block
from aelab.errors import ConfigError, RefusedError
from aelab.founding.helpers import _shown, dump_module_stacktrace, set_image_channels
from aelab.models import HELPERS

BLOCK = """
model = EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))
print(f"params: {num_module_parameters(model):,}")
with torch.no_grad():
    inp = torch.ones(1, 1, 8, 8)
    outp = dump_module_stacktrace(model.encoder, inp)
    print("encoder:", outp.shape)
    recon = dump_module_stacktrace(model.decoder, outp)
(model, tuple(recon.shape), num_module_parameters(model))
"""


def value(text: str, *, trust: bool = False) -> Any:
    return evaluate_block(Block(text), Scope(catalogue.names(), catalogue.attributes(), {}, trust))


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_printing_lines_of_old_files_run_and_change_nothing(
    trust: bool, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _shown.clear()
    with torch.device(device):
        model, shape, count = value(BLOCK, trust=trust)
        value(BLOCK, trust=trust)
    assert shape == (1, 1, 8, 8) and count == sum(p.numel() for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    shown = capsys.readouterr()
    assert shown.err.count("EncoderMLP.forward") == 1  # once, however often it is built
    assert "(1, 1, 8, 8)" in shown.err and "Linear(in_features=64" in shown.err


def test_parameters_are_counted_by_whether_they_learn() -> None:
    text = "m = nn.Linear(3, 2)\nfor p in m.parameters():\n    p.requires_grad = p.ndim > 1\n"
    assert value(text + "[num_module_parameters(m, t) for t in (None, True, False)]") == [8, 6, 2]


@pytest.mark.parametrize(
    "name", ["apply", "register_forward_hook", "load_state_dict", "__class__", "decode"]
)
def test_only_methods_that_compute_are_called(name: str) -> None:
    with pytest.raises((ConfigError, RefusedError), match="forward"):
        value(f"dump_module_stacktrace(nn.Linear(3, 2), torch.ones(1, 3), method_name={name!r})")


def test_hooks_leave_also_when_the_module_fails() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(RuntimeError):
        dump_module_stacktrace(module, torch.ones(1, 4))
    assert not module._forward_pre_hooks


@pytest.mark.parametrize(
    ("given", "wanted", "made"),
    [
        ((5, 6), 1, (1, 5, 6)),
        ((5, 6), 3, (3, 5, 6)),
        ((2, 3, 5, 6), 1, (2, 1, 5, 6)),
        ((4, 5, 6), 3, (3, 5, 6)),
        ((2, 5, 6), 3, (3, 5, 6)),
        ((4, 5, 6), 4, (4, 5, 6)),
    ],
)
def test_channels_are_converted(given: tuple[int, ...], wanted: int, made: tuple[int, ...]) -> None:
    image = torch.rand(given)
    assert tuple(set_image_channels(image, wanted).shape) == made


def test_grey_is_luma_and_other_numbers_of_channels_are_refused() -> None:
    image = torch.rand(3, 4, 4)
    grey = set_image_channels(image, 1)
    wanted = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    torch.testing.assert_close(grey[0], wanted)
    with pytest.raises(ConfigError, match="possible: 1, 3"):
        set_image_channels(image, 4)


def test_a_residual_adds_its_input_and_activations_have_names() -> None:
    layer, none = value("ResidualAdd(activation_to_module('relu')), activation_to_module(None)")
    x = torch.tensor([-1.0, 2.0])
    assert none is None and layer(x).tolist() == [-1.0, 4.0]


def test_every_helper_is_offered() -> None:
    assert {"ResidualAdd", "dump_module_stacktrace", "num_module_parameters"} < set(HELPERS)
    assert HELPERS.keys() <= set(catalogue.names())
