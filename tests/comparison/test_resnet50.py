"""The line-up of the six ResNet50 runs end to end on stand-ins of its architecture and formats, fetched from this machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.comparison.lineup import load_lineup
from coreproof.errors import UnsafeModelError
from coreproof.model.feeding import TORCHVISION_FEEDING
from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof
from tests.model.named.conftest import cache as cache
from tests.model.named.conftest import server as server
from tests.model.named.server import Server, whole

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "resnet50.toml"
SIX = ["torchm", "t2o", "t2c16", "onnxm", "o2c16", "cml", "torchm2"]


def test_it_is_read_only_with_trust_since_it_names_an_address(tmp_path: Path) -> None:
    with pytest.raises(UnsafeModelError, match="onnxm"):
        load_lineup(EXAMPLE, data=tmp_path)
    (tmp_path / "coreml").mkdir()
    (tmp_path / "coreml" / "Resnet50.mlmodel").touch()
    lineup = load_lineup(EXAMPLE, data=tmp_path, trust=True)
    assert list(lineup.names) == SIX
    # of IMAGENET1K_V1 the same as torchvision's own transforms, whose scale is a fraction
    fed = lineup.feeding("torchm")
    assert fed is not None
    assert (fed.size, fed.resize_to, fed.mean, fed.std) == (
        (224, 224),
        256,
        TORCHVISION_FEEDING.mean,
        TORCHVISION_FEEDING.std,
    )
    assert fed.scale == TORCHVISION_FEEDING.scale
    second = lineup.feeding("torchm2")
    assert second is not None
    assert (second.resize_to, second.mean) == (232, fed.mean)


@pytest.mark.thorough
def test_the_six_see_the_photos(
    coreproof: Callable[..., Ran], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from coreproof.model.torch.model import import_torchvision

    models = import_torchvision().models
    # each kind of block once or twice: the eleven others repeat them
    build = models.resnet._resnet
    monkeypatch.setattr(
        models.resnet, "_resnet", lambda block, _, *given, **more: build(block, [2, 1, 1, 1], *given, **more)
    )
    state: dict[object, object] = {}
    for seed, kind in enumerate((models.ResNet50_Weights.IMAGENET1K_V1, models.ResNet50_Weights.IMAGENET1K_V2)):
        torch.manual_seed(seed)
        state[kind] = models.resnet50().state_dict()
    monkeypatch.setattr(models.ResNet50_Weights, "get_state_dict", lambda self, *_, **__: state[self])

    # the ONNX zoo's: another training of the architecture
    torch.manual_seed(2)
    net = models.resnet50().eval()
    zoo = tmp_path / "zoo.onnx"
    cp.convert(cp.Source(net, (torch.zeros(1, 3, 224, 224),)), "onnx", check=False).save(zoo)
    body = zoo.read_bytes()
    server.answers["/resnet50-v1-12.onnx"] = whole(body)
    text, count = re.subn(
        r'"https://github[^"]+"',
        f'"{server.url("/resnet50-v1-12.onnx")}#sha256={hashlib.sha256(body).hexdigest()}"',
        EXAMPLE.read_text(encoding="utf-8"),
    )
    assert count == 1
    (tmp_path / "resnet50.toml").write_text(text, encoding="utf-8")

    # Apple's: a NeuralNetwork that takes a picture and names classes
    picture = {"x": cp.ImageInput(scale=1 / 255, mean=TORCHVISION_FEEDING.mean, std=TORCHVISION_FEEDING.std)}
    (tmp_path / "coreml").mkdir()
    labels = [f"class {i}" for i in range(1000)]
    apple = cp.convert(zoo, "neuralnetwork", images=picture, labels=labels, check=False)
    apple.save(tmp_path / "coreml" / "Resnet50.mlmodel")

    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(3)
    for number in range(2):
        coarse = rng.integers(0, 255, (5, 7, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((320, 280), Image.Resampling.BICUBIC).save(photos / f"{number}.png")

    ran = coreproof(
        *("compare", tmp_path / "resnet50.toml", "--data", tmp_path, "--photos", photos, "--out", tmp_path / "out"),
        *("--trust", "--workers", "1"),
    )
    assert ran.code == 0, ran.err
    assert [path for path, _ in server.asked] == ["/resnet50-v1-12.onnx"]
    found = cp.compare(
        load_lineup(tmp_path / "resnet50.toml", data=tmp_path, trust=True), photos, tmp_path / "out" / "store"
    )
    assert list(found.names) == SIX
    assert found.count == 2
    # conversions of one training, and Apple's, which stands in for a conversion of the zoo's
    for a, b in (("torchm", "t2o"), ("torchm", "t2c16"), ("onnxm", "o2c16"), ("onnxm", "cml")):
        assert found.pairs[a, b].count == 2
        assert np.isclose(found.predictions(a, "0.png")[0][1], found.predictions(b, "0.png")[0][1], rtol=0.05)
