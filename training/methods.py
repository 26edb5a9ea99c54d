"""Which weights train: all of the transformer, low-rank additions to it (LoRA), or a language's adapter."""

from __future__ import annotations

from typing import Any, Final, Literal

import torch

from .network import Network
from .settings import FineTuning

Method = Literal["full", "lora", "adapter"]

PEAKS: Final[dict[Method, float]] = {"full": 3e-4, "lora": 1e-3, "adapter": 1e-3}
NEW_HEAD_PEAK: Final = 3e-3
RANK: Final = 16
LAYERS: Final = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]


def prepare(model: Any, method: Method, *, seed: int) -> Any:
    """Mark the weights that train and return the model to train: with LoRA, one with additions in it.

    The CNN never trains. The head always does.
    """
    if method == "full":
        return model
    model.requires_grad_(False)
    if method == "adapter":
        for layer in model.wav2vec2.encoder.layers:
            layer.adapter_layer.requires_grad_(True)
    else:
        import peft

        torch.manual_seed(seed)
        how: Any = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LAYERS)
        peft.inject_adapter_in_model(how, model)
    model.lm_head.requires_grad_(True)
    return model


def merge(model: Any, method: Method) -> Any:
    """The plain model: low-rank additions become part of the weights."""
    if method == "lora":
        from peft.tuners.lora import LoraLayer

        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, LoraLayer):
                    child.merge()  # pyright: ignore
                    setattr(parent, name, child.get_base_layer())
    return model.eval()


def optimiser(network: Network, how: FineTuning) -> torch.optim.Optimizer:
    """AdamW; vectors do not decay, the head has its own peak rate."""
    head = {id(p) for p in network.model.lm_head.parameters()}
    groups: list[dict[str, Any]] = []
    for of_head, peak in ((False, how.peak), (True, how.head_peak)):
        own = [p for p in network.parameters() if p.requires_grad and (id(p) in head) == of_head]
        for matrices, decay in ((True, how.weight_decay), (False, 0.0)):
            chosen = [p for p in own if (p.ndim > 1) == matrices]
            groups.append({"params": chosen, "weight_decay": decay, "peak": peak, "lr": peak})
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), eps=1e-8)
