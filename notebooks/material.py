"""What the notebooks work on: EfficientNet-Lite0 and shipped photos, or the six SqueezeNet models that COREPROOF_DATA names."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import coreproof as cp

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "notebooks"
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Material:
    """``torch`` and ``onnx`` are what ``cp.load`` takes; ``feeding`` is how both are fed."""

    title: str
    torch: str
    onnx: str
    feeding: cp.Feeding
    photos: Path
    data: Path | None

    def load(self) -> object:
        """The PyTorch model."""
        from coreproof.model.load import load
        from coreproof.model.torch.torchvision import imagenet_labels

        loaded = load(self.torch, folder=self.data)
        if loaded.signature.labels is not None:
            return loaded
        # a file of weights says nothing of its classes; of these networks we know that they are ImageNet's
        source = cp.Source(loaded.module, loaded.example_inputs, labels=imagenet_labels(), notes=loaded.notes)
        named = cp.load(source)
        named.name = loaded.name
        return named


def material(photos: int | None = None) -> Material:
    """The six models of one training in the folder COREPROOF_DATA names, else the embedded default.

    ``photos``: at most so many of them, spread over the folder, for a quick look.
    """
    data = os.environ.get("COREPROOF_DATA")
    if data and (Path(data) / "onnx" / "MS_SqueezeNet_fp16.onnx").is_file():
        folder = Path(data)
        return Material(
            "SqueezeNet 1.1, published in three formats",
            "torchvision:squeezenet1_1?weights=torch/squeezenet1_1_torchvision.pth",
            str(folder / "onnx" / "MS_SqueezeNet_fp16.onnx"),
            cp.Feeding(size=(224, 224), resize_to=256, colour="BGR", mean=(104.0, 117.0, 123.0)),
            _some(folder / "photos", photos),
            folder,
        )
    from examples.demo import write_photos

    shipped = OUT / "photos"
    if not shipped.is_dir():
        write_photos(shipped)
    source = f"{ROOT / 'examples' / 'efficientnet_lite0.py'}:model"
    exported = OUT / "efficientnet_lite0.onnx"
    loaded = cp.load(source)
    if not exported.is_file():
        cp.convert(loaded, "onnx").save(exported)
    return Material(
        "EfficientNet-Lite0",
        source,
        str(exported),
        loaded.feeding,
        _some(shipped, photos),
        None,  # type: ignore[attr-defined]
    )


def _some(folder: Path, count: int | None) -> Path:
    """The folder itself, or one with links to so many of its photos."""
    if count is None:
        return folder
    from coreproof.feeding.photos import list_photos

    files = list_photos(folder).files
    chosen = OUT / f"photos-{folder.parent.name}-{count}"
    chosen.mkdir(parents=True, exist_ok=True)
    for file in files[:: max(1, len(files) // count)][:count]:
        place = chosen / file.name
        if not place.exists():
            place.write_bytes(file.read_bytes())
    labels = folder / "labels.csv"
    if labels.is_file():
        (chosen / "labels.csv").write_bytes(labels.read_bytes())
    return chosen
