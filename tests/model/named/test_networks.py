"""timm:NAME and hf:OWNER/REPO: weights from the hub's cache, feeding and labels from their configurations, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import InputError, UnreadableModelError, UnsafeModelError
from coreproof.model.feeding import Feeding
from tests.model.named.hub_cache import is_installed, keep

torch = pytest.importorskip("torch", reason="needs the torch extra")

needs_timm = pytest.mark.skipif(not is_installed("timm"), reason="timm is not installed")
needs_transformers = pytest.mark.skipif(not is_installed("transformers"), reason="transformers is not installed")


def stored(module: Any, folder: Path) -> bytes:
    """The weights of a module as a safetensors file holds them."""
    from safetensors.torch import save_file

    save_file({key: value.clone() for key, value in module.state_dict().items()}, folder / "w", {"format": "pt"})
    return (folder / "w").read_bytes()


# timm


@pytest.fixture
def timm() -> Any:
    from coreproof.model.torch.timm import import_timm

    return import_timm()


@needs_timm
def test_timm_has_its_published_weights_its_feeding_and_its_labels(timm: Any, hub: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    known = timm.create_model("test_efficientnet")
    keep(hub, "timm/test_efficientnet.r160_in1k", {"model.safetensors": stored(known, tmp_path)})
    model: Any = cp.load("timm:test_efficientnet")
    assert not model.untrained
    assert torch.equal(model.module.conv_stem.weight, known.conv_stem.weight)
    config = timm.models.get_pretrained_cfg("test_efficientnet")
    side = config.input_size[-1]
    expected = Feeding(
        size=(side, side),
        resize_to=int(side / config.crop_pct),
        interpolation=config.interpolation,
        scale=1 / 255,
        mean=config.mean,
        std=config.std,
    )
    assert model.feeding == expected
    assert len(model.signature.labels) == 1000
    assert "golden retriever" in model.signature.labels[207]
    assert "r160_in1k" in model.notes[0]
    assert cp.load("timm:test_efficientnet.r160_in1k").name == "test_efficientnet.r160_in1k"


@needs_timm
def test_a_timm_network_sees_pictures_as_timm_feeds_them(timm: Any, hub: Path, tmp_path: Path) -> None:
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    from coreproof.runtime.images import to_tensor

    model: Any = cp.load("timm:test_vit?weights=random")
    drawn = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    picture = Image.fromarray(drawn).resize((330, 270), Image.Resampling.BICUBIC)
    expected = create_transform(**resolve_model_data_config(model.module), is_training=False)(picture)
    found = to_tensor(picture, model.feeding)
    assert np.abs(found.reshape(expected.shape) - expected.numpy()).max() < 1e-5


@needs_timm
def test_random_weights_of_timm_have_to_be_asked_for(timm: Any, hub: Path) -> None:
    model: Any = cp.load("timm:test_byobnet?weights=random&num_classes=7&seed=3")
    assert model.untrained
    assert model.signature.labels is None
    assert model.signature.outputs[0].shape == (1, 7)
    again: Any = cp.load("timm:test_byobnet?seed=3&num_classes=7")
    assert torch.equal(model.module.head.fc.weight, again.module.head.fc.weight)
    with pytest.raises(UnreadableModelError, match=r"cannot be reached[\s\S]*models--timm--test_byobnet"):
        cp.load("timm:test_byobnet")


@needs_timm
def test_weights_of_a_file_say_nothing_of_pictures(timm: Any, tmp_path: Path) -> None:
    known = timm.create_model("test_resnet", num_classes=3)
    (tmp_path / "mine.safetensors").write_bytes(stored(known, tmp_path))
    torch.save(known.state_dict(), tmp_path / "mine.pth")
    for file in ("mine.safetensors", "mine.pth"):
        model: Any = cp.load(f"timm:test_resnet?weights=./{file}&num_classes=3", folder=tmp_path)
        assert model.feeding is None
        assert torch.equal(model.module.conv1[0].weight, known.conv1[0].weight)
    with pytest.raises(UnreadableModelError, match=r"not those of timm's test_resnet"):
        cp.load("timm:test_resnet?weights=./mine.pth", folder=tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(UnreadableModelError, match="cannot be read"):
        cp.load("timm:test_resnet?weights=./bad.safetensors", folder=tmp_path)


@needs_timm
@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("resnet5O", "did you mean resnet50"),
        ("test_vit.other", "has no weights 'other' for test_vit"),
        ("test_vit?weights=IMAGENET1K_V1", "other published weights: timm:NAME.TAG"),
        ("test_vit?num_classes=5", "have other classes"),
        ("test_vit?weights=./w.pth&seed=1", "seed is of random weights"),
        ("test_vit?pretrained=true", "unknown option"),
        ("resnet50_gn?weights", "said once"),
    ],
)
def test_what_a_name_of_timm_cannot_mean_is_said(timm: Any, hub: Path, reference: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        cp.load(f"timm:{reference}")
    assert said in str(raised.value)


@needs_timm
def test_weights_that_are_published_as_a_pickle_need_trust(timm: Any, hub: Path) -> None:
    keep(hub, "timm/test_vit.r160_in1k", {"pytorch_model.bin": b"x"})
    with pytest.raises(UnsafeModelError, match="--trust"):
        cp.load("timm:test_vit")
    with pytest.raises(UnsafeModelError, match="--trust"):
        cp.load("timm:gcvit_xxtiny")


@needs_timm
def test_a_repository_made_with_timm_is_what_its_configuration_says(timm: Any, hub: Path, tmp_path: Path) -> None:
    known = timm.create_model("test_convnext", num_classes=3)
    config = {
        "architecture": "test_convnext",
        "num_classes": 3,
        "label_names": ["cat", "dog", "cow"],
        "model_args": {"checkpoint_path": "/nowhere/else.pth"},
        "pretrained_cfg": {
            "input_size": [3, 96, 96], "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "center",
            "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "file": "/nowhere/else.pth", "custom_load": True,
        },
    }  # fmt: skip
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": stored(known, tmp_path)}
    keep(hub, "mine/beasts", files)
    model: Any = cp.load("hf:mine/beasts")
    assert model.name == "beasts"
    assert model.signature.labels == ("cat", "dog", "cow")
    assert model.feeding == Feeding(
        size=(96, 96), resize_to=106, interpolation="bilinear", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2)
    )
    with torch.no_grad():
        assert torch.equal(model.module(*model.example_inputs), known.eval()(*model.example_inputs))
    assert cp.load("hf:mine/beasts?weights=random").untrained


@needs_timm
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"crop_mode": "border"}, "border"),
        ({"crop_mode": "squash", "crop_pct": 0.9}, "squash"),
        ({"mean": None}, "mean"),
        ({"interpolation": "random"}, "random"),
        ({"input_size": (5, 9, 9)}, "5 channels"),
    ],
)
def test_what_no_feeding_can_say_is_asked_for(changed: dict[str, Any], said: str) -> None:
    from coreproof.model.torch.timm import feeding_of

    plain = {"input_size": (3, 9, 9), "interpolation": "bicubic", "crop_pct": 0.9, "mean": (0.5,), "std": (0.5,)}
    feeding, notes = feeding_of({**plain, **changed})
    assert feeding is None
    assert said in notes[0]


# transformers


@pytest.fixture
def transformers() -> Any:
    from coreproof.model.torch.transformers import import_transformers

    return import_transformers()


def bert(transformers: Any, labels: dict[int, str] | None = None) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=24, **({} if labels is None else {"id2label": labels}),
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config).eval()


def vit(transformers: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=32, patch_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label={0: "cat", 1: "dog"},
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).eval()


def saved(module: Any, folder: Path, **more: str) -> dict[str, bytes]:
    """The files that transformers writes for a network."""
    module.save_pretrained(folder, **more)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}  # fmt: skip


@needs_transformers
def test_a_text_classifier_is_made_of_its_configuration_and_its_safetensors(
    transformers: Any, hub: Path, tmp_path: Path
) -> None:
    known = bert(transformers, {0: "bad", 1: "good", 2: "neither"})
    keep(hub, "some/bert", saved(known, tmp_path / "made"))
    model: Any = cp.load("hf:some/bert?length=9")
    assert not model.untrained
    assert [(f.name, f.shape) for f in model.signature.inputs] == [("input_ids", (1, 9)), ("attention_mask", (1, 9))]
    assert model.signature.labels == ("bad", "good", "neither")
    assert model.feeding is None
    ids, mask = model.example_inputs
    with torch.no_grad():
        assert torch.equal(model.example_outputs["logits"], known(ids, attention_mask=mask).logits)
    assert cp.verify(model, cp.convert(model, "onnx")).agrees


@needs_transformers
def test_a_picture_classifier_brings_its_feeding(transformers: Any, hub: Path, tmp_path: Path) -> None:
    files = {
        **saved(vit(transformers), tmp_path / "made"),
        "preprocessor_config.json": json.dumps(PREPROCESSOR).encode(),
    }
    keep(hub, "some/vit", files)
    model: Any = cp.load("hf:some/vit")
    assert model.signature.labels == ("cat", "dog")
    assert [(f.name, f.shape) for f in model.signature.inputs] == [("pixel_values", (1, 3, 32, 32))]
    assert model.feeding == Feeding(
        size=(32, 32), resize="squash", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )


@needs_transformers
def test_a_network_without_a_preprocessor_asks_how_it_is_fed(transformers: Any, hub: Path, tmp_path: Path) -> None:
    from PIL import Image

    keep(hub, "some/vit", saved(vit(transformers), tmp_path / "made"))
    model: Any = cp.load("hf:some/vit")
    assert model.feeding is None
    with pytest.raises(InputError, match=r"how photos are fed[\s\S]*--mean"):
        cp.predict(model, Image.new("RGB", (8, 8)))


@needs_transformers
def test_numbered_labels_are_none(transformers: Any, hub: Path, tmp_path: Path) -> None:
    keep(hub, "some/bert", saved(bert(transformers), tmp_path / "made"))
    assert cp.load("hf:some/bert").signature.labels is None


@needs_transformers
def test_weights_in_several_files_are_found_by_their_index(transformers: Any, hub: Path, tmp_path: Path) -> None:
    known = bert(transformers)
    files = saved(known, tmp_path / "made", max_shard_size="5KB")
    assert "model.safetensors.index.json" in files
    keep(hub, "some/bert", files)
    model: Any = cp.load("hf:some/bert")
    with torch.no_grad():
        ids, mask = model.example_inputs
        # where a tensor begins in a file decides which kernel adds it up
        assert torch.allclose(model.example_outputs["logits"], known(ids, attention_mask=mask).logits, atol=1e-6)


@needs_transformers
def test_pickled_weights_need_trust(transformers: Any, hub: Path, tmp_path: Path) -> None:
    known = bert(transformers)
    files = saved(known, tmp_path / "made")
    del files["model.safetensors"]
    torch.save(known.state_dict(), tmp_path / "w.bin")
    keep(hub, "some/bert", {**files, "pytorch_model.bin": (tmp_path / "w.bin").read_bytes()})
    with pytest.raises(UnsafeModelError, match=r"pickles alone[\s\S]*pytorch_model\.bin"):
        cp.load("hf:some/bert")
    model: Any = cp.load("hf:some/bert", trust=True)
    assert torch.equal(
        model.module.state_dict()[next(iter(model.module.state_dict()))], next(iter(known.parameters()))
    ) or (not model.untrained)


@needs_transformers
def test_a_repository_with_onnx_alone_names_it(transformers: Any, hub: Path, tmp_path: Path) -> None:
    files = saved(bert(transformers), tmp_path / "made")
    del files["model.safetensors"]
    keep(hub, "some/bert", {**files, "onnx/model.onnx": b"x"})
    with pytest.raises(UnreadableModelError, match=r"hf:some/bert/onnx/model\.onnx"):
        cp.load("hf:some/bert")
    assert cp.load("hf:some/bert?weights=random&seed=2").untrained


@needs_transformers
def test_a_head_that_was_not_trained_is_refused(transformers: Any, hub: Path, tmp_path: Path) -> None:
    files = saved(bert(transformers).bert, tmp_path / "made")
    config = json.loads(files["config.json"])
    config["architectures"] = ["BertForSequenceClassification"]
    keep(hub, "some/bert", {**files, "config.json": json.dumps(config).encode()})
    with pytest.raises(UnreadableModelError, match=r"not those of BertForSequenceClassification[\s\S]*classifier"):
        cp.load("hf:some/bert")


@needs_transformers
def test_code_of_a_repository_runs_with_trust_alone(transformers: Any, hub: Path, tmp_path: Path) -> None:
    config = {
        "model_type": "own_net_of_a_test", "architectures": ["OwnNet"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnNet"},
    }  # fmt: skip
    code = f"""
