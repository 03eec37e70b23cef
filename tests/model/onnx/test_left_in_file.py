"""Large weights stay in an ONNX file until they are asked for."""

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from coreproof.conversion.convert import convert
from coreproof.errors import UnreadableModelError
from coreproof.model.load import load
from coreproof.model.onnx import left_in_file
from coreproof.model.onnx.left_in_file import LeftInFile, read_message
from coreproof.model.onnx.model import OnnxModel

pytestmark = pytest.mark.skipif(os.name == "nt", reason="on Windows files are read as a whole")


def _saved(path: Path, width: int = 96, layers: int = 3, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """A chain of products in a file; its weights."""
    rng = np.random.default_rng(width)
    held = {f"w{k}": rng.standard_normal((width, width)).astype(dtype) for k in range(layers)}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"]) for k in range(layers)]
    ends = [helper.make_tensor_value_info(n, kind, [1, width]) for n in ("x0", f"x{layers}")]
    graph = helper.make_graph(
        nodes, "chain", ends[:1], ends[1:], [numpy_helper.from_array(w, n) for n, w in held.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return held


@pytest.fixture
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_in_file, "_LARGE_FILE", 0)


def _numbers(model: object) -> dict[str, np.ndarray]:
    assert isinstance(model, OnnxModel)
    found = {name: v.const_value for name, v in model.ir.graph.initializers.items()}
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


@pytest.mark.usefixtures("_all_are_large")
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_the_numbers_are_those_of_the_file(tmp_path: Path, dtype: type) -> None:
    held = _saved(tmp_path / "m.onnx", dtype=dtype)
    assert sorted(read_message(tmp_path / "m.onnx").left) == [0, 1, 2]
    model = load(tmp_path / "m.onnx")
    assert {n: a.tobytes() for n, a in _numbers(model).items()} == {n: a.tobytes() for n, a in held.items()}
    again = pickle.loads(pickle.dumps(model))
    assert {n: a.tobytes() for n, a in _numbers(again).items()} == {n: a.tobytes() for n, a in held.items()}


@pytest.mark.usefixtures("_all_are_large")
def test_what_says_more_than_its_bytes_is_read_as_it_is(tmp_path: Path) -> None:
    _saved(tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    values = numpy_helper.to_array(proto.graph.initializer[0])
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].float_data.extend(values.reshape(-1).tolist())
    onnx.save(proto, tmp_path / "m.onnx")
    assert sorted(read_message(tmp_path / "m.onnx").left) == [1, 2]
    np.testing.assert_array_equal(_numbers(load(tmp_path / "m.onnx"))["w0"], values)


@pytest.mark.usefixtures("_all_are_large")
def test_too_few_bytes_are_found_out(tmp_path: Path) -> None:
    _saved(tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    proto.graph.initializer[1].raw_data = proto.graph.initializer[1].raw_data[:-4]
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(UnreadableModelError, match=r"initializer 'w1'(.|\n)*36,864 bytes(.|\n)*36,860 bytes"):
        load(tmp_path / "m.onnx")
    data = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableModelError, match="not an ONNX model"):
        load(tmp_path / "m.onnx")


@pytest.mark.usefixtures("_all_are_large")
def test_two_graphs_of_one_file_are_merged_as_a_parser_does(tmp_path: Path) -> None:
    held = _saved(tmp_path / "m.onnx")
    more = onnx.ModelProto()
    more.graph.doc_string = "said later"
    (tmp_path / "m.onnx").write_bytes((tmp_path / "m.onnx").read_bytes() + more.SerializeToString())
    assert not read_message(tmp_path / "m.onnx").left
    np.testing.assert_array_equal(_numbers(load(tmp_path / "m.onnx"))["w2"], held["w2"])


@pytest.mark.usefixtures("_all_are_large")
def test_a_file_that_takes_its_place_does_no_harm_and_one_that_is_written_over_is_noticed(tmp_path: Path) -> None:
    held = _saved(tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    _saved(tmp_path / "other.onnx", width=97)
    (tmp_path / "other.onnx").replace(tmp_path / "m.onnx")
    np.testing.assert_array_equal(_numbers(model)["w1"], held["w1"])
    held = _saved(tmp_path / "n.onnx")
    model = load(tmp_path / "n.onnx")
    (tmp_path / "n.onnx").write_bytes(b"\0" * 200_000)
    with pytest.raises(UnreadableModelError, match="written to after the model was read"):
        _numbers(model)


@pytest.mark.usefixtures("_all_are_large")
def test_a_model_is_written_with_its_weights(tmp_path: Path) -> None:
    held = _saved(tmp_path / "m.onnx")
    load(tmp_path / "m.onnx").save(tmp_path / "copy.onnx")
    (tmp_path / "m.onnx").unlink()
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "copy.onnx").graph.initializer}
    assert stored.keys() == held.keys()
    assert all(np.array_equal(stored[name], held[name]) for name in held)


@pytest.mark.thorough
def test_a_conversion_holds_little_more_than_what_it_writes(tmp_path: Path) -> None:
    _saved(tmp_path / "warm.onnx", 8)
    convert(tmp_path / "warm.onnx", "mlprogram")  # imports
    _saved(tmp_path / "m.onnx", 1536, 6)
    assert isinstance(read_message(tmp_path / "m.onnx").left[0], LeftInFile)
    weights = 6 * 1536 * 1536 * 4
    tracemalloc.start()
    try:
        convert(tmp_path / "m.onnx", "mlprogram", precision="fp16").save(tmp_path / "m.mlpackage")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # float16 of them all, which is a half, and one of them as it is read and as it is written
    assert peak < weights * (1 / 2 + 2 / 6) + 2**23


def test_a_tensor_of_a_data_file_is_read_alone(tmp_path: Path) -> None:
    held = _saved(tmp_path / "in.onnx")
    onnx.save(
        onnx.load(tmp_path / "in.onnx"), tmp_path / "m.onnx", save_as_external_data=True, location="m.data",
        size_threshold=0,
    )  # fmt: skip
    model = load(tmp_path / "m.onnx")
    assert isinstance(model, OnnxModel)
    tensor = model.ir.graph.initializers["w1"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(left_in_file.array_of(tensor), held["w1"])


def test_numbers_that_share_bytes_come_from_the_parser(tmp_path: Path) -> None:
    assert bytes([TensorProto.INT4]) not in left_in_file._WHOLE_BYTES
    assert bytes([TensorProto.BFLOAT16]) in left_in_file._WHOLE_BYTES
