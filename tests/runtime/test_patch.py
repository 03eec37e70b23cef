"""patch_coremltools: scripts that call MLModel.predict run unchanged."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.build import counter, layer, network
from tests.forked import Commands

SCRIPT = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
import coremltools as ct
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
import coreproof

builder = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("y", datatypes.Array(4))], disable_rank5_shape_mapping=True)
builder.add_activation("relu", "RELU", "x", "y")
model = ct.models.MLModel(builder.spec)
coreproof.patch_coremltools()
coreproof.patch_coremltools()
x = np.array([-1.0, 2.0, -3.0, 4.0])
assert model.predict({"x": x})["y"].tolist() == [0.0, 2.0, 0.0, 4.0]
assert [r["y"][1] for r in model.predict([{"x": x}, {"x": x * 2}])] == [2.0, 4.0]
try:
    model.predict({"x": np.zeros(5)})
except RuntimeError as error:
    print(error)
print("predicted")
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML itself answers")
def test_predict_answers_without_core_ml(tmp_path: Path, forked: Commands) -> None:
    done = forked.run(folder=tmp_path, program=SCRIPT)
    assert done.out.endswith(b"predicted\n"), done.err[-2000:]
    assert b"input 'x' has the wrong shape" in done.out


FUNCTIONS = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
import coremltools as ct
from onnx import parser
import coreproof

described = ct.utils.MultiFunctionDescriptor()
for name, factor in (("once", 1.0), ("thrice", 3.0)):
    text = f'''<ir_version: 8, opset_import: ["": 17]> net (float[2] x) => (float[2] y)
    <float k = {{{factor}}}> {{ y = Mul(x, k) }}'''
    coreproof.convert(parser.parse_model(text), "mlprogram", precision="fp32", target="iOS18").save(f"{name}.mlpackage")
    described.add_function(f"{name}.mlpackage", src_function_name="main", target_function_name=name)
described.default_function_name = "once"
ct.utils.save_multifunction(described, "both.mlpackage")
coreproof.patch_coremltools()
fed = {"x": np.array([1.0, 2.0], np.float32)}
for function in (None, "once"):
    assert ct.models.MLModel("both.mlpackage", function_name=function).predict(fed)["y"].tolist() == [1.0, 2.0]
thrice = ct.models.MLModel("both.mlpackage", function_name="thrice")
assert thrice.predict(fed)["y"].tolist() == [3.0, 6.0]
with coreproof.session(thrice) as running:
    assert running.run(fed)["y"].tolist() == [3.0, 6.0]
with coreproof.session(thrice, function="once") as running:
    assert running.run(fed)["y"].tolist() == [1.0, 2.0]
with coreproof.session(coreproof.load(thrice)) as running:
    assert running.run(fed)["y"].tolist() == [3.0, 6.0]
print(coreproof.load(thrice).name)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML itself answers")
def test_each_function_answers_for_itself_and_is_loaded_as_itself(tmp_path: Path, forked: Commands) -> None:
    done = forked.run(folder=tmp_path, program=FUNCTIONS)
    assert done.out.endswith(b"model#thrice\n"), done.err[-2000:]


STATES = """
import warnings
warnings.simplefilter("ignore")
import sys
import numpy as np
import coremltools as ct
import coreproof

coreproof.patch_coremltools()
model = ct.models.MLModel(sys.argv[1], skip_model_load=True)
x = np.ones((1, 4), np.float32)
state, other = model.make_state(), model.make_state()
assert [model.predict({"x": x}, state)["y"][0, 0] for _ in range(3)] == [2.0, 4.0, 6.0]
assert model.predict({"x": x}, state=other)["y"][0, 0] == 2.0
held = state.read_state("total")
assert held.dtype == np.float32 and held.tolist() == [[3.0] * 4]
state.write_state("total", np.full((1, 4), 10.0))
assert model.predict({"x": x}, state=state)["y"][0, 0] == 22.0
for refused in (
    lambda: model.predict({"x": x}),
    lambda: state.read_state("tally"),
    lambda: state.write_state("total", np.zeros(3)),
):
    try:
        refused()
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML itself answers")
def test_states_are_made_read_written_and_handed_on(tmp_path: Path, forked: Commands) -> None:
    counter(tmp_path / "counter.mlpackage")
    done = forked.run("counter.mlpackage", folder=tmp_path, program=STATES)
    assert done.code == 0, done.err[-2000:]
    for told in ("is run without one", "no state 'tally'", "state 'total' has another shape"):
        assert told in done.out.decode()


TYPES = """
import warnings
warnings.simplefilter("ignore")
import sys
import numpy as np
import coremltools as ct
import coreproof

coreproof.patch_coremltools()
model = ct.models.MLModel(sys.argv[1], skip_model_load=True)
state = model.make_state()
for x in (np.ones((1, 4), np.float16), np.ones((1, 4)), [[1, 1, 1, 1]]):
    y = model.predict({"x": x}, state)["y"]
    print(type(y).__name__, y.dtype, y.shape)
for data, given in (
    ({"z": np.ones((1, 4))}, state),
    ([{"x": np.ones((1, 4))}], state),
    (((1, 4),), state),
    ({"x": np.ones((1, 5))}, state),
    ({}, state),
):
    try:
        model.predict(data, given)
    except Exception as error:
        print(type(error).__mro__[-3].__name__ if isinstance(error, RuntimeError) else type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML itself answers")
def test_types_in_and_out_and_refusals_are_those_of_coremltools(tmp_path: Path, forked: Commands) -> None:
    counter(tmp_path / "counter.mlpackage")
    done = forked.run("counter.mlpackage", folder=tmp_path, program=TYPES)
    assert done.code == 0, done.err[-2000:]
    assert done.out.count(b"ndarray float32 (1, 4)") == 3
    for told in (
        'KeyError \'Provided key "z", in the input dict, does not match any of the model input name(s)',
        "AssertionError State can only be used for unbatched predictions",
        'TypeError "data" parameter must be either a dict or list of dict',
        "MultiArray shape (1 x 5) does not match the shape (1 x 4) specified in the model description",
        "give x",
    ):
        assert told in done.out.decode()


SEQUENCES = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
import coremltools as ct
import coreproof

coreproof.patch_coremltools()
x = np.arange(15, dtype=np.float32).reshape(15, 1, 1, 1, 1) % 10
for data in ({"x": x}, [{"x": x}]):
    answered = ct.models.MLModel("net.mlmodel").predict(data)
    print(np.ravel((answered if isinstance(answered, dict) else answered[0])["y"]).tolist())
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML itself answers")
def test_a_network_that_makes_sense_over_one_length_alone_is_opened_over_it(tmp_path: Path, forked: Commands) -> None:
    table = np.arange(60, dtype=np.float32).reshape(6, 10)
    layers = [
        layer("embedding", "x", "e", inputDim=10, outputChannels=6, weights=table),
        layer("permute", "e", "p", axis=[3, 1, 2, 0]),
        layer("flatten", "p", "f"),
        layer("innerProduct", "f", "y", inputChannels=90, outputChannels=2, weights=np.ones((2, 90))),
    ]
    network(layers, {"x": (1, 1, 1)}, {"y": None}).save(tmp_path / "net.mlmodel")
    done = forked.run(folder=tmp_path, program=SEQUENCES)
    assert done.code == 0, done.err[-2000:]
    wanted = float(table.T[np.arange(15) % 10].sum())
    assert done.out.decode().splitlines() == [str([wanted, wanted])] * 2
