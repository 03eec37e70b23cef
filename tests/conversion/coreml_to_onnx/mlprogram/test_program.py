"""ML Programs as stored on disk, lowered to ONNX: operations against numpy and PyTorch, rounding, damage, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.conversion.coreml_to_onnx.lowering import handler_for
from coreproof.conversion.operators import MIL
from coreproof.errors import ConversionError, UnreadableModelError, UnsupportedOperatorsError
from coreproof.model.coreml.model import load_coreml
from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import only, run

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("pad_type", ["valid", "same", "same_lower", "custom"])
def test_convolution_pads_as_pytorch_does_with_the_same_numbers(tmp_path: Path, pad_type: str) -> None:
    x, weight, bias = normal(1, 4, 9, 8), normal(6, 2, 3, 2), normal(6)
    before_after = {"valid": (0, 0, 0, 0), "same": (0, 0, 1, 1), "same_lower": (0, 0, 1, 1), "custom": (1, 2, 0, 1)}
    pads = before_after[pad_type]
    model = mil(
        tmp_path,
        lambda mb, a: mb.conv(
            x=a, weight=weight, bias=bias, strides=[2, 2], groups=2, pad_type=pad_type, pad=[pads[2], pads[3], pads[0], pads[1]]
            if pad_type == "custom" else None,
        ) if pad_type == "custom" else mb.conv(x=a, weight=weight, bias=bias, strides=[2, 2], groups=2, pad_type=pad_type),
        x.shape,
    )  # fmt: skip
    padded = torch.nn.functional.pad(torch.from_numpy(x), pads)
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(weight), torch.from_numpy(bias), stride=2, groups=2)
    np.testing.assert_allclose(only(run(model, a=x)), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_float16_results_are_rounded_as_the_program_stores_them(tmp_path: Path) -> None:
    """40000 + 40000 overflows float16; halving it afterwards cannot bring it back. Ideal arithmetic gives 40000."""
    model = mil(tmp_path, lambda mb, a: mb.mul(x=mb.add(x=a, y=a), y=np.float16(0.5)), (1,), half=True)
    large = np.array([40000], np.float16)
    assert np.isinf(only(run(model, a=large))).all()
    assert only(run(model, "fp32", a=large)) == 40000
    tenth = np.array([0.1], np.float16)
    by_hand = np.float16(np.float16(tenth[0] + tenth[0]) * np.float16(0.5))
    assert only(run(model, a=tenth)) == by_hand


def test_rounding_follows_numpy_step_by_step(tmp_path: Path) -> None:
    x, y = (RNG.normal(size=64).astype(np.float16) for _ in range(2))

    def build(mb: object, a: object, b: object) -> object:
        product = mb.mul(x=a, y=b)  # type: ignore[attr-defined]
        return mb.sub(x=mb.add(x=product, y=a), y=b)  # type: ignore[attr-defined]

    model = mil(tmp_path, build, (64,), (64,), half=True)
    assert only(run(model, a=x, b=y)).tolist() == (((x * y).astype(np.float16) + x) - y).tolist()


def test_only_operations_that_round_get_a_pair_of_casts(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.relu(x=mb.transpose(x=mb.exp(x=a), perm=[1, 0])), (2, 3), half=True)
    stored = coreml_to_onnx(model)
    assert sum(node.op_type == "Cast" for node in stored.model.graph) == 4  # input, the pair behind Exp, output
    ideal = coreml_to_onnx(model, precision="fp32")
    assert [node.op_type for node in ideal.model.graph] == ["Cast", "Exp", "Transpose", "Relu", "Cast"]


def test_values_keep_their_names(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.relu(x=mb.exp(x=a, name="inner"), name="outer"), (2, 3))
    lowered = coreml_to_onnx(model)
    assert lowered.values["inner"] == "inner"
    assert [v.name for v in lowered.model.graph.outputs] == ["outer"]


@pytest.mark.parametrize(
    ("begin", "end", "stride", "expected"),
    [([1, 0], [3, 4], [1, 2], np.s_[1:3, 0:4:2]), ([-1, 3], [-4, -5], [-1, -2], np.s_[-1:-4:-1, 3:-5:-2])],
)
def test_slices(tmp_path: Path, begin: list[int], end: list[int], stride: list[int], expected: object) -> None:
    x = normal(4, 4)
    model = mil(tmp_path, lambda mb, a: mb.slice_by_index(x=a, begin=begin, end=end, stride=stride), x.shape)
    np.testing.assert_array_equal(only(run(model, a=x)), x[expected])


def test_slice_masks_and_squeeze(tmp_path: Path) -> None:
    x = normal(3, 4, 5)
    model = mil(
        tmp_path,
        lambda mb, a: mb.slice_by_index(
            x=a, begin=[1, 2, -1], end=[0, 0, 0], stride=[1, 1, -1],
            begin_mask=[False, False, True], end_mask=[False, True, True], squeeze_mask=[True, False, False],
        ),
        x.shape,
    )  # fmt: skip
    np.testing.assert_array_equal(only(run(model, a=x)), x[1, 2:, ::-1])


def test_average_pooling_in_ceil_mode_agrees_with_pytorch(tmp_path: Path) -> None:
    x = normal(1, 2, 7, 6)
    model = mil(
        tmp_path,
        lambda mb, a: mb.avg_pool(
            x=a, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True
        ),
        x.shape,
    )
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(x), 3, 2, 1, ceil_mode=True)
    np.testing.assert_allclose(only(run(model, a=x)), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_loops_and_branches(tmp_path: Path) -> None:
    def build(mb: object, a: object) -> object:
        (power,) = mb.while_loop(  # type: ignore[attr-defined]
            _cond=lambda v: mb.less(x=mb.reduce_max(x=v), y=np.float32(100)),  # type: ignore[attr-defined]
            _body=lambda v: (mb.mul(x=v, y=np.float32(2)),),  # type: ignore[attr-defined]
            loop_vars=(a,),
        ),  # fmt: skip
        return mb.add(x=power, y=np.float32(0))  # type: ignore[attr-defined]

    model = mil(tmp_path, build, (2,), target="iOS16")
    np.testing.assert_array_equal(only(run(model, a=np.array([1, 3], np.float32))), [64, 192])


def test_sub_byte_weights(tmp_path: Path) -> None:
    indices = RNG.integers(0, 8, (8, 16)).astype(np.uint8)
    table = normal(8)

    def build(mb: object, a: object) -> object:
        from coremltools.converters.mil.mil import types

        stored = indices.astype(types.nptype_from_builtin(types.string_to_builtin("uint3")))
        weight = mb.constexpr_lut_to_dense(indices=stored, lut=table.reshape(1, 1, 8, 1))  # type: ignore[attr-defined]
        return mb.linear(x=a, weight=weight)  # type: ignore[attr-defined]

    model = mil(tmp_path, build, (2, 16), target="iOS18")
    x = normal(2, 16)
    np.testing.assert_allclose(only(run(model, a=x)), x @ table[indices].T, rtol=1e-5, atol=1e-5)


def test_weights_cut_short_are_named(tmp_path: Path) -> None:
    weight = normal(16, 16)
    model = mil(tmp_path, lambda mb, a: mb.linear(x=a, weight=weight), (2, 16))
    assert model.folder is not None
    file = model.folder / "weights" / "weight.bin"
    file.write_bytes(file.read_bytes()[:400])
    assert model.path is not None
    with pytest.raises(
        UnreadableModelError, match=r"expected 1024 bytes from byte 128, found the file ends at byte 400"
    ):
        coreml_to_onnx(load_coreml(model.path))


def test_all_unknown_operations_are_refused_at_once(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.exp(x=mb.relu(x=mb.sin(x=a))), (2,))
    for operation in model.spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations:
        operation.type = {"sin": "sine", "exp": "exponential"}.get(operation.type, operation.type)
    with pytest.raises(UnsupportedOperatorsError) as caught:
        coreml_to_onnx(model)
    assert set(caught.value.operators) == {"sine", "exponential"}


def test_a_missing_argument_names_the_operation(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.transpose(x=a, perm=[1, 0], name="turned"), (2, 3))
    for operation in model.spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations:
        operation.inputs.pop("perm", None)
    with pytest.raises(ConversionError, match="turned"):
        coreml_to_onnx(model)


def test_the_registry_picks_the_newest_handler_that_the_file_knows() -> None:
    assert handler_for("reshape", "CoreML5") is MIL.find("reshape", 15)
    assert handler_for("reshape", "CoreML8") is MIL.find("reshape", 17) is not MIL.find("reshape", 15)
    assert handler_for("slice_update", "CoreML7") is None
