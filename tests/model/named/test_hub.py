"""hf:OWNER/REPO/FILE: files of the hub as they lie there, from the library's own cache; networks are in test_networks.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import coreproof as cp
from coreproof.errors import InputError, MissingDependencyError, UnreadableModelError, UnsafeModelError
from coreproof.model.named.hub import read_repository
from coreproof.model.stored_source import why_unsafe
from tests.model.named.hub_cache import is_installed, keep
from tests.model.named.server import Handler, Server
from tests.model.named.test_address import BODY


def test_an_onnx_file_is_loaded_as_it_lies_there(hub: Path) -> None:
    keep(hub, "some/net", {"onnx/model.onnx": BODY, "README.md": b"x"})
    model = cp.load("hf:some/net/onnx/model.onnx")
    assert [f.name for f in model.signature.inputs] == ["x"]
    assert "hf:some/net/onnx/model.onnx" in model.notes[-1]


def with_data(folder: Path) -> dict[str, bytes]:
    """A model whose weights lie in a file beside it."""
    weights = onnx.numpy_helper.from_array(np.arange(400, dtype=np.float32).reshape(1, 400), "w")
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 400]) for name in "xy"]
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", value[:1], value[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    return {name: (folder / name).read_bytes() for name in ("model.onnx", "model.onnx_data")}


def test_the_data_beside_an_onnx_file_comes_along(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    files = with_data(tmp_path / "made")
    keep(hub, "some/net", {f"onnx/{name}": content for name, content in files.items()})
    answer = cp.session(cp.load("hf:some/net/onnx/model.onnx")).run({"x": np.zeros((1, 400), np.float32)})
    assert np.array_equal(np.asarray(answer["y"])[0], np.arange(400))


def test_data_that_is_not_there_is_named(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    keep(hub, "some/net", {"model.onnx": with_data(tmp_path / "made")["model.onnx"]})
    with pytest.raises(UnreadableModelError, match=r"model\.onnx_data"):
        cp.load("hf:some/net/model.onnx")


def test_a_package_comes_whole_and_without_links(hub: Path, cache: Path, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(BODY)
    made = cp.convert(cp.load(model), "mlprogram").save(tmp_path / "Net.mlpackage")
    files = {f"sub/{p.relative_to(tmp_path).as_posix()}": p.read_bytes() for p in made.rglob("*") if p.is_file()}
    keep(hub, "some/net", files)
    loaded = cp.load("hf:some/net/sub/Net.mlpackage")
    assert loaded.is_program
    assert loaded.path is not None
    assert loaded.path.is_relative_to(cache)
    assert not any(p.is_symlink() for p in loaded.path.rglob("*"))
    x = np.linspace(-1, 1, 40, dtype=np.float32)[None]
    assert np.allclose(np.asarray(cp.session(loaded).run({"x": x})["y"]), np.maximum(x, 0), atol=1e-3)
    with pytest.raises(UnreadableModelError, match="no such package"):
        cp.load("hf:some/net/Other.mlpackage")


def test_a_list_of_files_leads_nowhere_else(hub: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = ["Net.mlpackage/Manifest.json", "Net.mlpackage/../../../outside"]
    monkeypatch.setattr("coreproof.model.named.hub.Repository.files", lambda _: evil)
    with pytest.raises(UnsafeModelError):
        cp.load("hf:some/net/Net.mlpackage")
    assert not list(cache.rglob("outside"))


def test_a_revision_is_the_one_that_is_said(hub: Path) -> None:
    keep(hub, "some/net", {"model.onnx": BODY}, revision="v2")
    assert cp.load("hf:some/net/model.onnx?revision=v2").name == "model"
    with pytest.raises(UnreadableModelError):
        cp.load("hf:some/net/model.onnx")


def test_without_a_network_the_cache_that_was_looked_at_is_named(hub: Path) -> None:
    with pytest.raises(UnreadableModelError) as raised:
        cp.load("hf:some/net/model.onnx")
    said = str(raised.value)
    assert "the hub cannot be reached" in said
    assert str(hub / "models--some--net") in said
    assert "HF_HOME" in said


def test_a_repository_of_files_asks_which_one(hub: Path) -> None:
    files = {
        "a.onnx": BODY,
        "b.mlmodel": b"",
        "C.mlpackage/Manifest.json": b"",
        "C.mlpackage/Data/m": b"",
        "x.txt": b"",
    }
    keep(hub, "some/net", files)
    with pytest.raises(InputError) as raised:
        cp.load("hf:some/net")
    said = str(raised.value)
    assert "hf:some/net/C.mlpackage, hf:some/net/a.onnx, hf:some/net/b.mlmodel" in said


def test_a_repository_without_a_model_says_what_it_holds(hub: Path) -> None:
    keep(hub, "some/data", {"train.csv": b"1"})
    with pytest.raises(UnreadableModelError, match=r"holds no model[\s\S]*train.csv"):
        cp.load("hf:some/data")


def test_a_configuration_that_names_no_network_is_refused(hub: Path) -> None:
    for content, said in ((b"{}", "names no network"), (b"[1]", "a JSON object"), (b"{", "cannot be read")):
        keep(hub, f"some/net{len(said)}", {"config.json": content})
        with pytest.raises(UnreadableModelError, match=said):
            cp.load(f"hf:some/net{len(said)}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf:", "no repository"),
        ("hf:some", "no repository"),
        ("hf:some/..", "no repository"),
        ("hf:../net", "no repository"),
        ("hf:some/net/../../a.onnx", "no file of a repository"),
        ("hf:some/net/weights.bin", "no model by itself"),
        ("hf:some/net/model.safetensors", "leave the file out"),
        ("hf:some/net?branch=main", "unknown option"),
        ("hf:some/net?revision=", "said once, with a value"),
        ("hf:some/net/a.onnx?weights=random", "for a network, and not for a file"),
    ],
)
def test_what_a_name_cannot_mean_is_said(hub: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        cp.load(text)


def test_a_pickle_of_the_hub_needs_trust(hub: Path) -> None:
    keep(hub, "some/net", {"model.pt": b"\x80\x04N."})
    with pytest.raises(UnsafeModelError):
        cp.load("hf:some/net/model.pt")


def test_a_name_of_the_hub_may_stand_in_a_line_up(tmp_path: Path) -> None:
    assert why_unsafe("hf:some/net/model.onnx", tmp_path) is None
    assert why_unsafe("timm:resnet18?weights=../w.pth", tmp_path) is not None
    assert why_unsafe("timm:resnet18", tmp_path) is None


def test_view_shows_the_file_that_is_meant(hub: Path) -> None:
    from coreproof.model.load import located

    kept = keep(hub, "some/net", {"model.onnx": BODY})
    assert located("hf:some/net/model.onnx") == kept / "model.onnx"
    with pytest.raises(InputError, match="convert it first"):
        located("hf:some/net")


@pytest.mark.skipif(is_installed("huggingface_hub"), reason="huggingface_hub is installed")
def test_the_line_that_installs_the_library_is_named(cache: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'coreproof\[hub\]'"):
        cp.load("hf:some/net/model.onnx")


@pytest.mark.skipif(is_installed("timm"), reason="timm is installed")
def test_the_line_that_installs_timm_is_named() -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    with pytest.raises(MissingDependencyError, match=r"pip install 'coreproof\[timm\]'"):
        cp.load("timm:resnet18")


@pytest.mark.skipif(is_installed("transformers"), reason="transformers is installed")
def test_the_line_that_installs_transformers_is_named(hub: Path) -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    keep(hub, "some/net", {"config.json": json.dumps({"model_type": "bert"}).encode()})
    with pytest.raises(MissingDependencyError, match=r"pip install 'coreproof\[transformers\]'"):
        cp.load("hf:some/net")


@pytest.fixture
def online(hub: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The library itself, with a hub of this machine."""
    if not is_installed("huggingface_hub"):
        pytest.skip("huggingface_hub is not installed")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return server


