"""nn-experiments, the documents' program: its import paths and trainers, and their meaning here.

Imported for every experiment file, so nothing here imports torch.
"""

from __future__ import annotations

from aelab.config.old_programs import OldNumbers, OldProgram, OldTrainer

_MODULES = {
    module: tuple(names.split())
    for module, names in {
        "experiments.ae.kae.cnn_kae": "CNNKAE KAELayer",
        "experiments.ae.kan.kanpolyae": "KANPolyAE",
        "experiments.ae.kan.mlpae": "MLPAE",
        "experiments.ae.mixer.mixermodel": "KAELayer MixerMLP",
        "experiments.ae.models.ensemble": "EnsembleDecoder2d",
        "experiments.ae.models.new": "NewAutoEncoder",
        "experiments.ae.models.patchae": "PatchAutoencoder2d",
        "experiments.ae.models.resae2": "ResAE",
        "experiments.ae.models.resae3": "ResConvStack",
        "experiments.ae.models.resscriptae": "ResidualScriptedAE",
        "experiments.ae.models.scriptae": "ScriptAE",
        "experiments.ae.scriptae.scriptae2": "ScriptedAE",
        "experiments.ae.transformer": "TransformerAutoencoder TransformerDecoder",
        "experiments.datasets": (
            "cifar10_dataset fmnist_dataset mnist_dataset noise_dataset rpg_tile_dataset"
            " rpg_tile_dataset_3x32x32 TeletextMatrixIterableDataset unsplash_dataset"
        ),
        "experiments.datasets.classic": "cifar10_dataset fmnist_dataset mnist_dataset",
        "experiments.datasets.noise": "noise_dataset",
        "experiments.datasets.teletext": "TeletextMatrixIterableDataset",
        "experiments.datasets.unsplash": "unsplash_dataset",
        "experiments.datasets.rpg": "rpg_tile_dataset rpg_tile_dataset_3x32x32",
        "omegaconf": "OmegaConf",
        "scripts.train_autoencoder": "DalleManifoldAutoencoder",
        "scripts.train_autoencoder_vae": "VariationalAutoencoderConv",
        "src.datasets": (
            "ImageCombinePatchIterableDataset ImagePatchDataset InterleaveDataset"
            " InterleaveIterableDataset Kali2dDataset LimitDataset TransformDataset"
            " TransformIterableDataset WrapDataset"
        ),
        "src.datasets.base_dataset": "WrapDataset",
        "src.datasets.generative": "Kali2dDataset",
        "src.datasets.generative.kali2d": "Kali2dDataset",
        "src.datasets.image_combine": "ImageCombinePatchIterableDataset",
        "src.datasets.image_patch": "ImagePatchDataset",
        "src.datasets.interleave": "InterleaveDataset InterleaveIterableDataset",
        "src.datasets.limit": "LimitDataset",
        "src.datasets.transform": "TransformDataset TransformIterableDataset",
        "src.models.ca": "TotalCALayer",
        "src.models.ca.total": "TotalCALayer",
        "src.models.cnn": "Conv2dBlock DalleEncoder SpaceToDepth",
        "src.models.cnn.block2d": "Conv2dBlock",
        "src.models.cnn.dalle": "DalleEncoder",
        "src.models.cnn.spacedepth": "SpaceToDepth SpaceToDepthPool",
        "src.models.decoder": "ConvUpscaleDecoder DecoderConv2d ImageManifoldDecoder",
        "src.models.decoder.decoder2d_conv": "DecoderConv2d",
        "src.models.decoder.image_manifold": "ImageManifoldDecoder",
        "src.models.decoder.upscale": "ConvUpscaleDecoder",
        "src.models.efficientvit.dc_ae": "DCAE DCAEConfig",
        "src.models.encoder": (
            "EncoderConv2d EncoderDecoder StackedSymmetricAutoencoderConv2d VQVAE resnet"
            " resnet18_open"
        ),
        "src.models.encoder.ae": "EncoderDecoder",
        "src.models.encoder.encoder2d_conv": "EncoderConv2d",
        "src.models.encoder.resnet": "resnet18_open",
        "src.models.encoder.stacked_sym_ae": "StackedSymmetricAutoencoderConv2d",
        "src.models.encoder.vqvae": "VQVAE",
        "src.models.loss": "HistogramLoss",
        "src.models.loss.hist": "HistogramLoss",
        "src.models.transform": "HistogramLayer Reshape",
        "src.models.transform.hist": "HistogramLayer",
        "src.models.transform.reshape": "Reshape",
        "src.models.vae": "VariationalAutoencoder VariationalEncoder",
        "src.models.vae.vae": "VariationalAutoencoder VariationalEncoder",
        "src.models.util": "ResidualAdd activation_to_module",
        "src.util": "num_module_parameters",
        "src.util.image": "ImageFilter random_combine_image_crops set_image_channels",
        "src.util.image.combine": "random_combine_image_crops",
        "src.util.image.image": "set_image_channels",
        "src.util.image.image_filter": "ImageFilter",
        "src.util.module": "dump_module_stacktrace num_module_parameters",
    }.items()
}

_WHOLE = frozenset(
    """
    experiments.ae.transformer experiments.datasets.noise src.datasets.image_combine
    src.datasets.transform src.models.cnn.block2d src.models.decoder.decoder2d_conv
    src.models.decoder.upscale src.models.encoder.ae src.models.encoder.encoder2d_conv
    src.models.loss src.models.loss.hist src.models.transform.hist src.models.transform.reshape
    src.models.vae src.models.vae.vae src.util.image.image_filter
    """.split()
)

#: The options of `legacy`, which are only for reproducing published numbers.
_LEGACY = {
    "kl": OldNumbers("its KL term", stand_ins={"kl": "legacy_kl"}),
    "validation": OldNumbers(
        "validation in training mode", fit={"validation": "legacy", "noise_in_target": True}
    ),
}

PROGRAM = OldProgram(
    packages=("src", "experiments", "scripts"),
    files=(
        "src/train/experiment.py",
        "src/train/trainer.py",
        "src/train/train_autoencoder.py",
    ),
    modules=_MODULES,
    whole=_WHOLE,
    old_numbers=_LEGACY,
    namespaces={"resnet": ("resnet18_open",)},
    trainers={
        "Trainer": OldTrainer(frozenset(_LEGACY)),
        "TrainAutoencoder": OldTrainer(frozenset(_LEGACY)),
        "TrainAutoencoderSpecial": OldTrainer(frozenset(_LEGACY), feature_loss_weight=0.0001),
    },
)
