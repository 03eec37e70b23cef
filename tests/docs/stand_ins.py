"""Small stand-ins under the names that the documentation uses: models, photos, a line-up, what a phone exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import coreproof as cp
from coreproof.comparison.device import FORMAT
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.feeding.predict import scores
from coreproof.model.feeding import TORCHVISION_FEEDING
from coreproof.runtime.open import session
from tests.build import named, network, pool

CLASSES = 10
SIDE = 224
WEIGHTS = np.random.default_rng(7)
CONV = WEIGHTS.normal(size=(8, 3, 16, 16)).astype(np.float32)
DENSE = WEIGHTS.normal(size=(CLASSES, 8)).astype(np.float32)
BIAS = WEIGHTS.normal(size=CLASSES).astype(np.float32)
MEAN, STD = TORCHVISION_FEEDING.mean, TORCHVISION_FEEDING.std

TINY_TORCH = """
import torch
import coreproof as cp
from coreproof.model.feeding import TORCHVISION_FEEDING


class Tiny(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 16, 16)
        self.fc = torch.nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def network(classes=10):
    torch.manual_seed(0)
    return cp.Source(Tiny(classes).eval(), (torch.randn(1, 3, 224, 224),), feeding=TORCHVISION_FEEDING)


def imagenet():
    return network(1000)
"""


def classifier(side: int = SIDE) -> onnx.ModelProto:
    """x -> convolution 491 -> ReLU 492 -> mean 493 -> flat 501 -> scores 502 -> probabilities y; names as in 2019."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["491"], name="491", strides=[16, 16]),
        helper.make_node("Relu", ["491"], ["492"], name="492"),
        helper.make_node("GlobalAveragePool", ["492"], ["493"], name="493"),
        helper.make_node("Flatten", ["493"], ["501"], name="501"),
        helper.make_node("Gemm", ["501", "d", "b"], ["502"], name="502", transB=1),
    ]
    return _proto(nodes, [1, 3, side, side], "502", w=CONV, d=DENSE, b=BIAS)


def normalised() -> onnx.ModelProto:
    """The same with a layer normalisation before the scores."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"], name="conv", strides=[16, 16]),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("LayerNormalization", ["flat", "scale"], ["norm"], name="norm"),
        helper.make_node("Gemm", ["norm", "d", "b"], ["var_42"], name="var_42", transB=1),
    ]
    return _proto(nodes, [1, 3, SIDE, SIDE], "var_42", w=CONV, d=DENSE, b=BIAS, scale=np.ones(8, np.float32))


def _proto(nodes: list[Any], shape: list[int], output: str, **stored: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def broken() -> Any:
    """The classifier as onnx-coreml wrote it in 2019, from an export with a batch of 32."""
    conv = {
        "outputChannels": 8, "kernelChannels": 3, "nGroups": 1, "kernelSize": [16, 16], "stride": [16, 16],
        "dilationFactor": [1, 1], "weights": CONV, "valid": {},
    }  # fmt: skip
    dense = {"inputChannels": 8, "outputChannels": CLASSES, "weights": DENSE, "hasBias": True, "bias": BIAS}
    return network(
        [
            named("491", "convolution", "x", "491", **conv),
            named("492", "activation", "491", "492", ReLU={}),
            pool("493", "492", "493"),
            named("501", "reshape", "493", "501", targetShape=[32, -1, 1, 1]),
            named("502", "innerProduct", "501", "502", **dense),
        ],
        {"x": (3, SIDE, SIDE)},
        {"502": None},
    )


def lay_out(folder: Path) -> None:
    """Everything, once; a page gets a copy."""
    onnx.save(classifier(), folder / "model.onnx")
    onnx.save(normalised(), folder / "normalised.onnx")
    onnx.save(_hard_swish(), folder / "net.onnx")
    broken().save(folder / "broken.mlmodel")
    cp.convert(folder / "model.onnx", "mlprogram").save(folder / "model.mlpackage")
    cp.convert(folder / "normalised.onnx", "mlprogram").save(folder / "normalised.mlpackage")
    cp.convert(folder / "model.onnx", "mlprogram", precision="fp32").save(folder / "float32.mlpackage")
    picture = {"x": ImageInput(mean=MEAN, std=STD, scale=1 / 255)}
    labels = [f"class {i}" for i in range(CLASSES)]
    package = cp.convert(folder / "model.onnx", "mlprogram", images=picture, labels=labels)
    package.save(folder / "Classifier.mlpackage")
    onnx.save(classifier(227), folder / "at227.onnx")
    cp.convert(folder / "at227.onnx", "mlprogram", images=picture, labels=labels).save(folder / "shipped.mlpackage")
    (folder / "tiny.py").write_text(TINY_TORCH)
    _train(folder)
    np.savez(folder / "edits.npz", bias=BIAS)
    np.savez(folder / "real.npz", x=WEIGHTS.random((1, 3, SIDE, SIDE), np.float32))
    _tell_truth(package, _photos(folder / "my-photos"))
    (folder / "labels.txt").write_text("\n".join(labels))


def _train(folder: Path) -> None:
    """A class of one's own and its weights, as the README's own model has them."""
    import torch

    (folder / "training.py").write_text(TINY_TORCH.split("def network")[0].replace("class Tiny", "class Network"))
    names: dict[str, Any] = {}
    exec(compile(TINY_TORCH, "tiny.py", "exec"), names)
    torch.save(names["network"]().module.state_dict(), folder / "weights.pt")


def _hard_swish() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", strides=[16, 16]),
        helper.make_node("HardSwish", ["c"], ["h"], name="swish"),
        helper.make_node("GlobalAveragePool", ["h"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "d", "b"], ["y"], name="gemm", transB=1),
    ]
    return _proto(nodes, [1, 3, SIDE, SIDE], "y", w=CONV, d=DENSE, b=BIAS)


def _photos(folder: Path) -> Path:
    """Eight photos of coloured noise, of several formats."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(8):
        tint = rng.integers(0, 200, 3)  # or every network would name one class on all of them
        coarse = (tint + rng.integers(0, 55, (6, 8, 3))).astype(np.uint8)
        size = (260 + 20 * number, 300)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"photo{number}.jpg")
    return folder


