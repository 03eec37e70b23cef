"""The model families that are judged: their names, and how the network of each is made, with its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from conformance.further_networks import FURTHER
from conformance.plain_networks import PLAIN

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
NETWORKS = {**PLAIN, **FURTHER}
FAMILIES = {"plain": list(NETWORKS), "transformers": TRANSFORMERS, "torchvision": TORCHVISION, "timm": TIMM}

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
        module, inputs, free = NETWORKS[name]()
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