def of_hub(body: bytes) -> object:
    headers = {"X-Repo-Commit": "f" * 40, "ETag": f'"{len(body):064x}"', "Accept-Ranges": "bytes"}

    def give(handler: Handler) -> None:
        handler.answer(200, body, headers)

    return give


def test_the_hub_is_asked_where_nothing_is_kept(online: Server, hub: Path) -> None:
    online.answers["/some/net/resolve/main/model.onnx"] = of_hub(BODY)  # type: ignore[assignment]
    assert cp.load("hf:some/net/model.onnx").name == "model"
    online.answers.clear()
    assert read_repository("hf:some/net/model.onnx").name == "some/net"


def test_a_hub_that_cannot_be_reached_is_not_waited_for(online: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnreadableModelError, match="cannot be reached"):
        cp.load("hf:some/net/model.onnx")
    assert not online.asked


def test_a_file_that_the_hub_does_not_have_is_said(online: Server) -> None:
    def absent(handler: Handler) -> None:
        handler.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "f" * 40})

    def unknown(handler: Handler) -> None:
        handler.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    online.answers["/some/net/resolve/main/model.onnx"] = absent
    with pytest.raises(UnreadableModelError, match="no such file"):
        cp.load("hf:some/net/model.onnx")
    online.answers["/some/other/resolve/main/model.onnx"] = unknown
    with pytest.raises(UnreadableModelError, match=r"no such repository[\s\S]*hf auth login"):
        cp.load("hf:some/other/model.onnx")