def _tell_truth(model: Any, photos: Path) -> None:
    """labels.csv: the stand-in is always right, so that nothing is wrong with its preprocessing."""
    lines = ["file,class_index,synset,name"]
    with session(model) as running:
        for file in sorted(photos.glob("*.jpg")):
            best = int(np.argmax(scores(running, model, file)))
            lines.append(f"{file.name},{best},,class {best}")
    (photos / "labels.csv").write_text("\n".join(lines))


def export_from_device(app: Path, path: Path) -> None:
    """device.json as the app writes it on a device that answers as expected."""
    plan = json.loads(next(app.glob("*/proof.json")).read_text(encoding="utf-8"))
    answers = {sample["name"]: sample["scores"] for sample in plan["samples"]}
    processors = ("CPU", "CPU and GPU", "CPU and Neural Engine")
    document = {
        "format": FORMAT,
        "model": plan["model"],
        "fingerprint": plan["fingerprint"],
        "labels": plan["labels"],
        "device": {"name": "iPhone", "machine": "iPhone15,2", "system": "iOS 26.1"},
        "runs": [{"processor": name, "milliseconds": 1.5, "scores": answers} for name in processors],
    }
    path.write_text(json.dumps(document), encoding="utf-8")


# a recorded run is the reference in verify.md: it is one in float32, whose rounding is not what is compared
ALIASES: dict[str, dict[str, str]] = {
    "verify.md": {"float32.mlpackage": "model.mlpackage"},
    "edit.md": {"normalised.mlpackage": "model.mlpackage"},
    "matrix.md": {"shipped.mlpackage": "Classifier.mlpackage"},
}
"""page -> a stand-in that it knows by another name."""


def copy_for(page: str, all_of_them: Path, folder: Path) -> None:
    """A page's own folder: what it finds there before its first command."""
    shutil.copytree(all_of_them, folder, dirs_exist_ok=True)
    for name, known_as in ALIASES.get(page, {}).items():
        shutil.rmtree(folder / known_as, ignore_errors=True)
        shutil.copytree(folder / name, folder / known_as)
    copies = {
        "broken.mlpackage": "model.mlpackage", "photos": "my-photos", "tests/photos": "my-photos",
        "models/network.onnx": "model.onnx", "models/Classifier.mlpackage": "model.mlpackage", "network.onnx": "model.onnx",
        "classifier.mlpackage": "Classifier.mlpackage", "before.mlpackage": "model.mlpackage",
        "after.mlpackage": "normalised.mlpackage",
    }  # fmt: skip
    for name, stands_in in copies.items():
        source, target = folder / stands_in, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    lineup = (
        '[feed]\nsize = [224, 224]\nscale = 0.0039\n[models.onnx]\nsource = "{}"\n[models.package]\nsource = "{}"\n'
    )
    (folder / "lineup.toml").write_text(lineup.format("model.onnx", "model.mlpackage"))
    (folder / "models" / "lineup.toml").write_text(lineup.format("network.onnx", "Classifier.mlpackage"))
