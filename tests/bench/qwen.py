"""A qwen2_5_vl model with random weights, built here: nothing is downloaded."""

# The tokens in here are a tokenizer's, not secrets:

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers.models.qwen2_vl import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|> {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
)
REAL: dict[str, Any] = {  # Qwen2.5-VL-3B's own widths
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 32000,
    "mrope_section": [16, 24, 24],
    "vision": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
}
TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "mrope_section": [2, 3, 3],
    "vision": {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4},
}


def build(folder: Path, *, tiny: bool) -> int:
    """Save a model, its tokenizer and its processor; how many parameters it has."""
    sizes = TINY if tiny else REAL
    tokenizer = _tokenizer(sizes["vocab_size"])
    config = _config(sizes, tokenizer)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = transformers.Qwen2_5_VLForConditionalGeneration._from_config(
            config, dtype=torch.bfloat16
        )
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(folder)
    processor = transformers.Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
    return int(count)


def _tokenizer(size: int) -> Any:
    """Bytes as tokens, so that every id has a text: an answer of random ids is not empty."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    for number in range(len(words), size):
        words[f"w{number}"] = number
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=words, merges=[]))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
    )
    made.chat_template = TEMPLATE
    return made


def _config(sizes: dict[str, Any], tokenizer: Any) -> Any:
    known = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    text = {name: value for name, value in sizes.items() if name not in ("vision", "mrope_section")}
    return transformers.Qwen2_5_VLConfig(
        text_config={
            **text,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": sizes["mrope_section"],
            },
            "bos_token_id": known["<|endoftext|>"],
            "eos_token_id": known["<|im_end|>"],
            "pad_token_id": known["<|endoftext|>"],
        },
        vision_config={**sizes["vision"], "out_hidden_size": sizes["hidden_size"]},
        image_token_id=known["<|image_pad|>"],
        video_token_id=known["<|video_pad|>"],
        vision_start_token_id=known["<|vision_start|>"],
        vision_end_token_id=known["<|vision_end|>"],
        tie_word_embeddings=True,
    )
