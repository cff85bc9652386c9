"""A Llava of 210 thousand parameters: its word tokenizer, its processor and its initial weights.

Everything here is a plain transformers class, so `AutoProcessor.from_pretrained` and
`LlavaForConditionalGeneration.from_pretrained` load the saved folder unmodified.
"""

# The tokens in here are a tokenizer's, not secrets:
# ruff: noqa: S105, S106

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
import torch
import transformers

IMAGE_SIZE = 64  # pixels, height and width
PATCH_SIZE = 8  # pixels
GRID = IMAGE_SIZE // PATCH_SIZE  # patches per row and per column
WIDTH = 64  # hidden size of the vision tower and of the decoder
HEADS = 4
TOWER_LAYERS = 3
DECODER_LAYERS = 2
CONTEXT = 512  # tokens
IMAGE_MEAN = 0.9  # of each channel, 0 to 1: backgrounds are light, this puts them near zero
IMAGE_STD = 0.3

IMAGE_TOKEN = "<image>"
TURN_TOKENS = ["<|user|>", "<|assistant|>"]

# Accepts content that is a string as well as a list of image and text parts: lmms-eval's simple
# models send the first, its chat models the second.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '</s>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(texts: Iterable[str]) -> transformers.PreTrainedTokenizerFast:
    """Return a lower-case tokenizer with one token for each word or punctuation mark of `texts`."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="<unk>"))
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = ["<pad>", "<s>", "</s>", "<unk>", IMAGE_TOKEN, *TURN_TOKENS]
    words.train_from_iterator(texts, tokenizers.trainers.WordLevelTrainer(special_tokens=special))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[IMAGE_TOKEN, *TURN_TOKENS],
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_processor(tokenizer: transformers.PreTrainedTokenizerFast) -> transformers.LlavaProcessor:
    """Return the processor: RGB images resized to 64 x 64, one token per 8 x 8 patch."""
    images = transformers.CLIPImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_resize=True,
        do_center_crop=False,
        do_convert_rgb=True,
        image_mean=[IMAGE_MEAN] * 3,
        image_std=[IMAGE_STD] * 3,
    )
    return transformers.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(tokenizer: transformers.PreTrainedTokenizerFast) -> transformers.LlavaConfig:
    """Return the architecture: a CLIP tower of 3 layers and a Llama decoder of 2, each 64 wide."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=TOWER_LAYERS,
        num_attention_heads=HEADS,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=DECODER_LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        **_special_ids(tokenizer),
    )
    return transformers.LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=GRID * GRID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )


def build_model(
    tokenizer: transformers.PreTrainedTokenizerFast,
) -> transformers.LlavaForConditionalGeneration:
    """Return the untrained float32 model; torch's global random state decides its weights."""
    model = transformers.LlavaForConditionalGeneration(build_config(tokenizer)).float()
    model.generation_config = transformers.GenerationConfig(**_special_ids(tokenizer))
    # The path to the table differs between transformers versions; its last parts do not.
    table = next(
        parameter
        for name, parameter in model.model.vision_tower.named_parameters()
        if name.endswith("embeddings.position_embedding.weight")
    )
    with torch.no_grad():  # row 0 belongs to the class token and keeps its random start
        table[1:] = 0.5 * grid_waves(GRID, WIDTH)
    return model


def grid_waves(side: int, width: int) -> torch.Tensor:
    """Return 2-D sine-cosine positions of a square patch grid, (side * side, width) float32.

    The first half of a row encodes the patch's row, the second half its column. Starting the
    learned position table here rather than at random lets so small a tower learn shapes early.
    """
    frequency = 100.0 ** (-torch.arange(width // 4) / (width // 4))
    angle = torch.arange(side).float()[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows = wave[:, None].expand(-1, side, -1)
    columns = wave[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _special_ids(tokenizer: transformers.PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
