"""Products with quantised weights against ONNX Runtime's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.microsoft_node import EVERYWHERE, check_microsoft
from tests.drawn import RNG, normal

FULL = [t for t in EVERYWHERE if t[2] == "fp32"]


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("bits", "block", "k"), [(4, 16, 32), (4, 32, 96), (4, 16, 40), (8, 32, 64), (2, 16, 32)])
@pytest.mark.parametrize("zero", [None, "bytes", "floats"])
@pytest.mark.parametrize("bias", [False, True])
def test_weights_of_few_bits(bits: int, block: int, k: int, zero: str | None, bias: bool) -> None:
    if zero == "floats" and bits == 8:
        pytest.skip("the kernel takes no such zero points")
    n, blocks = 5, -(-k // block)
    constants: dict[str, Any] = {
        "b": RNG.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "s": RNG.uniform(0.01, 0.1, (n, blocks)).astype(np.float32),
    }
    if zero == "bytes":
        constants["z"] = RNG.integers(0, 256, (n, -(-blocks * bits // 8))).astype(np.uint8)
    if zero == "floats":
        constants["z"] = RNG.uniform(0, 2**bits, (n, blocks)).astype(np.float32)
    order = ["a", "b", "s", "z" if zero else ""]
    if bias:
        constants["bias"] = normal(n)
        order += ["", "bias"]
    for shape in ((3, k), (2, 3, k)):
        check_microsoft("MatMulNBits", {"a": normal(*shape)}, constants, order, K=k, N=n, bits=bits, block_size=block)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("with_zero", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_integers_to_floats(per_column: bool, with_zero: bool, bias: bool) -> None:
    columns = 4 if per_column else 1
    inputs: dict[str, Any] = {"a": RNG.integers(0, 256, (3, 6)).astype(np.uint8)}
    constants: dict[str, Any] = {
        "b": RNG.integers(-128, 128, (6, 4)).astype(np.int8),
        "as": np.float32(0.02),
        "bs": RNG.uniform(0.01, 0.1, columns).astype(np.float32) if per_column else np.float32(0.03),
    }
    order = ["a", "b", "as", "bs"]
    if with_zero:
        constants |= {"az": np.uint8(117), "bz": np.full(columns, 3, np.int8) if per_column else np.int8(3)}
        order += ["az", "bz"]
    if bias:
        constants["bias"] = normal(4)
        order += [*(["", ""] if not with_zero else []), "bias"]
    check_microsoft("MatMulIntegerToFloat", inputs, constants, order)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(3, 6), (2, 3, 6)])
def test_a_product_counted_as_it_comes(shape: tuple[int, ...], bias: bool) -> None:
    constants: dict[str, Any] = {
        "b": RNG.integers(0, 256, (6, 4)).astype(np.uint8),
        "bs": np.float32(0.03),
        "bz": np.uint8(129),
        **({"bias": normal(4)} if bias else {}),
    }
    # float16 rounds what is counted, so that a step is another here and there
    check_microsoft("DynamicQuantizeMatMul", {"a": normal(*shape)}, constants, targets=FULL)


@pytest.mark.parametrize("kind", [0, 1])
def test_weights_of_bitsandbytes(kind: int) -> None:
    """Judged by ONNX Runtime; 12 rows of 40 make blocks that run across rows."""
    k, n, block = 40, 12, 32
    constants = {
        "b": RNG.integers(0, 256, k * n // 2).astype(np.uint8),
        "m": RNG.uniform(0.1, 1, -(-k * n // block)).astype(np.float32),
    }
    options = {"K": k, "N": n, "block_size": block, "quant_type": kind}
    check_microsoft("MatMulBnb4", {"a": normal(3, k)}, constants, ["a", "b", "m"], **options)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("with_zero", [False, True])
def test_rows_of_a_quantised_table(bits: int, with_zero: bool) -> None:
    rows, width, block = 20, 64, 16
    constants: dict[str, Any] = {
        "t": RNG.integers(0, 256, (rows, width * bits // 8)).astype(np.uint8),
        "s": RNG.uniform(0.01, 0.1, (rows, width // block)).astype(np.float32),
    }
    order = ["t", "i", "s"]
    if with_zero:
        constants["z"] = RNG.integers(0, 256, (rows, -(-width // block * bits // 8))).astype(np.uint8)
        order.append("z")
    for shape in ((3,), (2, 3)):
        places = RNG.integers(-rows, rows, shape).astype(np.int64)
        options = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
        check_microsoft("GatherBlockQuantized", {"i": places}, constants, order, **options)
