"""Operations of coreproof's conversions beside those of coremltools' own, and their time in coreproof's runtime.

    python -m benchmarks.operations [NETWORK ...] [--rounds 20]

Both convert the same PyTorch module to a float16 ML Program for iOS 17; constants are not counted. The time is the median over
rounds of each round's ratio, both run as stored by one thread, in turn. Exit code 1 where one of ours has more operations.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import coreproof as cp
from benchmarks.latency import interleaved, median_ratio
from benchmarks.models import MODELS

NETWORKS = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "efficientnet_b0",
    "densenet121",
    "convnext_tiny",
    "swin_t",
    "transformer-6",
)


def module_of(name: str) -> tuple[Any, tuple[Any, ...]]:
    """A network with seeded weights, and what it is fed: one of ``benchmarks.models``, or torchvision's of this name."""
    if name in MODELS:
        return MODELS[name]()
    import torch

    from coreproof.model.load import load

    torch.manual_seed(0)
    model: Any = load(f"torchvision:{name}?weights=random")
    return model.module.eval(), tuple(model.example_inputs)


def operations(spec: Any) -> Counter[str]:
    """How many operations of each kind a program has, constants aside, those of nested blocks included."""

    def of(block: Any) -> Iterator[str]:
        for operation in block.operations:
            if operation.type != "const":
                yield operation.type
            for nested in operation.blocks:
                yield from of(nested)

    main = spec.mlProgram.functions["main"]
    return Counter(of(main.block_specializations[main.opset]))


def theirs(module: Any, inputs: tuple[Any, ...]) -> Any:
    """coremltools' own conversion: traced, to a float16 ML Program."""
    import coremltools as ct
    import numpy as np
    import torch

    traced = torch.jit.trace(module, inputs, check_trace=False)
    return ct.convert(
        traced,
        inputs=[ct.TensorType(name="x", shape=tuple(inputs[0].shape), dtype=np.float32)],
        outputs=[ct.TensorType(dtype=np.float32)],
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )


def row(name: str, rounds: int) -> tuple[int, int, str, float]:
    """Of a network: our operations and theirs, of which kinds we have more, and the share of their time that ours takes."""
    import torch

    module, inputs = module_of(name)
    with torch.no_grad():
        peer = cp.load(theirs(module, inputs))
        ours = cp.convert(cp.load(module, example=inputs), "mlprogram", target="iOS17", check=False)
    mine, other = operations(ours.spec), operations(peer.spec)
    more = ", ".join(f"{kind} {count - other[kind]:+d}" for kind, count in mine.items() if count > other[kind])
    contenders = {}
    for label, model in (("ours", ours), ("theirs", peer)):
        running = cp.session(model, threads=1)
        feed = {running.signature.inputs[0].name: inputs[0].numpy()}
        contenders[label] = lambda running=running, feed=feed: running.run(feed)
    seconds = interleaved(contenders, rounds, warm=2)
    return sum(mine.values()), sum(other.values()), more, median_ratio(seconds["ours"], seconds["theirs"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    worse = 0
    print("| network | operations | coremltools' | time, ours / theirs | kinds of which ours has more |", flush=True)
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in options.networks:
        mine, other, more, ratio = row(name, options.rounds)
        worse += mine > other
        print(f"| {name} | {mine} | {other} | {ratio:.2f} | {more} |", flush=True)
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main())
