"""What a block is offered takes the arguments that torch documents for it."""

from __future__ import annotations

import re

import pytest

from aelab import catalogue
from aelab.config import Block, Scope, evaluate_block
from aelab.errors import ConfigError

#: Expressions over x (2, 4, 8, 8), in the forms of torch's documentation.
CALLS = """
F.interpolate(x, scale_factor=4)
F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=False)
F.interpolate(x, scale_factor=[2, 2])
F.interpolate(x, scale_factor=(0.5, 0.5), mode='area')
F.interpolate(x, size=28)
F.interpolate(x, size=[28, 28])
F.interpolate(x, size=(28, 14), mode='bicubic', antialias=True)
F.interpolate(x, (4, 4))
F.interpolate(x, None, 2)
F.adaptive_avg_pool2d(x, 1)
F.adaptive_avg_pool2d(x, (4, None))
F.adaptive_avg_pool2d(x, [2, 2])
F.avg_pool2d(x, 2)
F.avg_pool2d(x, (2, 2), stride=[2, 2], padding=0)
F.max_pool2d(x, 2, 2)
F.max_pool2d(x, [2, 2], stride=None)
F.softmax(x, 1)
F.softmax(x, dim=-1, dtype=torch.float64)
F.log_softmax(x, dim=1, dtype=torch.float32)
F.layer_norm(x, [8])
F.layer_norm(x, (8, 8))
F.normalize(x)
F.normalize(x, p=2, dim=(1, 2))
F.pad(x, (1, 1, 1, 1))
F.pad(x, [1, 2, 1, 2], mode='replicate')
F.pad(x, (1, 1), 'constant', 0.5)
F.pad(x, (1, 1), value=0)
F.one_hot(torch.arange(3))
F.one_hot(torch.arange(3), num_classes=5)
F.dropout(x, 0.5, training=False)
F.l1_loss(x, x)
F.l1_loss(x, x, reduction='none')
F.mse_loss(x, x, reduction='sum')
F.huber_loss(x, x, delta=2)
F.smooth_l1_loss(x, x, beta=1)
F.binary_cross_entropy(x, x, weight=None, reduction='mean')
F.binary_cross_entropy_with_logits(x, x, pos_weight=torch.tensor(2.0))
F.leaky_relu(x, 0.2)
F.elu(x, alpha=1)
F.gelu(x, approximate='tanh')
F.hardtanh(x, -1, 1)
F.softplus(x, beta=1, threshold=20)
F.pixel_shuffle(x, 2)
F.pixel_unshuffle(x, 2)
torch.mean(x, dim=(1, 2), keepdim=True)
torch.mean(x, [1, 2])
torch.sum(x, dim=1, dtype=torch.float64)
torch.std(x, dim=(2, 3), unbiased=False)
torch.var(x, dim=1, correction=0)
torch.clamp(x, 0, 1)
torch.clamp(x, min=0.1)
torch.cat([x, x], dim=1)
torch.cat((x, x), 1)
torch.stack([x, x])
torch.zeros(2, 3)
torch.zeros((2, 3))
torch.zeros([2, 3], dtype=torch.int64)
torch.ones(2, 3, requires_grad=True)
torch.full((2, 3), 1.5)
torch.randn(2, 3)
torch.rand((2, 3))
torch.randn_like(x)
torch.linspace(0, 1, 5)
torch.linspace(0, 1, steps=5)
torch.arange(0, 1, 0.25)
torch.eye(3)
torch.flatten(x, 1)
torch.flatten(x, start_dim=2)
torch.permute(x, (0, 2, 3, 1))
torch.where(x > 0, x, 0.0)
torch.tensor([[1, 2]], dtype=torch.float32)
torch.meshgrid(torch.arange(2), torch.arange(3), indexing='ij')
torch.squeeze(x, 0)
torch.prod(torch.tensor([2, 3]))
torch.round(x, decimals=1)
nn.Conv2d(4, 8, 3)(x)
nn.Conv2d(4, 8, [3, 3], stride=(1, 1), padding='same', dilation=1, bias=False)(x)
nn.Conv2d(4, 8, (3, 1), padding=[1, 0], padding_mode='reflect')(x)
nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1, output_padding=(0, 0))(x)
nn.MaxPool2d(2)(x)
nn.MaxPool2d([2, 2], stride=(2, 2))(x)
nn.AvgPool2d((2, 2), count_include_pad=False)(x)
nn.AdaptiveAvgPool2d((None, 4))(x)
nn.AdaptiveAvgPool2d([2, 2])(x)
nn.AdaptiveMaxPool2d(1)(x)
nn.Upsample(scale_factor=2)(x)
nn.Upsample(scale_factor=(2.0, 2.0), mode='bilinear', align_corners=True)(x)
nn.Upsample(size=[16, 16])(x)
nn.Upsample((16, 16))(x)
nn.LayerNorm(8)(x)
nn.LayerNorm([4, 8, 8])(x)
nn.LayerNorm((4, 8, 8), elementwise_affine=False)(x)
nn.RMSNorm((8,), eps=1e-6)(x)
nn.GroupNorm(2, 4)(x)
nn.BatchNorm2d(4, momentum=None, affine=False)(x)
nn.InstanceNorm2d(4, affine=True)(x)
nn.Unflatten(1, (2, 2))(x)
nn.Unflatten(1, [2, 2])(x)
nn.Flatten(1, -1)(x)
nn.ZeroPad2d(1)(x)
nn.ZeroPad2d([1, 2, 0, 0])(x)
nn.ReflectionPad2d((1, 1, 1, 1))(x)
nn.Hardtanh(-2, 2)(x)
nn.Softmax(dim=1)(x)
nn.LeakyReLU(0.1, inplace=False)(x)
nn.PReLU(4, init=0.1)(x)
nn.GELU('tanh')(x)
nn.Dropout(0.1)(x)
nn.Linear(8, 3, bias=False)(x)
nn.Embedding(5, 3, padding_idx=0)(torch.arange(3))
nn.MSELoss(reduction='sum')(x, x)
nn.HuberLoss(delta=2)(x, x)
nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, activation='gelu', batch_first=True)(x[:, 0])
nn.TransformerEncoderLayer(8, 2, 16, 0, F.gelu, batch_first=True)(x[:, 0])
VT.Resize(16)
VT.Resize([16, 16])
VT.Resize((16, 16), antialias=True)
VT.CenterCrop(8)
VT.CenterCrop((8, 8))
VT.RandomCrop(8)
VT.RandomCrop([8, 8])
VT.Normalize([0.5], [0.5])
VT.Normalize((0.5,), (0.5,))
VT.RandomHorizontalFlip()
VT.RandomHorizontalFlip(0.3)
VT.RandomRotation(10)
VT.RandomRotation((-10, 10))
VT.RandomAffine(0, translate=(0.1, 0.1))
VT.RandomAffine([-5, 5], translate=[0.1, 0.1], scale=(0.9, 1.1))
VT.ColorJitter(0.1, 0.2)
VT.ColorJitter(brightness=(0.8, 1.2))
VT.GaussianBlur(3)
VT.GaussianBlur((3, 3), sigma=(0.1, 2.0))
VT.Grayscale()
VT.Grayscale(num_output_channels=1)
VT.ToTensor()
""".strip().splitlines()


def value(text: str) -> object:
    """An expression in a block, among the catalogue's names."""
    block = Block(f"x = torch.rand(2, 4, 8, 8)\n{text}")
    return evaluate_block(block, Scope(catalogue.names(), catalogue.attributes()))


@pytest.mark.parametrize("call", [call for call in CALLS if not call.startswith("VT.")])
def test_a_documented_call_is_accepted(call: str) -> None:
    value(call)


@pytest.mark.parametrize("call", [call for call in CALLS if call.startswith("VT.")])
def test_a_documented_transform_is_accepted_where_it_is_offered(call: str) -> None:
    try:
        value(call)
    except ConfigError as error:
        assert "is not offered" in str(error), error


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("F.interpolate(x, scale=4)", "no argument 'scale'"),
        ("F.interpolate(x, scale_factor='big')", "F.interpolate"),
        ("nn.Conv2d(4, 8, 'three')", "kernel_size = 'three' does not fit"),
        ("F.pad(x, 1)", "F.pad"),
        ("torch.zeros(2, device='cpu')", "'device' cannot be given"),
    ],
)
def test_a_wrong_argument_is_still_told_with_the_name_of_the_function(
    call: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        value(call)
