"""A minimal GLM-Image pipeline with random weights: `glm-tiny`.

Its shapes are those of diffusers' own test of the pipeline. That test gets the tokenizer and the processor from the
hub; they are made here. The same version of torch writes the same weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, GlmImagePipeline, GlmImageTransformer2DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    ByT5Tokenizer,
    GlmImageConfig,
    GlmImageForConditionalGeneration,
    GlmImageProcessor,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil

SEED = 1234
CODES = 128  # image tokens
START, END = CODES, CODES + 1  # the tokens before and after a picture's tokens
VOCABULARY = 512
WIDTH = 32  # of every hidden state
LEAST_PX = 64  # least side of a reference

CHAT = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}"
    f"<|dit_token_{START}|><|image|><|dit_token_{END}|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)


def make(folder: Path) -> None:
    """Write the pipeline into `folder`, a diffusers repository. Raises OSError."""
    torch.manual_seed(SEED)
    tokenizer = _tokenizer()
    pictures = GlmImageImageProcessorPil(
        patch_size=16,
        merge_size=1,
        temporal_patch_size=1,
        size={"shortest_edge": LEAST_PX**2, "longest_edge": 2048**2},
    )
    GlmImagePipeline(
        tokenizer=ByT5Tokenizer(),
        processor=GlmImageProcessor(image_processor=pictures, tokenizer=tokenizer, chat_template=CHAT),
        text_encoder=T5EncoderModel(
            T5Config(vocab_size=384, d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=4)
        ),
        vision_language_encoder=GlmImageForConditionalGeneration(_encoder(tokenizer)),
        vae=_vae(),
        transformer=GlmImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            text_embed_dim=WIDTH,
            time_embed_dim=16,
            condition_dim=8,
            prior_vq_quantizer_codebook_size=CODES,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, base_image_seq_len=256, time_shift_type="linear"
        ),
    ).save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and the model's control tokens under their real names."""
    words = [f"<|dit_token_{code}|>" for code in range(CODES + 2)] + sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        bos_token=f"<|dit_token_{START}|>",
        eos_token=f"<|dit_token_{END}|>",
        pad_token="<|endoftext|>",  # noqa: S106 - a token of words
        extra_special_tokens={"image_token": "<|image|>", "grid_bos_token": "<sop>", "grid_eos_token": "<eop>"},
    )
    tokenizer.add_tokens(["<|endoftext|>", "<|user|>", "<|assistant|>"], special_tokens=True)
    return tokenizer


def _encoder(tokenizer: PreTrainedTokenizerFast) -> GlmImageConfig:
    return GlmImageConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 65_536,
            "vision_vocab_size": CODES,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": END,  # beyond CODES: never generated, because a picture needs all its tokens
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": (4, 2, 2)},
        },
        vision_config={
            "depth": 1,
            "hidden_size": WIDTH,
            "num_heads": 2,
            "image_size": 2048,
            "patch_size": 16,
            "intermediate_size": WIDTH,
        },
        vq_config={"embed_dim": WIDTH, "num_embeddings": CODES, "latent_channels": WIDTH},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        image_start_token_id=START,
        image_end_token_id=END,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 8, 16, 16),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=128,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
