"""Model families that people ship, with seeded weights: converted, run and held against PyTorch's own output.

    python -m conformance.model_families [--only TEXT ...] [--kind timm ...] [--jobs N] [--again] [--record]

One small network a family: timm and torchvision (two of blocks that repeat), transformers (tiny configurations), plain
networks. Each is judged in float32 and float16 by what ``conformance.trial`` grants (in float16 beside PyTorch's own half
precision), by ``verify``, and once more at another length or batch where that is free. Each runs in a process of its own.
``--record`` puts each into conformance/results/model_families.json as soon as it is judged, with its commit, and leaves out
what stands there: a run that is ended goes on there. It writes docs/families.md at its end.
timm and transformers are not among coreproof's own requirements: conformance/families-requirements.txt has them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import coreproof as cp
from conformance.origin import origin, write_record
from conformance.plain_networks import PLAIN
from conformance.trial import Feed, difference, first_line, quiet, trial
from coreproof.model.files.atomic import replacing

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
RESULTS = Path(__file__).parent / "results" / "model_families.json"
FORMATS = ("mlprogram-fp32", "mlprogram-fp16")
OTHER = "other size"
APART = ("beyond the format", "not exportable")
"""What is no judgement of a conversion: float16 does not hold the values, or PyTorch itself has no program of the module."""
SECONDS, WAITED = 900, 5400
"""Of processor time for one family, and by the clock: on a machine that is shared the two lie far apart."""
SEED = 0
LENGTH, OTHER_LENGTH, SIDE = 12, 7, 128

TIMM = [
    "halonet_h1", "mobileone_s1", "cait_xxs24_224", "coat_tiny", "convit_tiny", "convnext_zepto_rms", "crossvit_tiny_240",
    "cs3darknet_focus_s", "davit_tiny", "deit_tiny_patch16_224", "densenet121", "dla46x_c", "dpn48b", "edgenext_xx_small",
    "efficientformer_l1", "efficientformerv2_s0", "tinynet_e", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0",
    "eva02_tiny_patch14_224", "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050",
    "hardcorenas_b", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "inception_next_atto", "inception_v3",
    "lcnetv2_small", "levit_128s", "mambaout_femto", "maxvit_pico_rw_256", "poolformerv2_s12", "gmlp_ti16_224",
    "mobilenetv3_small_050", "mobilevit_xxs", "mvitv2_tiny", "nest_tiny", "nf_regnet_b0", "pit_ti_224", "pvt_v2_b0",
    "regnetx_002", "repghostnet_050", "repvit_m1", "res2next50", "resnest14d", "resnet10t", "resnetv2_18", "rexnet_100",
    "selecsls42", "legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050", "swiftformer_xs",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "tiny_vit_5m_224", "tnt_s_legacy_patch16_224", "tresnet_m",
    "twins_svt_small", "visformer_tiny", "vit_tiny_patch16_224", "test_byobnet", "test_coatnet", "test_convnext",
    "test_efficientnet", "test_maxvit", "test_nfnet", "test_vit", "test_vit_relpos",
]  # fmt: skip
WHOLE_BLOCKS = ("halonet_h1",)
"""What cuts its picture into blocks that a smaller one has no whole number of."""
TRANSFORMERS = [
    "albert", "bart", "beit", "bert", "bert-generation", "big_bird", "biogpt", "blenderbot", "bloom", "camembert", "canine",
    "clip_text_model", "clip_vision_model", "cohere", "cohere2", "convbert", "ctrl", "data2vec-text", "data2vec-vision",
    "deberta", "deberta-v2", "deit", "diffllama", "dinov2", "dinov3_vit", "distilbert", "dpr", "dpt", "electra", "ernie",
    "ernie4_5", "esm", "exaone4", "falcon", "falcon_h1", "falcon_mamba", "fnet", "gemma", "gemma2", "gemma3_text", "glm",
    "glm4", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_oss", "granite", "granitemoe", "helium", "ibert", "imagegpt", "jamba",
    "jetmoe", "layoutlm", "led", "lfm2", "llama", "llama4_text", "longformer", "m2m_100", "mamba", "marian", "mbart",
    "megatron-bert", "minimax", "mistral", "mixtral", "mobilebert", "mobilenet_v2", "modernbert", "moonshine", "mpnet", "mpt",
    "mra", "mt5", "mvp", "nemotron", "nomic_bert", "nystromformer", "olmo", "olmo2", "olmoe", "openai-gpt", "opt", "pegasus",
    "persimmon", "phi", "phi3", "phimoe", "pixtral", "plbart", "prophetnet", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
    "qwen3_next", "recurrent_gemma", "rembert", "roberta", "roformer", "rwkv", "sam_vision_model", "seed_oss", "sew",
    "siglip_vision_model", "smollm3", "splinter", "squeezebert", "stablelm", "starcoder2", "switch_transformers", "t5",
    "umt5", "vit", "vit_mae", "vit_msn", "xglm", "xlm-roberta", "xlnet", "xlstm", "yoso",
]  # fmt: skip
TORCHVISION = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5",
    "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vit_b_32", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large",
    "fcn_resnet50",
]  # fmt: skip
FAMILIES = {"plain": list(PLAIN), "transformers": TRANSFORMERS, "torchvision": TORCHVISION, "timm": TIMM}

SMALL: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_experts", "num_local_experts"), 4),
    **dict.fromkeys(("num_key_value_heads", "type_vocab_size", "num_experts_per_tok", "eos_token_id"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "n_inner"), 64),
    **dict.fromkeys(("hidden_dim", "ffn_hidden_size", "max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("d_kv", "head_dim", "patch_size"), 8),
    **dict.fromkeys(("image_size", "moe_intermediate_size"), 32),
    "vocab_size": 99,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "decoder_start_token_id": 1,
    "use_cache": False,
    "num_labels": 5,
}
"""What makes a configuration of transformers tiny, by the names that they share."""


def made(kind: str, name: str) -> tuple[Any, dict[str, Any], dict[str, list[Any]]]:
    """The module with its weights, an input by each name, and the shapes that are free, as ``convert`` takes them."""
    import torch

    from coreproof.model.torch.model import import_torchvision

    torchvision = import_torchvision()  # before timm and transformers import it
    torch.manual_seed(SEED)
    if kind == "plain":
        module, inputs, free = PLAIN[name]()
    elif kind == "torchvision":
        module = torchvision.models.get_model(
            name, weights=None, **({"weights_backbone": None} if "v3_large" in name or "fcn" in name else {})
        )
        size = 299 if name == "inception_v3" else 224 if name in ("maxvit_t", "vit_b_32") else 128
        (taken,) = inspect.signature(module.forward).parameters  # "x", or "input" of what finds regions
        inputs, free = {taken: torch.randn(1, 3, size, size)}, {taken: [(1, 4), 3, size, size]}
    elif kind == "timm":
        import timm

        module = timm.create_model(name, pretrained=False, num_classes=10)
        channels, *size = module.default_cfg["input_size"]
        # convolutions take any size, and a small one is judged sooner
        whole = module.default_cfg.get("fixed_input_size") or name in WHOLE_BLOCKS
        size = size if whole else [min(n, SIDE) for n in size]
        inputs, free = {"x": torch.randn(1, channels, *size)}, {"x": [(1, 4), channels, *size]}
    else:
        module, inputs, free = _transformer(name)
    if kind in ("timm", "torchvision"):
        _shallower(module.eval(), inputs)
    _stir(module)
    return module.eval(), inputs, free


def _shallower(module: Any, inputs: Mapping[str, Any]) -> None:
    """Leaves two of any row of blocks that are alike, as the network runs without the others: the third shows nothing new."""
    import torch

    def kind(block: Any) -> tuple[Any, ...]:
        return type(block), *((name, tuple(v.shape)) for name, v in block.state_dict().items())

    for part in list(module.modules()):
        if not isinstance(part, torch.nn.Sequential | torch.nn.ModuleList):
            continue
        whole, kinds = dict(part._modules), [kind(block) for block in part]
        kept = [at for at in range(len(kinds)) if len(set(kinds[max(at - 2, 0) : at + 1])) > 1 or at < 2]
        if len(kept) == len(kinds):
            continue
        part._modules = {str(at): whole[name] for at, name in enumerate(whole) if at in kept}
        try:
            with torch.no_grad():
                module(**inputs)
        except Exception:  # what is read by number, or has names that forward asks for
            part._modules = whole


def _transformer(name: str) -> tuple[Any, dict[str, Any], dict[str, list[Any]]]:
    import torch
    import transformers

    kind = transformers.CONFIG_MAPPING[name]
    known = kind().to_dict()
    config = kind(**{key: value for key, value in SMALL.items() if key in known})
    module = transformers.AutoModel.from_config(config)
    taken = inspect.signature(module.forward).parameters
    inputs: dict[str, Any] = {}
    if "input_ids" in taken:
        inputs["input_ids"] = torch.randint(3, 90, (1, LENGTH))
        if "attention_mask" in taken:
            inputs["attention_mask"] = torch.ones(1, LENGTH, dtype=torch.long)
    elif "pixel_values" in taken:
        inputs["pixel_values"] = torch.randn(1, 3, 32, 32)
    else:
        inputs["input_values"] = torch.randn(1, 1600)
    if "noise" in taken:  # which patches are hidden; it would draw them
        inputs["noise"] = torch.rand(1, (32 // SMALL["patch_size"]) ** 2)
    if "decoder_input_ids" in taken:
        inputs["decoder_input_ids"] = torch.randint(3, 90, (1, 5))
    free = {key: [1, (2, 32)] for key, value in inputs.items() if key in ("input_ids", "attention_mask")}
    return module, inputs, free


def _stir(module: Any) -> None:
    """Gives statistics that are not 0 and 1, and weights that are not all alike: a scale of 1e-6 hides what a block computes."""
    import torch

    generator = torch.Generator().manual_seed(1)

    def drawn(like: Any) -> Any:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    with torch.no_grad():
        for part in module.modules():
            if getattr(part, "running_mean", None) is not None:
                part.running_mean.copy_(0.1 * drawn(part.running_mean))
                part.running_var.copy_(1 + 0.5 * drawn(part.running_var).tanh())
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.numel() > 1 and float(parameter.std()) < 1e-3:
                parameter.add_(0.1 * drawn(parameter))


def flat(answer: Any) -> list[np.ndarray[Any, Any]]:
    """The tensors of what a module returns."""
    import torch

    from coreproof.model.torch.model import name_outputs

    return [
        leaf.detach().float().numpy() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf.detach().numpy()
        for leaf in name_outputs(answer).values()
    ]


def judge(kind: str, name: str) -> dict[str, Any]:
    """What became of one family, a format at a time, in one word and a reason."""
    import torch

    quiet()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"family": f"{kind}:{name}", "commit": origin("conformance.model_families")["commit"]}
    started = time.monotonic()
    try:
        with torch.no_grad():
            module, inputs, free = made(kind, name)
            exact = flat(module(**inputs))
    except (
        Exception
    ) as error:  # a configuration that these numbers do not fit, or a family that the library has no more
        return {**record, "skipped": f"it cannot be made: {first_line(error)}"}
    if not all(np.isfinite(v).all() for v in exact if v.dtype.kind == "f"):
        return {**record, "skipped": "PyTorch's own answer is not finite"}
    half = _in_half(module, inputs)
    try:
        source = cp.load(cp.Source(module, dict(inputs)))
        names = [f.name for f in source.signature.outputs]
    except cp.CoreproofError as error:
        why = _not_exportable(module, inputs)
        ended = ["not exportable", why] if why else ["refused", first_line(error)]
        return {**record, **dict.fromkeys(FORMATS, ended)}
    fed: Feed = {f.name: t.numpy() for f, t in zip(source.signature.inputs, inputs.values(), strict=True)}
    known: Feed = dict(zip(names, exact, strict=True))
    for form in FORMATS:
        allowed = partial(allowances, module, inputs, known, half)
        with tempfile.TemporaryDirectory() as folder:
            record[form] = list(trial(Path(folder), source, fed, known, form, lambda narrow: allowed(narrow)))  # noqa: B023
    if free:
        record[OTHER] = list(_at_another_size(module, inputs, free))
    if any(record[form][0] in ("refused", "breaks") for form in FORMATS) and (why := _not_exportable(module, inputs)):
        for form in (*FORMATS, OTHER):
            if record.get(form, [""])[0] in ("refused", "breaks"):
                record[form] = ["not exportable", why]
    return {**record, "seconds": round(time.monotonic() - started)}


def _not_exportable(module: Any, inputs: Mapping[str, Any]) -> str:
    """What PyTorch's own export says against the module with these inputs, without any help of ours; nothing where it has one."""
    import torch

    try:
        with torch.no_grad():
            torch.export.export(module, (), dict(inputs), strict=False)
    except Exception as error:  # every kind of it, also those of the module's own code
        return first_line(error)
    return ""


