"""The verbs as the fuzzer calls them on what lies around models: inputs, edits, line-ups, stores, photos, labels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import coreproof as cp
from conformance.fuzz.verbs import Scene, Verb, command


def _net(scene: Scene) -> Path:
    return scene.seed("onnx", "net", "net.onnx")


INPUTS = (
    Verb("verify", lambda s: command("verify", _net(s), _net(s), "--inputs", s.path)),
    Verb("save", lambda s: command("verify", _net(s), "--inputs", s.path, "--save", s.out / "run.npz")),
    Verb("load", lambda s: cp.load(s.path)),
)


def _fed_by(scene: Scene) -> str:
    """A healthy model that takes what the folder holds."""
    return (
        str(scene.seed("onnx", "net", "net.onnx")) if scene.case.name == "arrays" else f"{__file__}:{scene.case.name}"
    )


def sounds() -> Any:
    """A module that takes a sound."""
    import torch

    return torch.nn.Linear(32, 3).eval(), {"input": torch.zeros(1, 32)}


def tokens() -> Any:
    """A module that takes token ids and their mask."""
    import torch

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(5, 4)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.embed(input_ids) * attention_mask[..., None]

    return Reader().eval(), (torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.int64))


def _compared(scene: Scene) -> None:
    model = cp.load(_fed_by(scene))
    cp.compare_inputs({"one": model, "other": model}, scene.path)


FOLDER = (
    Verb("verify", lambda s: command("verify", _fed_by(s), _fed_by(s), "--inputs", s.path)),
    Verb("save", lambda s: command("verify", _fed_by(s), "--inputs", s.path, "--save", s.out / "run.npz"), 2),
    Verb("compare", _compared, 2),
)


def _edited(scene: Scene) -> Path:
    """The model of a script: the one file or folder beside it that is a model."""
    names = sorted({name.split("/")[0] for name in scene.case.files})
    return scene.mutant / next(n for n in names if n.endswith((".onnx", ".mlmodel", ".mlpackage")))


EDITS = (
    Verb("edit", lambda s: command("edit", _edited(s), s.path, s.out / f"edited{_edited(s).suffix}")),
    Verb(
        "force",
        lambda s: command("edit", _edited(s), s.path, s.out / f"forced{_edited(s).suffix}", "--force", "--json"),
    ),
)


def _lineup(scene: Scene, *, store: Path | None = None, lineup: Path | None = None, **more: Any) -> None:
    from coreproof.comparison.lineup import load_lineup
    from coreproof.report.notebook import html

    result = cp.compare(load_lineup(lineup or scene.path), scene.photos, store=store, workers=1, **more)
    cp.page(result, scene.out / "page")
    html(result)


def _read_lineup(scene: Scene) -> None:
    from coreproof.comparison.lineup import load_lineup

    load_lineup(scene.path)


LINEUP = (
    Verb("load", _read_lineup),
    Verb("compare", _lineup),
    Verb(
        "command",
        lambda s: command("compare", s.path, "--photos", s.photos, "--out", s.out / "page", "--workers", 1),
        4,
    ),
)


def _healthy_lineup(scene: Scene) -> Path:
    return scene.seed("lineup", "plain", "lineup.toml")


def _read_device(scene: Scene) -> None:
    from coreproof.comparison.device import read_device

    read_device(scene.path)


DEVICE = (
    Verb("load", _read_device),
    Verb("compare", lambda s: _lineup(s, lineup=_healthy_lineup(s), devices=[s.path])),
)


def _kept(scene: Scene) -> Path:
    """A copy of the store: a run writes into it."""
    kept = scene.out / "store"
    shutil.copytree(
        scene.path, kept, symlinks=True, ignore=lambda folder, names: [n for n in names if (Path(folder) / n).is_fifo()]
    )
    for path in scene.path.rglob("*"):
        if path.is_fifo():
            os.mkfifo(kept / path.relative_to(scene.path))
    return kept


def _resumed(scene: Scene) -> None:
    words = ("--photos", scene.photos, "--out", scene.out / "page", "--store", _kept(scene), "--workers", 1)
    command("compare", _healthy_lineup(scene), *words)


STORE = (
    Verb("compare", lambda s: _lineup(s, lineup=_healthy_lineup(s), store=_kept(s))),
    Verb("command", _resumed, 2),
)


def _of_photos(scene: Scene) -> None:
    from coreproof.comparison.lineup import load_lineup

    compared = cp.compare(load_lineup(_healthy_lineup(scene)), scene.mutant, workers=1)
    cp.page(compared, scene.out / "page")


PHOTO = (
    Verb("predict", lambda s: cp.predict(s.seed("mlmodel", "classifier", "classifier.mlmodel"), s.path)),
    Verb("command", lambda s: command("predict", s.seed("mlpackage", "classifier", "classifier.mlpackage"), s.path)),
    Verb(
        "verify",
        lambda s: command("verify", *[s.seed("mlmodel", "classifier", "classifier.mlmodel")] * 2, "--photos", s.mutant),
        2,
    ),
    Verb("compare", _of_photos, 2),
)


def _labelled(scene: Scene) -> None:
    model = scene.seed("onnx", "classifier", "classifier.onnx")
    command("convert", model, scene.out / "made.mlpackage", "--labels", scene.path, "--precision", "fp32")


def _relabel(scene: Scene) -> None:
    model = cp.load(scene.seed("mlmodel", "classifier", "classifier.mlmodel"))
    cp.edit(model, [cp.Edit("relabel", {"labels": str(scene.path)})]).model.save(scene.out / "relabelled.mlmodel")


LABELS = (
    Verb("convert", _labelled),
    Verb("relabel", _relabel),
    Verb("doctor", lambda s: command("doctor", s.seed("mlmodel", "classifier", "classifier.mlmodel"), "--labels", s.path), 2),
    Verb("predict", lambda s: command("predict", s.seed("onnx", "classifier", "classifier.onnx"), s.photos / "p0.png",
                                      "--size", "4", "--labels", s.path), 2),
    Verb("compare", lambda s: _lineup(s, lineup=_healthy_lineup(s), labels=s.path)),
)  # fmt: skip
