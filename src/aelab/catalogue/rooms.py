from aelab import data

DATASETS = getattr(data, "DATASETS", {})
BLOCK_METHODS = getattr(data, "BLOCK_METHODS", {})
TRANSFORMS = getattr(data, "TRANSFORMS", {})
TORCHVISION_DATASETS = getattr(data, "TORCHVISION_DATASETS", {})