def _in_half(module: Any, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]] | None:
    """PyTorch's answer in half precision; None where its CPU kernels do not have that."""
    import copy

    import torch

    try:
        narrow = copy.deepcopy(module).half()
        with torch.no_grad():
            return flat(narrow(**{k: v.half() if v.is_floating_point() else v for k, v in inputs.items()}))
    except Exception:  # a kernel that PyTorch has not for half precision, or code that names float32
        return None


def allowances(
    module: Any, inputs: Mapping[str, Any], exact: Feed, half: Sequence[np.ndarray[Any, Any]] | None, narrow: bool
) -> dict[str, float] | None:
    """Per output, what no honest conversion exceeds; None where PyTorch itself has no finite answer in half precision."""
    scale = {n: float(np.max(np.abs(v.astype(np.float64)), initial=0.0)) for n, v in exact.items()}
    moved = _moved(module, inputs, exact, 2.0**-10 if narrow else 2.0**-22)
    if not narrow:
        return {n: 1e-4 * scale[n] + 1e-6 + 16 * moved[n] for n in exact}
    if half is not None and any(not np.isfinite(v).all() for v in half if v.dtype.kind == "f"):
        return None
    lost = {
        n: 0.0 if half is None else difference(v, own)
        for (n, v), own in zip(exact.items(), half or exact.values(), strict=True)
    }
    return {n: 4e-3 * scale[n] + 1e-4 + max(8 * moved[n], 8 * lost[n]) for n in exact}


