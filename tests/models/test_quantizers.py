"""VQ and FSQ against an independent implementation, and what a bottleneck must keep."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
import vector_quantize_pytorch as reference
from torch.func import functional_call, stack_module_state

from aelab.errors import ConfigError, MissingExtra, ShapeError
from aelab.inspect import model_facts
from aelab.models import (
    FSQ,
    VQ,
    Autoencoder,
    Conv2dBlock,
    DecoderMLP,
    EncoderMLP,
    SimVQ,
)
from aelab.models.quantizers import nearest_entries
from aelab.types import TermSpec


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_vq(**options):
    return VQ(**{"codebook_size": 16, "dims": 4, **options})


BOTTLENECKS = {
    "VQ": make_vq,
    "FSQ": lambda: FSQ((5, 4, 3, 8)),
    "SimVQ": lambda: SimVQ(codebook_size=16, dims=4),
}
FEATURES = {
    "vector": ((3, 12), 3),
    "tokens": ((3, 5, 8), 10),
    "feature map": ((3, 8, 2, 5), 20),
}


@pytest.mark.parametrize("make", BOTTLENECKS.values(), ids=BOTTLENECKS)
@pytest.mark.parametrize(("shape", "count"), FEATURES.values(), ids=FEATURES)
def test_the_latent_has_the_shape_of_the_features_and_is_what_the_index_names(make, shape, count):
    bottleneck = make()
    features = torch.randn(shape, requires_grad=True)
    latent, posterior = bottleneck(features)
    assert latent.shape == features.shape
    index = posterior.index
    assert index.shape == (3, count) and index.dtype == torch.int64
    assert 0 <= index.min() and index.max() < bottleneck.codebook_size
    named = bottleneck.lookup(index)  # (B, n, dims)
    last = latent.permute(0, 2, 3, 1) if latent.ndim == 4 else latent
    torch.testing.assert_close(last.reshape(named.shape), named)
    latent.sum().backward()
    assert features.grad.abs().min() > 0


def test_the_gradient_passes_vq_unchanged():
    features = torch.randn(2, 8, requires_grad=True)
    weights = torch.randn(2, 8)
    (make_vq()(features)[0] * weights).sum().backward()
    torch.testing.assert_close(features.grad, weights)


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3,), (7, 5, 4), (6, 3, 16)], ids=str)
def test_fsq_equals_the_reference_implementation(levels):
    ours, theirs = FSQ(levels), reference.FSQ(list(levels))
    features = 3 * torch.randn(50, 6, len(levels))
    latent, posterior = ours(features)
    expected, index = theirs(features)
    torch.testing.assert_close(latent, expected)
    assert torch.equal(posterior.index, index.long())
    everything = torch.arange(ours.codebook_size)[None]
    torch.testing.assert_close(ours.lookup(everything)[0], theirs.implicit_codebook)


def test_fsq_keeps_the_gradient_of_the_bounded_curve():
    ours, theirs = FSQ((8, 5)), reference.FSQ([8, 5])
    first, second = (torch.linspace(-2, 2, 12).view(1, 6, 2).requires_grad_() for _ in range(2))
    ours(first)[0].sum().backward()
    theirs(second)[0].sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_fsq_maps_zero_to_zero_and_reaches_every_entry():
    bottleneck = FSQ((4, 5))
    latent, _ = bottleneck(torch.zeros(1, 2))
    assert torch.equal(latent, torch.zeros(1, 2))
    everywhere = 4 * torch.randn(1, 2000, 2)
    _, posterior = bottleneck(everywhere)
    assert len(posterior.index.unique()) == bottleneck.codebook_size == 20


def pair_of_codebooks(decay=0.9):
    """Our codebook and the reference's, both after the same first assignment."""
    ours = make_vq(decay=decay, dead_below=0.0).train()
    theirs = reference.VectorQuantize(
        dim=4, codebook_size=16, decay=decay, rotation_trick=False, commitment_weight=1.0
    ).train()
    ours(torch.randn(4, 40))
    ours.after_step()  # takes its entries from the batch
    inner = theirs._codebook
    inner.embed.copy_(ours.codebook[None])
    inner.embed_avg.copy_(ours.mean_sums[None])
    inner.cluster_size.copy_(ours.mean_counts[None])
    return ours, theirs


