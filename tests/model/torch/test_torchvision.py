"""torchvision:NAME: published weights and what belongs to them, weights of a file, and random ones that say that they are."""

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import InputError, MissingDependencyError, UnreadableModelError
from coreproof.model.feeding import TORCHVISION_FEEDING
from coreproof.model.stored_source import weights_of, why_unsafe

torch = pytest.importorskip("torch", reason="needs the torch extra")


@pytest.fixture
def models() -> Any:
    from coreproof.model.torch.model import import_torchvision

    try:
        return import_torchvision().models
    except MissingDependencyError:
        pytest.skip("torchvision is not installed")


@pytest.fixture
def offline(models: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and nothing kept: the folder in which torchvision would keep weights."""
    torch.hub.set_dir(str(tmp_path / "hub"))

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "hub" / "checkpoints"


def stored(models: Any, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    """Lets published weights be at hand: random ones of the same shapes."""
    more = {"init_weights": False} if name == "googlenet" else {}
    state = models.get_model(name, weights=None, **more).state_dict()
    monkeypatch.setattr(getattr(models, kind), "get_state_dict", lambda self, *a, **k: state)


def test_a_name_alone_means_the_published_weights_with_their_transforms_and_labels(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(models, monkeypatch, "mobilenet_v3_small", "MobileNet_V3_Small_Weights")
    model = cp.load("torchvision:mobilenet_v3_small")
    assert not model.untrained
    assert model.feeding == TORCHVISION_FEEDING  # type: ignore[attr-defined]
    assert model.signature.labels is not None
    assert model.signature.labels[207] == "golden retriever"
    assert "MobileNet_V3_Small_Weights.IMAGENET1K_V1" in model.notes[0]


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("name", "kind", "query", "side", "resize_to", "interpolation"),
    [
        ("resnet18", "ResNet18_Weights", "?weights=IMAGENET1K_V1", 224, 256, "bilinear"),
        ("mobilenet_v2", "MobileNet_V2_Weights", "", 224, 232, "bilinear"),
        ("mobilenet_v2", "MobileNet_V2_Weights", "?weights=IMAGENET1K_V1", 224, 256, "bilinear"),
        ("efficientnet_b1", "EfficientNet_B1_Weights", "?weights=IMAGENET1K_V1", 240, 256, "bicubic"),
        ("googlenet", "GoogLeNet_Weights", "", 224, 256, "bilinear"),
    ],
)
def test_each_set_of_weights_has_transforms_of_its_own(
    models: Any, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, query: str, side: int, resize_to: int, interpolation: str
) -> None:  # fmt: skip
    stored(models, monkeypatch, name, kind)
    model: Any = cp.load(f"torchvision:{name}{query}")
    fed = model.feeding
    assert (fed.size, fed.resize_to, fed.interpolation) == ((side, side), resize_to, interpolation)
    assert tuple(model.example_inputs[0].shape) == (1, 3, side, side)


@pytest.mark.parametrize("query", ["", "?weights=IMAGENET1K_V1", "?weights=DEFAULT"])
def test_without_a_network_both_ways_are_named(offline: Path, query: str) -> None:
    with pytest.raises(UnreadableModelError) as raised:
        cp.load(f"torchvision:resnet18{query}")
    said = str(raised.value)
    assert "cannot be downloaded" in said
    assert "with a network" in said
    assert "torchvision:resnet18?weights=random" in said
    assert str(offline) in said


def test_kept_weights_that_are_damaged_are_named(offline: Path, models: Any) -> None:
    offline.mkdir(parents=True)
    kept = offline / models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    kept.write_bytes(b"half a download")
    with pytest.raises(UnreadableModelError, match=r"keeps cannot be read[\s\S]*delete the file"):
        cp.load("torchvision:resnet18")


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "query", ["?weights=random", "?seed=3", "?weights=random&num_classes=7", "?seed=1&weights=random"]
)
def test_random_weights_say_that_they_are(offline: Path, query: str) -> None:
    model = cp.load(f"torchvision:squeezenet1_1{query}")
    assert model.untrained
    assert "random weights" in model.notes[0]
    exported = cp.convert(model, "onnx")
    assert exported.untrained
    assert cp.convert(exported, "mlprogram").untrained


def test_predict_says_at_once_that_weights_are_random(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from coreproof.cli.main import main

    Image.new("RGB", (300, 260), (200, 30, 30)).save(tmp_path / "a.png")
    line = ["coreproof", "predict", "torchvision:squeezenet1_1?weights=random", str(tmp_path / "a.png")]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "untrained weights" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?weights=IMAGENET1K_V9", "publishes no weights 'IMAGENET1K_V9'"),
        ("?weights=imagenet1k_v1", "did you mean IMAGENET1K_V1"),
        ("?weights=", "weights is said once"),
        ("?weights=random&weights=IMAGENET1K_V1", "weights is said once"),
        ("?seed=1&weights=IMAGENET1K_V1", "seed is of random weights"),
        ("?num_classes=5", "published weights have other classes"),
        ("?pretrained=true", "unknown option"),
        ("?pretrained", "unknown option"),
    ],
)
def test_what_a_query_cannot_mean_is_said(offline: Path, query: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        cp.load(f"torchvision:resnet18{query}")


def test_a_file_of_weights_says_nothing_of_pictures(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "mine.pth")
    model: Any = cp.load(f"torchvision:squeezenet1_1?weights={tmp_path / 'mine.pth'}")
    assert model.feeding is None
    assert model.signature.labels is None
    assert not model.untrained


def test_a_file_that_holds_published_weights_brings_what_belongs_to_them(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "renamed.pth"
    torch.save(models.squeezenet1_1().state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    member = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    other = type(member.value)(f"https://example.invalid/squeezenet1_1-{digest}.pth", member.transforms, member.meta)
    monkeypatch.setattr(member, "_value_", other)
    model: Any = cp.load(f"torchvision:squeezenet1_1?weights={file}")
    assert model.feeding == TORCHVISION_FEEDING
    assert len(model.signature.labels) == 1000


def test_which_weights_are_files() -> None:
    assert weights_of("torchvision:resnet18?weights=random") == []
    assert weights_of("torchvision:resnet18?weights=IMAGENET1K_V1&seed=1") == []
    assert weights_of("torchvision:resnet18?weights=w.pth") == ["w.pth"]
    assert weights_of("torchvision:resnet18?weights=./w") == ["./w"]
    assert why_unsafe("torchvision:resnet18?weights=random", None) is None
    assert why_unsafe("torchvision:resnet18?weights=..%2Fw", None) is not None


def test_a_module_alone_is_fed_by_nobodys_guess(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model: Any = cp.load(module)
    assert model.feeding is None
    assert "[1, 3, 224, 224]" in model.notes[0]
    from PIL import Image

    with pytest.raises(InputError, match=r"how photos are fed[\s\S]*--mean"):
        cp.predict(module, Image.new("RGB", (8, 8)))