def _moved(module: Any, inputs: Mapping[str, Any], exact: Feed, unit: float) -> dict[str, float]:
    """How far each output moves when all weights and inputs move by ``unit``, the most of three draws."""
    import torch

    found = dict.fromkeys(exact, 0.0)
    held = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    def near(tensor: Any, generator: Any) -> Any:
        noise = 2 * torch.rand(tensor.shape, generator=generator) - 1
        return tensor * (1 + unit * noise).to(tensor.dtype) if tensor.is_floating_point() else tensor

    with torch.no_grad():
        for draw in range(3):
            generator = torch.Generator().manual_seed(draw)
            for name, parameter in module.named_parameters():
                parameter.copy_(near(held[name], generator))
            for name, value in zip(
                exact, flat(module(**{k: near(v, generator) for k, v in inputs.items()})), strict=True
            ):
                found[name] = max(found[name], difference(exact[name], value))
        for name, parameter in module.named_parameters():
            parameter.copy_(held[name])
    return found


def _at_another_size(module: Any, inputs: Mapping[str, Any], free: Mapping[str, list[Any]]) -> tuple[str, str]:
    """Converted with free lengths, and judged in float32 at the example's size and at another."""
    import torch

    def other(name: str, tensor: Any) -> Any:
        if name not in free:
            return tensor
        if free[name][0] != 1:  # the batch is free
            return torch.cat([tensor, tensor.flip(-1), tensor.neg()])
        asked = (
            slice(n * OTHER_LENGTH // LENGTH) if isinstance(f, tuple) else slice(None)
            for n, f in zip(tensor.shape, free[name], strict=True)
        )
        return tensor[tuple(asked)]

    try:
        # other inputs that share a free batch follow it
        source = cp.load(cp.Source(module, dict(inputs)))
        model = cp.convert(source, "mlprogram", precision="fp32", shapes=free)
    except cp.CoreproofError as error:
        return "refused", first_line(error)
    except Exception as error:
        return "breaks", first_line(error)
    for given in (inputs, {name: other(name, tensor) for name, tensor in inputs.items()}):
        with torch.no_grad():
            exact = dict(zip((f.name for f in source.signature.outputs), flat(module(**given)), strict=True))
        granted = allowances(module, given, exact, None, False)
        try:
            with cp.session(model) as running:
                answer = running.run(
                    dict(
                        zip((f.name for f in model.signature.inputs), (t.numpy() for t in given.values()), strict=True)
                    )
                )
        except Exception as error:
            return "does not run", first_line(error)
        for (name, value), found in zip(exact.items(), answer.values(), strict=True):
            off = difference(value, found)
            if granted is None or not off <= granted[name]:
                return "wrong", f"{name} at {[tuple(t.shape) for t in given.values()]}: off by {off:.3g}"
    return "right", ""


def _in_a_process(family: str) -> dict[str, Any]:
    """Judges in a process of its own, forked from a server that has imported the libraries; one that dies breaks its family."""
    workers = get_context("forkserver")
    here, there = workers.Pipe(duplex=False)
    worker = workers.Process(target=_judged, args=(family, there), daemon=True)
    worker.start()
    there.close()
    try:
        if here.poll(WAITED):
            return dict(here.recv())
        said = f"not done within {WAITED} s by the clock"
    except EOFError:
        worker.join(10)
        done = worker.exitcode == -signal.SIGXCPU
        said = f"not done in {SECONDS} s of a processor" if done else f"the process ended with {worker.exitcode}"
    finally:
        worker.kill()
        worker.join()
    commit = origin("conformance.model_families")["commit"]
    return {"family": family, "commit": commit, **{form: ["breaks", said] for form in FORMATS}}


def _judged(family: str, answer: Any) -> None:
    with open(os.devnull, "w") as nothing:
        for stream in (1, 2):  # libraries write there while they work
            os.dup2(nothing.fileno(), stream)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 60))
    answer.send(judge(*family.split(":", 1)))


