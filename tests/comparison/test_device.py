"""What a phone exported becomes models of a comparison; the file that the app writes is read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coreproof.comparison.compare import compare
from coreproof.comparison.device import FORMAT, read_device
from coreproof.errors import LineupError, PhotoError
from coreproof.feeding.predict import scores
from coreproof.handover.samples import encode
from coreproof.handover.sources import swift_sources
from coreproof.runtime.open import session
from tests.build import FEEDING, classifier

PROCESSORS = ("CPU", "CPU and Neural Engine")


def device_json(
    photos: Path, path: Path, names: list[str], noise: float = 0.0, name: str = "Tiny", system: str = "iOS 26.1"
) -> Path:
    """What the app would write: the answers of the classifier with seed 0, on two processors."""
    model = classifier(0)
    rng = np.random.default_rng(0)
    with session(model) as running:
        answers = {name: scores(running, model, photos / name, FEEDING) for name in names}
    runs = [
        {
            "processor": processor,
            "milliseconds": 1.5,
            "scores": {name: encode(a + amount * rng.random(a.size)) for name, a in answers.items()},
        }
        for processor, amount in zip(PROCESSORS, (0.0, noise), strict=True)
    ]
    document = {
        "format": FORMAT,
        "model": name,
        "fingerprint": "abc",
        "labels": [],
        "device": {"name": "iPhone", "machine": "iPhone15,2", "system": system},
        "runs": runs,
    }
    path.write_text(json.dumps(document))
    return path


def test_the_phone_is_one_more_model(photos: Path, tmp_path: Path) -> None:
    names = ["p00.png", "p03.png", "p05.png"]
    file = device_json(photos, tmp_path / "device.json", names, noise=10.0)
    comparison = compare({"a": classifier(0)}, photos, tmp_path / "store", devices=[file])
    assert comparison.photos == tuple(names)
    agreement = comparison.agreement()
    assert agreement["a"]["iPhone15,2 CPU"] == 3
    assert set(agreement) == {"a", "iPhone15,2 CPU", "iPhone15,2 CPU and Neural Engine"}
    described = {m.name: m for m in comparison.models}
    assert described["iPhone15,2 CPU"].engine == "Core ML on iPhone15,2, iOS 26.1, CPU"
    assert described["iPhone15,2 CPU"].milliseconds == pytest.approx(1.5)
    assert described["a"].engine != described["iPhone15,2 CPU"].engine


@pytest.mark.thorough
def test_a_phone_that_proved_two_models_and_two_phones_of_a_kind(photos: Path, tmp_path: Path) -> None:
    tiny = device_json(photos, tmp_path / "tiny.json", ["p00.png"])
    other = device_json(photos, tmp_path / "other.json", ["p00.png"], name="Other")
    newer = device_json(photos, tmp_path / "newer.json", ["p00.png"], system="iOS 27.0")
    models = {"a": classifier(0)}
    assert set(compare(models, photos, devices=[tiny, other]).agreement()) == {
        "a",
        *(f"iPhone15,2 {processor}, {name}" for processor in PROCESSORS for name in ("Tiny", "Other")),
    }
    assert "iPhone15,2 CPU, iOS 27.0" in compare(models, photos, devices=[tiny, newer]).agreement()
    assert "iPhone15,2 CPU, Other, iOS 26.1" in compare(models, photos, devices=[tiny, other, newer]).agreement()
    with pytest.raises(LineupError, match="cannot be told apart") as caught:
        compare(models, photos, devices=[tiny, tiny])
    assert "iPhone15,2 CPU, Tiny, iOS 26.1" in str(caught.value)


def test_another_export_is_not_answered_from_the_store(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = compare(
        {"a": classifier(0)}, photos, store, devices=[device_json(photos, tmp_path / "d.json", ["p00.png"])]
    )
    again = compare(
        {"a": classifier(0)}, photos, store, devices=[device_json(photos, tmp_path / "d.json", ["p00.png"], noise=50.0)]
    )
    neural = "iPhone15,2 CPU and Neural Engine"
    assert first.predictions(neural, "p00.png") != again.predictions(neural, "p00.png")


def test_what_the_app_writes_is_what_is_read() -> None:
    source = swift_sources()["Export.swift"]
    assert f'static let version = "{FORMAT}"' in source
    assert "let format = Export.version" in source
    for key in (
        "model",
        "fingerprint",
        "labels",
        "device",
        "runs",
        "processor",
        "milliseconds",
        "scores",
        "machine",
        "system",
    ):
        assert f"let {key}:" in source


def proof(**changes: object) -> str:
    whole = {"format": FORMAT, "model": "m", "fingerprint": "f", "labels": ["a", "b"],
             "runs": [{"scores": {"p": "AAAAAAAAAAA="}, "processor": "CPU", "milliseconds": 1}],
             "device": {"machine": "iPhone", "system": "26"}}  # fmt: skip
    return json.dumps({**whole, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not a device's proof"),
        ('{"format": "coreproof device 9"}', "not a device's proof"),
        (f'{{"format": "{FORMAT}"}}', "damaged.*\n.*\n.*runs is missing"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": ["coreproof device 1"]}', "not a device's proof"),
        (proof(device={"machine": "\ud800", "system": "s"}), "half of a surrogate pair"),
        (proof(device="iPhone"), "device: expected a table, found a text"),
        (proof(labels=["a", 3]), r"labels\[1\]: expected a text, found a whole number"),
        (proof(labels="abc"), "labels: expected a list, found a text"),
        (proof(runs={}), "runs: expected a list, found a table"),
        (proof(runs=[{"scores": {"p": "AAAA!"}, "processor": "CPU", "milliseconds": 1}]), "as base64"),
        (proof(runs=[{"scores": {"p": "AAAA"}, "processor": "CPU", "milliseconds": 1}]), "as base64"),
        (proof(runs=[{"scores": {"p": "AAAAAA=="}, "processor": "CPU", "milliseconds": 1}]), "2 scores a photo"),
        (
            proof(runs=[{"scores": {"p": "AAAAAAAAAAA="}, "processor": 1, "milliseconds": 1}]),
            "processor: expected a text",
        ),
        (
            proof(runs=[{"scores": {"p": "AAAAAAAAAAA="}, "processor": "CPU", "milliseconds": 1e400}]),
            "milliseconds: expected a finite number, found inf",
        ),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "device.json"
    path.write_text(text)
    with pytest.raises(LineupError, match=message):
        read_device(path)


def test_photos_that_the_phone_never_saw_are_said(photos: Path, tmp_path: Path) -> None:
    file = device_json(photos, tmp_path / "device.json", ["p00.png"])
    document = json.loads(file.read_text())
    for run in document["runs"]:
        run["scores"] = {"elsewhere.png": run["scores"]["p00.png"]}
    file.write_text(json.dumps(document))
    with pytest.raises(PhotoError, match="none of these photos"):
        compare({"a": classifier(0)}, photos, devices=[file])


def test_a_proof_without_class_scores_is_refused(photos: Path, tmp_path: Path) -> None:
    file = device_json(photos, tmp_path / "d.json", ["p00.png"])
    document = json.loads(file.read_text())
    for run in document["runs"]:
        run["scores"] = {}
    file.write_text(json.dumps(document))
    with pytest.raises(LineupError, match="no run of this device's proof has class scores"):
        read_device(file)
