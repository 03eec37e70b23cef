"""States of an ML Program opened into inputs and outputs: wherever they are read and written, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, TooLargeError
from coreproof.model.coreml.model import CoreMLModel, load_coreml
from coreproof.model.coreml.open_states import open_states
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.features import Feature, Signature
from coreproof.runtime.states import State, read_state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import coremltools as ct
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types

mb: Any = Builder
ONE = np.ones((1, 4), np.float16)


def _stored(path: Path, states: int, step: Callable[..., Any]) -> CoreMLModel:
    """A package of one function: ``step`` gets its states, then x, both float16 [1, 4]."""
    specs = [mb.StateTensorSpec((1, 4), dtype=types.fp16) for _ in range(states)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = mb.program(
            input_specs=[*specs, mb.TensorSpec((1, 4), dtype=types.fp16)], opset_version=ct.target.iOS18
        )
        made = ct.convert(program(step), minimum_deployment_target=ct.target.iOS18, skip_model_load=True)
        made.save(str(path))
    return load_coreml(path)


def _runs(model: CoreMLModel, feeds: Sequence[float], output: str = "y") -> tuple[list[float], State]:
    with cp.session(model) as running:
        state = running.state()
        return [float(running.run({"x": ONE * x}, state=state)[output][0, 0]) for x in feeds], state


def test_a_state_that_is_read_twice_around_a_write_is_read_as_it_stands_each_time(tmp_path: Path) -> None:
    def step(total: Any, x: Any) -> Any:
        before = mb.read_state(input=total)
        after = mb.coreml_update_state(state=total, value=mb.add(x=before, y=x))
        return mb.sub(x=mb.mul(x=after, y=np.float16(10)), y=before, name="y")

    assert _runs(_stored(tmp_path / "m.mlpackage", 1, step), [1, 2, 3])[0] == [10.0, 29.0, 57.0]


def test_states_are_kept_apart_and_may_swap_what_they_hold(tmp_path: Path) -> None:
    def step(first: Any, second: Any, x: Any) -> Any:
        a, b = mb.read_state(input=first), mb.read_state(input=second)
        mb.coreml_update_state(state=first, value=mb.add(x=b, y=x))
        mb.coreml_update_state(state=second, value=a)
        return mb.identity(x=a, name="y")

    found, state = _runs(_stored(tmp_path / "m.mlpackage", 2, step), [1, 2, 4])
    assert found == [0.0, 1.0, 2.0]  # what the first holds before each step
    assert [float(state[name][0, 0]) for name in ("first", "second")] == [5.0, 2.0]


def test_a_state_may_be_an_output_and_may_stay_as_it_is(tmp_path: Path) -> None:
    def step(total: Any, x: Any) -> Any:
        return mb.read_state(input=total, name="held"), mb.add(x=x, y=x, name="y")

    model = _stored(tmp_path / "m.mlpackage", 1, step)
    with cp.session(model) as running:
        state = running.state()
        state["total"] = ONE * 3
        assert running.run({"x": ONE}, state=state)["held"].tolist() == [[3.0] * 4]
    assert state["total"].tolist() == [[3.0] * 4]


def test_a_state_is_written_in_one_branch_of_two(tmp_path: Path) -> None:
    def step(total: Any, x: Any) -> Any:
        large = mb.greater(x=mb.reduce_max(x=x, keep_dims=False), y=np.float16(2))

        def adds() -> Any:
            return mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))

        return mb.cond(pred=large, _true_fn=adds, _false_fn=lambda: mb.read_state(input=total), name="y")

    found, state = _runs(_stored(tmp_path / "m.mlpackage", 1, step), [3, 1, 4])
    assert found == [3.0, 3.0, 7.0]
    assert state["total"].tolist() == [[7.0] * 4]


def test_a_state_is_written_in_each_turn_of_a_loop_and_read_behind_it(tmp_path: Path) -> None:
    def step(total: Any, x: Any) -> Any:
        def goes_on(turn: Any, _: Any) -> Any:
            return mb.less(x=turn, y=np.int32(3))

        def turns(turn: Any, value: Any) -> Any:
            mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=value))
            return mb.add(x=turn, y=np.int32(1)), mb.add(x=value, y=np.float16(1))

        # what nobody reads coremltools would leave out
        _, last = mb.while_loop(_cond=goes_on, _body=turns, loop_vars=(np.int32(0), x))
        return mb.add(x=mb.read_state(input=total), y=last, name="y")

    found, _ = _runs(_stored(tmp_path / "m.mlpackage", 1, step), [1, 10])
    assert found == [1 + 2 + 3 + 4, 6 + 10 + 11 + 12 + 13]


def test_a_write_without_a_read_is_kept(tmp_path: Path) -> None:
    model = _stored(tmp_path / "m.mlpackage", 1, _last)
    found, state = _runs(model, [1, 5])
    assert found == [2.0, 10.0]
    assert state["total"].tolist() == [[5.0] * 4]


def _last(total: Any, x: Any) -> Any:
    mb.coreml_update_state(state=total, value=x)
    return mb.add(x=x, y=x, name="y")


def test_the_stored_program_stays_as_it_is(tmp_path: Path) -> None:
    model = _stored(tmp_path / "m.mlpackage", 1, _last)
    before = model.spec.SerializeToString(deterministic=True)
    opened = open_states(model)
    assert [str(f) for f in opened.model.signature.inputs] == ["x: float16[1x4]", "total: float16[1x4]"]
    assert opened.pairs == {"total": "total_after"}
    assert not opened.model.signature.states
    assert model.spec.SerializeToString(deterministic=True) == before
    assert open_states(opened.model).model is opened.model


# hostile files


def _damaged(tmp_path: Path, damage: Callable[[CoreMLModel, MIL_pb2.Block], None]) -> CoreMLModel:
    model = _stored(tmp_path / "m.mlpackage", 1, _last)
    function = model.spec.mlProgram.functions["main"]
    damage(model, function.block_specializations[function.opset])
    return model


def _write(block: MIL_pb2.Block) -> MIL_pb2.Operation:
    return next(o for o in block.operations if o.type == "write_state")


def test_a_state_of_a_name_that_nobody_declares_is_refused(tmp_path: Path) -> None:
    def damage(_: CoreMLModel, block: MIL_pb2.Block) -> None:
        _write(block).inputs["input"].arguments[0].name = "x"

    with pytest.raises(
        ConversionError, match=r"write_state: it does not read or write a state[\s\S]*total\n  found: 'x'"
    ):
        cp.session(_damaged(tmp_path, damage))


def test_a_write_of_another_shape_is_refused(tmp_path: Path) -> None:
    def damage(model: CoreMLModel, _: MIL_pb2.Block) -> None:
        given = next(i for i in model.spec.mlProgram.functions["main"].inputs if i.name == "x")
        given.type.tensorType.dimensions[1].constant.size = 5

    with pytest.raises(ConversionError, match=r"not of the type of state 'total'[\s\S]*\[1, 4\][\s\S]*\[1, 5\]"):
        cp.session(_damaged(tmp_path, damage))


@pytest.mark.parametrize("name", ["total", "tally"])
def test_a_state_that_is_described_as_what_it_is_not_is_refused(tmp_path: Path, name: str) -> None:
    def damage(model: CoreMLModel, _: MIL_pb2.Block) -> None:
        (state,) = model.spec.description.state
        state.name = name
        state.type.stateType.arrayType.shape[1] += name == "total"

    with pytest.raises(ConversionError, match=f"state '{name}' is not what the model's description says"):
        cp.session(_damaged(tmp_path, damage))


def test_a_state_where_a_value_belongs_is_refused(tmp_path: Path) -> None:
    def damage(_: CoreMLModel, block: MIL_pb2.Block) -> None:
        next(o for o in block.operations if o.type == "add").inputs["x"].arguments[0].name = "total"

    with pytest.raises(ConversionError, match="add: it takes a state where it needs a value"):
        cp.session(_damaged(tmp_path, damage))


def test_states_beyond_the_budget_are_refused_before_they_are_made(tmp_path: Path) -> None:
    def damage(model: CoreMLModel, block: MIL_pb2.Block) -> None:
        (state,) = model.spec.description.state
        state.type.stateType.arrayType.shape[1] = 2**40
        given = next(i for i in model.spec.mlProgram.functions["main"].inputs if i.name == "total")
        given.type.stateType.wrappedType.tensorType.dimensions[1].constant.size = 2**40
        block.operations.remove(_write(block))

    with pytest.raises(TooLargeError, match="'total/carried' would take more memory"):
        cp.session(_damaged(tmp_path, damage))


def test_states_that_are_within_the_budget_one_by_one_and_not_together_are_refused() -> None:
    shape = (1, 300_000_000)  # 600 MB of float16 each, of 2 GB
    states = tuple(Feature(f"cache_{i}", "state", "float16", shape) for i in range(4))
    with pytest.raises(TooLargeError, match=r"the states of the model would take[\s\S]*2,400,000,000 bytes"):
        read_state(Signature((), (), states), {}, "model")
