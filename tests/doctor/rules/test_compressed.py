"""Compressed and stateful programs: no fault of theirs, in whatever form and of whatever iOS version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.coreml.model import CoreMLModel
from coreproof.validation.validate import inspect
from tests import build
from tests.build import mil
from tests.doctor.rules.cases import assert_healthy

RNG = np.random.default_rng(0)
VALUES = RNG.standard_normal((4, 6)).astype(np.float32)
BYTES = RNG.integers(-90, 90, (4, 6)).astype(np.int8)
MASK = (np.arange(24).reshape(4, 6) % 3 == 0).astype(np.uint8)
SCALES = np.full((4, 1), 0.02, np.float32)


def affine(mb: Any) -> Any:
    return mb.constexpr_affine_dequantize(
        quantized_data=BYTES, zero_point=np.int8(3), scale=np.full(4, 0.02, np.float32), axis=0
    )


def cast(mb: Any) -> Any:
    return mb.constexpr_cast(source_val=VALUES.astype(np.float16), output_dtype="fp32")


def packed_table(mb: Any) -> Any:
    return mb.constexpr_lut_to_dense(
        indices=RNG.integers(0, 255, 6).astype(np.uint8),
        lut=np.linspace(-1, 1, 4, dtype=np.float32),
        shape=np.array([4, 6], np.uint32),
    )


def packed_mask(mb: Any) -> Any:
    return mb.constexpr_sparse_to_dense(
        nonzero_data=VALUES[MASK != 0],
        mask=np.packbits(MASK, bitorder="little"),
        shape=np.array([4, 6], np.uint32),
    )


def blocks(mb: Any) -> Any:
    return mb.constexpr_blockwise_shift_scale(
        data=BYTES, scale=np.repeat(SCALES, 2, 1), offset=np.ones((4, 2), np.int8)
    )


def indices(mb: Any, entries: int = 4) -> Any:
    from coremltools.converters.mil.mil import types

    dtype = types.nptype_from_builtin(types.string_to_builtin(f"uint{int(np.log2(entries))}"))
    return RNG.integers(0, entries, (4, 6)).astype(dtype)


def table(mb: Any) -> Any:
    lut = RNG.standard_normal((4, 1, 4, 1)).astype(np.float32)
    return mb.constexpr_lut_to_dense(indices=indices(mb), lut=lut)


def mask(mb: Any) -> Any:
    from coremltools.converters.mil.mil import types

    bit = types.nptype_from_builtin(types.string_to_builtin("uint1"))
    return mb.constexpr_sparse_to_dense(nonzero_data=VALUES[MASK != 0], mask=MASK.astype(bit))


def sparse_table(mb: Any) -> Any:
    from coremltools.converters.mil.mil import types

    bit, pair = (types.nptype_from_builtin(types.string_to_builtin(n)) for n in ("uint1", "uint2"))
    held = RNG.integers(0, 4, int(MASK.sum())).astype(pair)
    lut = np.linspace(-1, 1, 4, dtype=np.float32).reshape(1, 1, 4, 1)
    made = mb.constexpr_lut_to_sparse(indices_mask=MASK.astype(bit), indices_nonzero_data=held, lut=lut)
    return mb.constexpr_sparse_to_dense(nonzero_data=made[1], mask=made[0])


def sparse_blocks(mb: Any) -> Any:
    from coremltools.converters.mil.mil import types

    bit = types.nptype_from_builtin(types.string_to_builtin("uint1"))
    made = mb.constexpr_sparse_blockwise_shift_scale(
        data_mask=MASK.astype(bit), nonzero_data=BYTES[MASK != 0], scale=SCALES
    )
    return mb.constexpr_sparse_to_dense(nonzero_data=made[1], mask=made[0])


def quantised_table(mb: Any) -> Any:
    entries = RNG.integers(-90, 90, (1, 1, 4, 1)).astype(np.int8)
    lut = mb.constexpr_blockwise_shift_scale(data=entries, scale=np.full((1, 1, 1, 1), 0.02, np.float32))
    return mb.constexpr_lut_to_dense(indices=indices(mb), lut=lut)


def scaled_table(mb: Any) -> Any:
    lut = RNG.standard_normal((1, 1, 4, 1)).astype(np.float32)
    return mb.constexpr_blockwise_shift_scale(
        data=mb.constexpr_lut_to_dense(indices=indices(mb), lut=lut), scale=SCALES
    )


FORMS = [
    *((form, "iOS16") for form in (affine, cast, packed_table, packed_mask)),
    *((form, "iOS17") for form in (affine, cast, packed_table, packed_mask)),
    *((form, "iOS18") for form in (blocks, table, mask, sparse_table, sparse_blocks, quantised_table, scaled_table)),
]


@pytest.mark.sweep(5)
@pytest.mark.parametrize(("form", "target"), FORMS)
def test_a_compressed_weight_is_made_once(form: Callable[[Any], Any], target: str, tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, x: mb.linear(x=x, weight=form(mb), name="y"), (1, 6), target=target)
    assert any(node.operator.startswith("constexpr_") for node in model.graph.nodes)
    assert_healthy(model)
    assert cp.diagnose(model).before == "runs"


def test_a_look_up_table_may_have_two_dimensions_more_than_its_weight(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        from coremltools.converters.mil.mil import types

        nibble = types.nptype_from_builtin(types.string_to_builtin("uint4"))
        held = RNG.integers(0, 16, (4, 3, 3, 3)).astype(nibble)
        lut = RNG.standard_normal((2, 1, 1, 1, 16, 1)).astype(np.float32)
        scales = np.full((4, 1, 1, 1), 0.5, np.float32)
        dense = mb.constexpr_lut_to_dense(
            indices=held,
            lut=mb.constexpr_blockwise_shift_scale(data=lut.astype(np.int8), scale=np.ones_like(lut[..., :1, :])),
        )
        return mb.conv(x=x, weight=mb.constexpr_blockwise_shift_scale(data=dense, scale=scales), name="y")

    assert_healthy(mil(tmp_path, build, (1, 3, 5, 5), target="iOS18"))


def test_two_compressed_weights_of_one_name_are_told(tmp_path: Path) -> None:
    model = mil(
        tmp_path,
        lambda mb, x: mb.add(x=mb.linear(x=x, weight=affine(mb)), y=mb.linear(x=x, weight=affine(mb)), name="y"),
        (1, 6),
        target="iOS16",
    )
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    body = next(iter(spec.mlProgram.functions.values())).block_specializations
    weights = [o for o in next(iter(body.values())).operations if o.type.startswith("constexpr_")]
    assert len(weights) == 2
    weights[1].outputs[0].name = weights[0].outputs[0].name
    problems = inspect(model.with_spec(spec)).problems
    assert "duplicate-output" in {p.kind for p in problems}


# states


@pytest.fixture
def counter(tmp_path: Path) -> CoreMLModel:
    return build.counter(tmp_path / "counter.mlpackage")


def test_a_model_with_states_is_healthy(counter: CoreMLModel) -> None:
    diagnosis = cp.diagnose(counter)
    assert list(diagnosis) == []
    assert diagnosis.healthy is True
    assert diagnosis.to_json()["healthy"] is True


# against the source


def program(folder: Path, weight: Callable[[Any], Any] | np.ndarray) -> CoreMLModel:
    folder.mkdir(exist_ok=True)

    def build(mb: Any, x: Any) -> Any:
        made = weight if isinstance(weight, np.ndarray) else weight(mb)
        return mb.relu(x=mb.linear(x=x, weight=made, name="fc"), name="y")

    return mil(folder, build, (1, 48), target="iOS18")


DENSE = RNG.standard_normal((32, 48)).astype(np.float32)


def in_eight_bits(weight: np.ndarray, factor: float | np.ndarray = 1.0) -> Callable[[Any], Any]:
    """The weight in 8 bits with a scale a channel; ``factor``: how the scale is off."""
    most = np.abs(weight).max(1, keepdims=True) / 127
    data = np.rint(weight / most).astype(np.int8)
    scale = (most * factor).astype(np.float32)
    return lambda mb: mb.constexpr_blockwise_shift_scale(data=data, scale=scale)


def in_eight_bits_of_ios_16(weight: np.ndarray) -> Callable[[Any], Any]:
    most = np.abs(weight).max(1) / 127
    data = np.rint(weight / most[:, None]).astype(np.int8)
    return lambda mb: mb.constexpr_affine_dequantize(
        quantized_data=data, zero_point=np.int8(0), scale=most.astype(np.float32), axis=0
    )


def with_errors_spread(weight: np.ndarray) -> Callable[[Any], Any]:
    """In 4 bits, each error added to the next number, as GPTQ does it: many become what is not the nearest."""
    scale = np.abs(weight).max(1, keepdims=True) / 7
    data, left = np.empty(weight.shape), np.zeros((weight.shape[0], 1))
    for column in range(weight.shape[1]):
        wanted = weight[:, column : column + 1] / scale + left
        data[:, column : column + 1] = np.rint(wanted).clip(-8, 7)
        left = wanted - data[:, column : column + 1]
    assert np.abs(data - weight / scale).max() > 0.5

    def form(mb: Any) -> Any:
        from coremltools.converters.mil.mil import types

        nibble = types.nptype_from_builtin(types.string_to_builtin("int4"))
        return mb.constexpr_blockwise_shift_scale(data=data.astype(nibble), scale=scale.astype(np.float32))

    return form


def in_a_table(weight: np.ndarray, entries: int = 16, tables: int = 2) -> Callable[[Any], Any]:
    """Each half of the channels with a table of its own, its entries at quantiles."""
    parts = weight.reshape(tables, -1)
    lut = np.stack([np.quantile(part, (np.arange(entries) + 0.5) / entries) for part in parts])
    nearest = np.abs(parts[:, :, None] - lut[:, None, :]).argmin(-1).reshape(weight.shape)

    def form(mb: Any) -> Any:
        from coremltools.converters.mil.mil import types

        narrow = types.nptype_from_builtin(types.string_to_builtin(f"uint{int(np.log2(entries))}"))
        return mb.constexpr_lut_to_dense(
            indices=nearest.astype(narrow), lut=lut.astype(np.float32).reshape(tables, 1, entries, 1)
        )

    return form


def in_pairs(weight: np.ndarray) -> Callable[[Any], Any]:
    """Neighbours along the channels together, each pair the nearest of 256, found by k-means."""
    pairs = np.stack([weight[0::2].reshape(-1), weight[1::2].reshape(-1)], -1)
    table = pairs[np.random.default_rng(1).choice(len(pairs), 256, replace=False)]
    for _ in range(8):
        nearest = np.square(pairs[:, None] - table).sum(-1).argmin(1)
        table = np.stack([pairs[nearest == k].mean(0) if (nearest == k).any() else table[k] for k in range(256)])
    nearest = np.square(pairs[:, None] - table).sum(-1).argmin(1).reshape(weight.shape[0] // 2, -1)
    return lambda mb: mb.constexpr_lut_to_dense(
        indices=nearest.astype(np.uint8), lut=table.astype(np.float32).reshape(1, 1, 256, 2), vector_axis=np.int32(0)
    )


def pruned_and_in_a_table(weight: np.ndarray) -> Callable[[Any], Any]:
    kept = (np.abs(weight) > 0.6).astype(np.uint8)
    table = np.linspace(weight.min(), weight.max(), 16, dtype=np.float32)
    nearest = np.abs(weight[kept != 0][:, None] - table).argmin(1)

    def form(mb: Any) -> Any:
        from coremltools.converters.mil.mil import types

        bit, nibble = (types.nptype_from_builtin(types.string_to_builtin(n)) for n in ("uint1", "uint4"))
        made = mb.constexpr_lut_to_sparse(
            indices_mask=kept.astype(bit), indices_nonzero_data=nearest.astype(nibble), lut=table.reshape(1, 1, 16, 1)
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=made[1], mask=made[0])

    return form


def pruned(weight: np.ndarray, of_four: int = 2) -> Callable[[Any], Any]:
    """Of each four neighbours the largest."""
    fours = np.abs(weight).reshape(weight.shape[0], -1, 4)
    kept = (fours.argsort(-1).argsort(-1) >= 4 - of_four).reshape(weight.shape).astype(np.uint8)

    def form(mb: Any) -> Any:
        from coremltools.converters.mil.mil import types

        bit = types.nptype_from_builtin(types.string_to_builtin("uint1"))
        return mb.constexpr_sparse_to_dense(nonzero_data=weight[kept != 0], mask=kept.astype(bit))

    return form


COMPRESSED = [
    in_eight_bits, in_eight_bits_of_ios_16, with_errors_spread, in_a_table,
    lambda weight: in_a_table(weight, entries=4, tables=1), in_pairs, pruned_and_in_a_table, pruned,
]  # fmt: skip

MISTAKES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "input channels reversed": lambda w: w[:, ::-1],
    "output channels in another order": lambda w: np.roll(w, 1, 0),
    "another layout": lambda w: w.T.reshape(w.shape),
    "one channel turned round": lambda w: np.concatenate([w[:3], -w[3:4], w[4:]]),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("form", COMPRESSED)
def test_what_bits_explain_is_no_finding(form: Callable[..., Any], tmp_path: Path) -> None:
    diagnosis = cp.diagnose(program(tmp_path / "a", form(DENSE)), program(tmp_path / "b", DENSE))
    assert list(diagnosis) == []
    # a sentence of its own where so few bits may change half of an output
    assert diagnosis.healthy is not False


def test_what_heavy_pruning_costs_is_told_and_not_repaired(tmp_path: Path) -> None:
    model, source = program(tmp_path / "a", pruned(DENSE, 1)), program(tmp_path / "b", DENSE)
    diagnosis = cp.diagnose(model, source)
    assert [(f.rule, f.layer, f.repaired, f.advice) for f in diagnosis] == [("compression", "fc", False, True)]
    assert "nothing is broken" in diagnosis[0].repair
    # neither verb calls it healthy, nor wrong
    found = cp.verify(source, model)
    assert (found.agrees, found.proves, diagnosis.healthy) == (True, False, None)
    assert "compressed weights change output" in found.summary().splitlines()[0]


@pytest.mark.sweep(3)
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("form", COMPRESSED)
def test_compression_explains_no_mistake(form: Callable[..., Any], mistake: str, tmp_path: Path) -> None:
    source = program(tmp_path / "b", DENSE)
    made = form(np.ascontiguousarray(MISTAKES[mistake](DENSE)))
    diagnosis = cp.diagnose(program(tmp_path / "a", made), source)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("weight", "fc", True)]
    assert diagnosis.repaired is not None
    assert cp.verify(source, diagnosis.repaired).agrees


@pytest.mark.sweep(1)
@pytest.mark.parametrize("factor", [127.0, 0.02, np.geomspace(0.2, 5, 32)[:, None]])
def test_a_compressed_weight_whose_scale_got_lost(factor: Any, tmp_path: Path) -> None:
    source = program(tmp_path / "b", DENSE)
    diagnosis = cp.diagnose(program(tmp_path / "a", in_eight_bits(DENSE, factor)), source)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("scale", "fc", True)]
    assert "scaled by" in diagnosis[0].evidence
    assert diagnosis.repaired is not None
    assert cp.verify(source, diagnosis.repaired).agrees


def test_a_weight_scaled_by_a_constant(tmp_path: Path) -> None:
    source = program(tmp_path / "b", DENSE)
    diagnosis = cp.diagnose(program(tmp_path / "a", DENSE * np.float32(0.25)), source)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("weight", "fc", True)]
    assert "scaled by 0.25" in diagnosis[0].evidence