def test_vq_chooses_and_moves_like_the_reference_implementation():
    ours, theirs = pair_of_codebooks()
    for _ in range(5):
        vectors = torch.randn(6, 10, 4)
        expected, index, commitment = theirs(vectors)
        latent, posterior = ours(vectors.reshape(6, 40))
        assert torch.equal(posterior.index, index)
        torch.testing.assert_close(latent.reshape(expected.shape), expected)
        torch.testing.assert_close(posterior.commitment.mean(), commitment.squeeze())
        ours.after_step()
        torch.testing.assert_close(ours.codebook, theirs.codebook)
        torch.testing.assert_close(ours.mean_counts, theirs._codebook.cluster_size[0])


def test_commitment_is_one_number_an_image_and_pulls_the_features_only():
    bottleneck = make_vq().eval()
    features = torch.randn(3, 8, requires_grad=True)
    latent, posterior = bottleneck(features)
    expected = (features - latent).square().mean(dim=1)
    torch.testing.assert_close(posterior.commitment, expected)
    posterior.commitment.sum().backward()
    torch.testing.assert_close(features.grad, (2 * (features - latent) / 8).detach())


def test_the_codebook_moves_once_a_step_and_only_in_training():
    bottleneck = make_vq()
    state = {name: tensor.clone() for name, tensor in bottleneck.state_dict().items()}
    bottleneck.eval()(torch.randn(8, 40))
    bottleneck.after_step()
    assert all(torch.equal(t, state[name]) for name, t in bottleneck.state_dict().items())
    bottleneck.train()(torch.randn(8, 40))
    assert torch.equal(bottleneck.codebook, state["codebook"])
    bottleneck.after_step()
    assert not torch.equal(bottleneck.codebook, state["codebook"])
    assert bottleneck.num_steps == 1


def test_the_first_step_sets_all_entries_to_vectors_of_the_batch():
    bottleneck = make_vq().train()
    features = torch.randn(8, 40)
    bottleneck(features)
    bottleneck.after_step()
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(bottleneck.codebook, features.reshape(-1, 4), compute_mode=exact)
    assert distance.min(dim=1).values.max() < 1e-4
    assert len(distance.argmin(dim=1).unique()) == 16


def test_pieces_of_a_batch_move_the_codebook_like_the_whole():
    whole = make_vq(dead_below=0.0).train()
    whole(torch.randn(8, 40))
    whole.after_step()
    pieces = copy.deepcopy(whole)
    features = torch.randn(8, 40)
    whole(features)
    for part in features.split(3):
        pieces(part)
    whole.after_step()
    pieces.after_step()
    torch.testing.assert_close(whole.codebook, pieces.codebook)


def test_unused_entries_are_replaced_by_vectors_of_the_batch():
    kept, replaced = make_vq(dead_below=0.0, decay=0.5), make_vq(decay=0.5)
    used = {}
    for name, bottleneck in {"kept": kept, "replaced": replaced}.items():
        bottleneck.train()
        bottleneck(100 + torch.randn(8, 40))
        bottleneck.after_step()  # all entries are far from what comes now
        for _ in range(20):
            bottleneck(torch.randn(8, 40))
            bottleneck.after_step()
        used[name] = len(bottleneck.eval()(torch.randn(50, 40))[1].index.unique())
    assert used["kept"] < 8 and used["replaced"] == 16


@pytest.mark.parametrize("make", BOTTLENECKS.values(), ids=BOTTLENECKS)
def test_stacked_quantizers_equal_single_ones(make):
    parts = [make().eval() for _ in range(2)]
    features = torch.randn(2, 3, 8)
    parameters, buffers = stack_module_state(parts)
    skeleton = copy.deepcopy(parts[0]).to("meta")

    def call(state, features):
        return functional_call(skeleton, state, (features,))

    latent, posterior = torch.vmap(call)((parameters, buffers), features)
    for number, part in enumerate(parts):
        single, facts = part(features[number])
        torch.testing.assert_close(latent[number], single)
        assert torch.equal(posterior.index[number], facts.index)


