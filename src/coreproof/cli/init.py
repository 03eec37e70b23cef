"""``coreproof init``: a file that tells coreproof of a PyTorch model: the network, one call of it, how it is fed, its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import Replace
from coreproof.cli.say import say
from coreproof.errors import InputError

_TEXT = '''"""My model for coreproof.

    coreproof prove {name}:model --photos PHOTOS --out proof
"""

from __future__ import annotations

import torch

import coreproof as cp


def model() -> cp.Source:
    """The network with its weights, and what nobody but you knows of it."""
    # 1. Your network and its weights, in the place of these five lines:
    #        network = MyNetwork()
    #        network.load_state_dict(torch.load("weights.pt", weights_only=True))
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, kernel_size=3, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
    )
    return cp.Source(
        # eval(): dropout and batch norm as they are after training
        module=network.eval(),
        # 2. One call of it: an array for each argument, in its shape and dtype (batch, channels, height, width).
        example_inputs=(torch.zeros(1, 3, {height}, {width}),),
        # 3. What training did to a picture: numbers = (pixel * scale - mean) / std, pixels 0-255, one mean and std a channel.
        #    torchvision's ToTensor() is scale=1 / 255, its Normalize(mean, std) these two, Resize(256) is resize_to=256 and
        #    CenterCrop the size. A model of sounds, texts or plain numbers needs no feeding: delete it.
        feeding=cp.Feeding(
            size=({width}, {height}),
            resize_to=None,
            scale=1 / 255,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        # 4. The class names in the order of the scores; they go with the model to the phone. From a file, one a line:
        #    labels=tuple(open("labels.txt").read().splitlines()),
        labels=("cat", "dog"),
        # 5. Delete this line when the weights are yours: without training, predictions mean nothing, and the verdict says so.
        untrained=True,
    )
'''


def command(
    file: Annotated[Path, typer.Argument(help="MODEL.py: the file to be written.", show_default=False)],
    size: Annotated[str, typer.Option(help="Width x height of what the network sees: 224 or 320x240.")] = "224",
    overwrite: Replace = False,
) -> None:
    """Write a file that tells coreproof of your PyTorch model: it runs as it is, and comments say what to fill in."""
    from coreproof.cli.options import FeedingOptions
    from coreproof.model.files.atomic import replacing
    from coreproof.model.files.outputs import Kind, check_output

    if file.suffix != ".py":
        raise InputError("a model is told of in a Python file", expected="a name that ends in .py", found=str(file))
    feeding = FeedingOptions(size=size).resolve(None)
    assert feeding is not None
    width, height = feeding.size
    text = _TEXT.format(name=file.name, width=width, height=height)
    # what was filled in is the user's
    kind = Kind("the same file, not filled in", lambda path: path.read_text(encoding="utf-8") == text)
    check_output(file, kind, replace=overwrite)
    with replacing(file, kind, replace=overwrite) as fresh:
        fresh.write_text(text, encoding="utf-8")
    say(f"{file}: fill in 1 to 5; it runs as it is:", f"  coreproof prove {file}:model --photos PHOTOS --out proof")
