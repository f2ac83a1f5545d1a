"""Frozen lists of the names of torch, nn, F and torchvision that blocks may use.

No module object is exposed. Names that are not listed do not exist for a block, for instance
`torch.save`, `torch.hub`, `torch.jit`, `torch.ops` and `torch.utils`. `torch.load` is a reader of
our own, for files of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aelab.catalogue.parts import Part
from aelab.config.guards import MATH, FrozenModule, members_of
from aelab.data import TORCHVISION_DATASETS, TRANSFORMS, tensor_of_file
from aelab.pretrained import RESNET18

_TORCH = """
abs arange cat clamp concat cos cumsum empty exp eye flatten floor full full_like isfinite isnan
linspace log log2 log10 maximum mean meshgrid minimum no_grad ones ones_like permute pow prod rand
rand_like randn randn_like round sigmoid sin sqrt square squeeze stack std sum tan tanh
tensor unsqueeze var where zeros zeros_like
""".split()

_FFT = "fft fft2 fftfreq fftshift ifft ifft2 ifftshift irfft2 rfft rfft2".split()

_DTYPES = "bfloat16 bool float float16 float32 float64 int32 int64 long uint8".split()

_MODULES = """
AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool2d BCELoss BCEWithLogitsLoss BatchNorm1d BatchNorm2d CELU
ChannelShuffle Conv1d Conv2d ConvTranspose1d ConvTranspose2d Dropout Dropout1d Dropout2d ELU
Embedding Flatten GELU GLU GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh HuberLoss Identity
InstanceNorm1d InstanceNorm2d L1Loss LayerNorm LeakyReLU Linear LogSigmoid LogSoftmax MSELoss
MaxPool2d Mish ModuleList PReLU PixelShuffle PixelUnshuffle RMSNorm RReLU ReLU ReLU6 ReflectionPad2d
ReplicationPad2d SELU Sequential SiLU Sigmoid SmoothL1Loss Softmax Softmax2d Softmin Softplus
Softshrink Softsign Tanh Tanhshrink TransformerDecoder TransformerDecoderLayer TransformerEncoder
TransformerEncoderLayer Unflatten Upsample ZeroPad2d
""".split()

_FUNCTIONS = """
adaptive_avg_pool2d avg_pool2d binary_cross_entropy binary_cross_entropy_with_logits celu dropout
elu gelu hardsigmoid hardswish hardtanh huber_loss interpolate l1_loss layer_norm leaky_relu
log_softmax logsigmoid max_pool2d mish mse_loss normalize one_hot pad pixel_shuffle pixel_unshuffle
relu relu6 selu sigmoid silu smooth_l1_loss softmax softplus softsign tanh
""".split()

#: Attributes of tensors for blocks: shapes, arithmetic, types. None gives access to memory.
TENSOR_RIGHTS = frozenset(
    """
    [] abs all amax amin any argmax argmin bool ceil chunk clamp clamp_max clamp_min clone
    contiguous cos cpu cuda cumprod cumsum detach device dim div double dtype exp expand expm1
    flatten flip float floor for half imag int is_floating_point isfinite isnan item log log1p
    log2 log_softmax long masked_fill max maximum mean min minimum mul ndim new_full
    new_ones new_tensor new_zeros
    norm numel permute pow prod real relu repeat requires_grad reshape roll round rsqrt shape
    sigmoid
    sign sin size softmax split sqrt square squeeze std sub sum swapaxes t tan tanh to tolist
    transpose type_as unflatten unsqueeze var view
    """.split()
)

#: Attributes of every module for blocks: its parameters and submodules, but not `apply`, hooks,
#: `register_*`, `load_state_dict`, or other attributes of torch. Devices have no effect while a run
#: is built (`assembly.placement`).
MODULE_RIGHTS = frozenset("children cpu cuda eval parameters requires_grad_ to train".split())

_CONTAINER_RIGHTS = frozenset({"[]", "for"})


@cache
def libraries() -> Mapping[str, FrozenModule]:
    """The five lists by their names in blocks; callables inside are `Part`s without a log."""
    layers = FrozenModule(
        "torch.nn", {name: Part(f"nn.{name}", getattr(nn, name)) for name in _MODULES}
    )
    functions = FrozenModule(
        "torch.nn.functional",
        {name: Part(f"F.{name}", _plain(name, getattr(functional, name))) for name in _FUNCTIONS},
    )
    layers = layers.with_members(functional=functions)
    torch_names: dict[str, Any] = {
        name: Part(f"torch.{name}", _plain(name, getattr(torch, name))) for name in _TORCH
    }
    # Uninitialised memory may hold data of other work in the process.
    torch_names["empty"] = Part("torch.empty", _plain("empty", torch.zeros))
    # Reads tensors only, as a data set; the real one is not offered.
    torch_names["load"] = Part("torch.load", tensor_of_file)
    torch_names |= {name: getattr(torch, name) for name in _DTYPES}
    transforms = FrozenModule(
        "torch.fft",
        {name: Part(f"torch.fft.{name}", _plain(name, getattr(torch.fft, name))) for name in _FFT},
    )
    vision = _torchvision()
    return MappingProxyType(
        {
            "torch": FrozenModule(
                "torch", {**torch_names, "nn": layers, "fft": transforms, "pi": MATH.pi}
            ),
            "nn": layers,
            "F": functions,
            "math": MATH,
            "torchvision": vision,
            "VT": members_of(vision)["transforms"],
        }
    )


def library_attributes() -> dict[type, frozenset[str]]:
    """Exact type -> rights, for tensors, sizes, modules of torch, and `torch.no_grad()`."""
    writable = frozenset({"requires_grad =", "requires_grad_"})
    rows: dict[type, frozenset[str]] = {
        Tensor: TENSOR_RIGHTS,
        nn.Parameter: TENSOR_RIGHTS | writable,
        torch.Size: frozenset("[] for count index numel".split()),
        torch.no_grad: frozenset({"with"}),
    }
    rows |= {getattr(nn, name): MODULE_RIGHTS for name in _MODULES}
    for container in (nn.Sequential, nn.ModuleList):
        rows[container] = MODULE_RIGHTS | _CONTAINER_RIGHTS
    return rows


def _plain(name: str, target: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a built-in of torch in a Python function; classes are returned unchanged."""
    if isinstance(target, type):
        return target

    @wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        """Calls the built-in, which checks its own signature."""
        return target(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    # torch annotates only one overload of a function (`size: int` of interpolate, which also takes
    # pairs), so torch itself checks the values.
    call.__annotations__ = {}
    return call


def _torchvision() -> FrozenModule:
    """The names of torchvision in old files, implemented by aelab's parts; it is never imported."""
    names = ("DEFAULT", *RESNET18)
    weights = FrozenModule("ResNet18_Weights", {name: name for name in names})
    transforms = {name: Part(f"VT.{name}", target) for name, target in TRANSFORMS.items()}
    sets = {
        name: Part(f"torchvision.datasets.{name}", target)
        for name, target in TORCHVISION_DATASETS.items()
    }
    return FrozenModule(
        "torchvision",
        {
            "datasets": FrozenModule("torchvision.datasets", sets),
            "models": FrozenModule("torchvision.models", {"ResNet18_Weights": weights}),
            "transforms": FrozenModule("torchvision.transforms", transforms),
        },
    )