import pathlib
pathlib.Path({str(tmp_path / "ran")!r}).write_text("x")
import torch
from transformers import PretrainedConfig, PreTrainedModel
class OwnConfig(PretrainedConfig):
    model_type = "own_net_of_a_test"
    vocab_size = 9
class OwnNet(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        self.table = torch.nn.Embedding(9, 3)
        self.post_init()
    def forward(self, input_ids):
        return self.table(input_ids)
"""
    keep(hub, "some/own", {"config.json": json.dumps(config).encode(), "own.py": code.encode()})
    with pytest.raises(UnsafeModelError, match=r"Python code of its repository[\s\S]*--trust"):
        cp.load("hf:some/own?weights=random")
    assert not (tmp_path / "ran").exists()
    model: Any = cp.load("hf:some/own?weights=random&length=4", trust=True)
    assert (tmp_path / "ran").exists()
    assert model.signature.outputs[0].shape == (1, 4, 3)


@needs_transformers
@pytest.mark.parametrize(
    ("kind", "changed", "inputs"),
    [
        ("T5ForConditionalGeneration", {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 20},
         {"input_ids": (1, 5), "attention_mask": (1, 5), "decoder_input_ids": (1, 1)}),
        ("ASTForAudioClassification", {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 8, "max_length": 64, "num_mel_bins": 32}, {"input_values": (1, 64, 32)}),
        ("Wav2Vec2ForCTC", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
         "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
         {"input_values": (1, 16000)}),
    ],
)  # fmt: skip
def test_what_a_network_takes_follows_from_its_kind(
    transformers: Any, hub: Path, kind: str, changed: dict[str, Any], inputs: dict[str, tuple[int, ...]]
) -> None:
    config = getattr(transformers, kind).config_class(**changed, architectures=[kind])
    keep(hub, "some/net", {"config.json": config.to_json_string(use_diff=False).encode()})
    model = cp.load("hf:some/net?weights=random&length=5")
    assert {f.name: f.shape for f in model.signature.inputs} == inputs


@needs_transformers
def test_a_network_that_is_too_new_is_said(transformers: Any, hub: Path) -> None:
    keep(hub, "some/new", {"config.json": b'{"model_type": "net_of_next_year"}'})
    with pytest.raises(UnreadableModelError, match=r"does not know 'net_of_next_year'[\s\S]*update"):
        cp.load("hf:some/new")


@needs_transformers
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Feeding((32, 32), "squash", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))),
        (
            {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "do_center_crop": True,
             "crop_size": {"height": 32, "width": 32}, "resample": 3},
            Feeding((32, 32), "crop", 40, "bicubic", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        ),
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "image_processor_type": None, "size": 32,
             "do_center_crop": True, "crop_size": 32, "resample": 3},
            Feeding((32, 32), "crop", 32, "bicubic", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875},
            Feeding((224, 224), "crop", 256, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "do_normalize": False},
            Feeding((384, 384), "squash", scale=1 / 255),
        ),
        ({"image_processor_type": "DetrImageProcessor"}, "DetrImageProcessor"),
        ({"image_processor_type": None}, "not named"),
        ({"size": {"shortest_edge": 32}}, "any proportions"),
        ({"do_resize": False}, "the size that they have"),
        ({"resample": 5}, "resamples by 5"),
        ({"do_center_crop": True, "size": {"height": 40, "width": 40}, "crop_size": 32}, "stretches pictures to 40x40"),
        ({"image_mean": None}, "mean and std"),
    ],
)  # fmt: skip
def test_a_preprocessor_is_read_as_it_is_written(transformers: Any, changed: dict[str, Any], expected: object) -> None:
    from coreproof.model.torch.hub_feeding import feeding_of

    feeding, notes = feeding_of({**PREPROCESSOR, **changed}, transformers)
    if isinstance(expected, str):
        assert feeding is None
        assert expected in notes[0]
    else:
        assert feeding == expected