@pytest.mark.parametrize("make", BOTTLENECKS.values(), ids=BOTTLENECKS)
def test_half_precision_around_a_quantizer_changes_no_index(make):
    bottleneck = make().eval()
    features = torch.randn(20, 8).bfloat16().float()
    _, expected = bottleneck(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latent, posterior = bottleneck(features.bfloat16())
    assert torch.equal(posterior.index, expected.index)
    assert latent.dtype == torch.float32


def test_sim_vq_learns_its_entries_by_the_commitment_alone():
    bottleneck = SimVQ(codebook_size=16, dims=4)
    features = torch.randn(3, 8, requires_grad=True)
    latent, posterior = bottleneck(features)
    weight = bottleneck.quantizer.code_transform.weight
    assert torch.autograd.grad(latent.sum(), weight, retain_graph=True, allow_unused=True) == (
        None,
    )
    _, _, expected = bottleneck.quantizer(features.view(3, 2, 4))
    torch.testing.assert_close(posterior.commitment.mean(), expected)
    posterior.commitment.sum().backward()
    assert weight.grad.abs().sum() > 0 and features.grad.abs().sum() > 0
    assert bottleneck.terms == (TermSpec("commitment", "commitment", 1.0),)


def test_a_missing_package_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    with pytest.raises(MissingExtra, match=r"SimVQ needs the package vector-quantize-pytorch") as e:
        SimVQ()
    assert e.value.hint == 'type: pip install "aelab[vq]"' and e.value.exit_code == 2


def test_importing_the_models_does_not_import_the_package():
    code = "import sys, aelab.models; assert 'vector_quantize_pytorch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("make", BOTTLENECKS.values(), ids=BOTTLENECKS)
def test_features_that_cannot_be_cut_are_named(make):
    with pytest.raises(
        ShapeError, match=r"have 10 numbers, which cannot be split into vectors of 4"
    ):
        make()(torch.randn(2, 10))
    with pytest.raises(ShapeError, match=r"features of 6x3x3 have 6 channels"):
        make()(torch.randn(2, 6, 3, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VQ(codebook_size=0), "at least 1, not 0 and 8"),
        (lambda: VQ(decay=1.0), "below 1, not 1.0"),
        (lambda: VQ(dead_below=-0.1), "not 0.99 and -0.1"),
        (lambda: FSQ((8, 1)), r"at least 2 levels, not \(8, 1\)"),
        (lambda: FSQ(()), "at least 2 levels"),
    ],
)
def test_settings_without_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def quantized(bottleneck, terms=()):
    shape = (1, 8, 8)
    return Autoencoder(EncoderMLP(shape, 8), bottleneck, DecoderMLP(shape, 8), terms)


def test_a_model_wishes_for_its_codebooks_commitment():
    wish = TermSpec("commitment", "commitment", 0.25)
    assert quantized(make_vq()).terms == (wish,)
    own = TermSpec("l2", "l2")
    assert quantized(make_vq(), [own]).terms == (own, wish)
    assert quantized(make_vq(commitment_weight=0)).terms == ()
    assert quantized(FSQ((5, 5))).terms == ()
    assert quantized(FSQ((5, 5))).codebooks == {"": 25}


@pytest.mark.parametrize("make", BOTTLENECKS.values(), ids=BOTTLENECKS)
def test_a_model_with_a_codebook_builds_on_the_meta_device(make):
    with torch.device("meta"):
        empty = quantized(make())
    assert model_facts(empty, (1, 8, 8)) == model_facts(quantized(make()), (1, 8, 8))
    trial = copy.deepcopy(empty).train()
    assert trial(torch.empty(2, 1, 8, 8, device="meta")).latent.shape == (2, 8)
    trial.after_step()


def test_a_feature_map_keeps_its_shape_through_encode_and_decode():
    block = Conv2dBlock((1, 6, 8), 3, 1, act_fn="relu", act_last_layer=False)
    model = Autoencoder(block, make_vq(), block.create_transposed(act_last_layer=False)).eval()
    images = torch.rand(2, 1, 9, 11)
    latent = model.encode(images)
    assert latent.shape == (2, 8, 5, 7)
    output = model(images)
    assert torch.equal(latent, output.latent)
    assert torch.equal(model.decode(latent), output.reconstruction)
    assert output.posterior.index.shape == (2, 2 * 5 * 7)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_the_nearest_entry_is_found_far_from_zero(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    step = max(0.05, offset * 2e-6)  # what float32 can still hold there
    codebook = offset + step * torch.arange(16.0)[:, None].expand(16, 4)
    index = torch.randint(16, (200,), generator=generator)
    vectors = codebook[index] + 0.1 * step * torch.randn(200, 4, generator=generator)
    assert torch.equal(nearest_entries(vectors[None], codebook)[0], index)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_a_codebook_learns_clusters_far_from_zero(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    step = max(1.0, offset * 1e-4)
    layer = VQ(codebook_size=4, dims=2)
    layer.train()
    for _ in range(600):
        cluster = torch.randint(4, (64, 1), generator=generator)
        noise = 0.02 * step * torch.randn(64, 2, generator=generator)
        layer(offset + step * cluster + noise)
        layer.after_step()
    entries = (layer.codebook.sort(0).values - offset) / step
    torch.testing.assert_close(entries[:, 0], torch.arange(4.0), rtol=0, atol=0.05)