def page(recorded: Mapping[str, Any]) -> str:
    """docs/families.md: what became of each family, and the reason of each that is not right."""
    columns = {"mlprogram-fp32": "ML Program fp32", "mlprogram-fp16": "ML Program fp16", OTHER: "free lengths"}
    lines = [
        "# Model families that were carried to Core ML and judged",
        "",
        "One small network a family, with seeded random weights, against PyTorch's own output: in float32, in float16 (beside",
        "PyTorch's own half precision), and converted once more with its length or batch free, at two sizes. A dash: nothing is",
        f"free. Made by `{recorded['command']}` at {recorded['commit']} on {recorded['date']} (seed {recorded['seed']}).",
        "",
        "| | judged | " + " | ".join(columns.values()) + " |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    records = [r for r in recorded["records"] if "skipped" not in r]
    for kind in FAMILIES:
        mine = [r for r in records if r["family"].startswith(f"{kind}:")]
        cells = []
        for column in columns:
            found = [r[column][0] for r in mine if column in r and r[column][0] not in APART]
            cells.append(f"{found.count('right')} of {len(found)}")
        lines.append(f"| {kind} | {len(mine)} | " + " | ".join(cells) + " |")
    lines += ["", "| family | " + " | ".join(columns.values()) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {r['family']} | " + " | ".join(r[c][0] if c in r else "-" for c in columns) + " |" for r in records]
    reasons = {"What is not right, and why": list[str](), "What PyTorch itself cannot export": list[str]()}
    apart = list(reasons)
    for r in records:
        for c, title in columns.items():
            if c in r and r[c][0] != "right":
                said = f"- {r['family']}, {title}: {r[c][0]}: {_escaped(r[c][1])}"
                reasons[apart[r[c][0] == "not exportable"]].append(said)
    for title, found in reasons.items():
        if found:
            lines += ["", f"## {title}", "", *found]
    skipped = [f"- {r['family']}: {_escaped(r['skipped'])}" for r in recorded["records"] if "skipped" in r]
    if skipped:
        lines += ["", "## What could not be judged", "", *skipped]
    if left := recorded.get("not judged yet"):
        lines += ["", "## Not judged yet", "", f"{len(left)}: {', '.join(left)}"]
    return "\n".join(lines) + "\n"


def _escaped(reason: str) -> str:
    """A reason as Markdown shows it as it stands."""
    return f"`{reason[:300].replace('`', chr(39))}`" if reason else "no reason was given"


def stored() -> dict[str, dict[str, Any]]:
    """What the record holds, by family; nothing of families that the list has no more."""
    if not RESULTS.exists():
        return {}
    listed = {f"{kind}:{name}" for kind, names in FAMILIES.items() for name in names}
    records = json.loads(RESULTS.read_text(encoding="utf-8"))["records"]
    return {record["family"]: record for record in records if record["family"] in listed}


def whole(known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The record of all that is judged so far, in the order of the list, and what it leaves open."""
    listed = [f"{kind}:{name}" for kind, names in FAMILIES.items() for name in names]
    records = [known[family] for family in listed if family in known]
    open_yet = [family for family in listed if family not in known]
    head = {**origin("conformance.model_families"), "seed": SEED}
    return {**head, **counted(records), "not judged yet": open_yet, "records": records}


def counted(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many ended how, by format."""
    counts = {form: dict(Counter(r[form][0] for r in records if form in r)) for form in (*FORMATS, OTHER)}
    return {"families": len(records), "skipped": sum("skipped" in r for r in records), **counts}


def main() -> int:
    """Judges the families; 1 when less than 97% of what was judged is right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[""], help="parts of a family's name, one of which it has")
    parser.add_argument("--kind", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="judge also what stands in the record")
    parser.add_argument("--record", action="store_true", help=f"go on with {RESULTS.name}, and write {PAGE.name}")
    given = parser.parse_args()
    chosen = [
        f"{kind}:{name}" for kind in given.kind for name in FAMILIES[kind] if any(part in name for part in given.only)
    ]
    known = stored() if given.record else {}
    todo = [family for family in chosen if given.again or family not in known]
    get_context("forkserver").set_forkserver_preload(["conformance.preloaded"])
    with ThreadPoolExecutor(given.jobs) as pool:
        for record in pool.map(_in_a_process, todo):
            known[record["family"]] = record
            said = (f"{form}: {' '.join(record[form])}" for form in (*FORMATS, OTHER) if form in record)
            print(record["family"], *said, record.get("skipped", ""), flush=True)
            if given.record:
                write_record(RESULTS, whole(known))
    if given.record:
        write_record(RESULTS, whole(known))
        with replacing(PAGE) as fresh:
            fresh.write_text(page(whole(known)))
    records = [known[family] for family in chosen if family in known]
    print(json.dumps(counted(records), indent=1))
    judged = [r[form][0] for r in records for form in FORMATS if form in r and r[form][0] not in APART]
    right = sum(word == "right" for word in judged)
    print(f"{right} of {len(judged)} right")
    return int(right < 0.97 * len(judged))


if __name__ == "__main__":
    sys.exit(main())
