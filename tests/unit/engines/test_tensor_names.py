"""The engine's names of tensors. The expected ones are what its own name_conversion.cpp returned."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader

from imagegen.engines import gguf_header
from imagegen.engines.sdcpp.tensor_names import DIFFUSION, Family, engine_name, family_of, lora_name


@pytest.mark.parametrize(
    ("family", "name", "engines"),
    [
        (
            Family.FLUX2,
            "model.diffusion_model.single_blocks.0.linear1.lora_down.weight",
            "model.diffusion_model.single_blocks.0.linear1.weight.lora_down",
        ),
        (
            Family.FLUX,
            "transformer.single_transformer_blocks.37.proj_mlp.lora_B.weight",
            "model.diffusion_model.single_blocks.37.linear1.weight.3.lora_up",
        ),
        (
            Family.FLUX,
            "transformer.single_transformer_blocks.38.attn.to_q.lora_A.weight",
            "model.diffusion_model.single_transformer_blocks.38.attn.to_q.weight.lora_down",
        ),
        (
            Family.FLUX,
            "lora_transformer_single_transformer_blocks_0_attn_to_q.lora_up.weight",
            "transformer_single_transformer_blocks_0_attn_to_q.weight.lora_up",
        ),
        (
            Family.FLUX2,
            "transformer.transformer_blocks.3.attn.add_v_proj.lora_A.default.weight",
            "model.diffusion_model.double_blocks.3.txt_attn.qkv.weight.2.lora_down",
        ),
        (
            Family.FLUX,
            "lora_unet_double_blocks_1_img_attn_qkv.alpha",
            "model.diffusion_model.double_blocks.1.img_attn.qkv.weight.alpha",
        ),
        (
            Family.FLUX,
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
            "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight.lora_up",
        ),
        (
            Family.QWEN_IMAGE,
            "transformer_blocks.0.attn.to_out.0.lora_down.weight",
            "model.diffusion_model.transformer_blocks.0.attn.to_out.0.weight.lora_down",
        ),
        (
            Family.QWEN_IMAGE,
            "lora_unet_transformer_blocks_0_img_mlp_net_0_proj.lora_down.weight",
            "model.diffusion_model.transformer_blocks.0.img_mlp.net.0.proj.weight.lora_down",
        ),
        (
            Family.Z_IMAGE,
            "diffusion_model.layers.4.attention.to_k.lora_B.weight",
            "model.diffusion_model.layers.4.attention.qkv.weight.1.lora_up",
        ),
        (
            Family.Z_IMAGE,
            "diffusion_model.layers.4.attention.to_out.0.alpha",
            "model.diffusion_model.layers.4.attention.out.weight.alpha",
        ),
        (
            Family.ERNIE_IMAGE,
            "transformer.layers.0.self_attention.to_q.lora_A.weight",
            "model.diffusion_model.layers.0.self_attention.to_q.weight.lora_down",
        ),
        (
            Family.SD1,
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q.lora_up.weight",
            "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn1.to_q.weight.lora_up",
        ),
        (
            Family.SD1,
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
            "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight.lora_down",
        ),
        (
            Family.SD2,
            "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight",
            "model.diffusion_model.output_blocks.3.1.transformer_blocks.0.attn1.to_out.weight.lora_down",
        ),
        (
            Family.SD2,
            "lora_unet_mid_block_attentions_0_proj_in.alpha",
            "model.diffusion_model.middle_block.1.proj_in.weight.alpha",
        ),
        (
            Family.SDXL,
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight",
            "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight.lora_down",
        ),
        (
            Family.SDXL,
            "lora_unet_up_blocks_0_resnets_1_time_emb_proj.lora_down.weight",
            "model.diffusion_model.output_blocks.1.0.emb_layers.1.weight.lora_down",
        ),
        (
            Family.SDXL,
            "lora_te2_text_model_encoder_layers_3_mlp_fc2.lora_up.weight",
            "cond_stage_model.1.transformer.text_model.encoder.layers.3.mlp.fc2.weight.lora_up",
        ),
        (
            Family.SDXL,
            "lycoris_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lokr_w1",
            "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight.lokr_w1",
        ),
        (Family.SD1, "lora_unet_conv_in.diff_b", "model.diffusion_model.conv_in.bias.diff"),
        (Family.QWEN_IMAGE, "vae.decoder.conv_in.lora_up.weight", "first_stage_model.decoder.conv_in.weight.lora_up"),
    ],
)
def test_a_tensor_of_a_lora_gets_the_engines_name(family: Family, name: str, engines: str) -> None:
    assert lora_name(name, family) == engines


@pytest.mark.parametrize(
    ("family", "name", "engines"),
    [
        (
            Family.FLUX,
            "model.diffusion_model.single_transformer_blocks.0.attn.norm_q.weight",
            "model.diffusion_model.single_blocks.0.norm.query_norm.scale",
        ),
        (
            Family.Z_IMAGE,
            "model.diffusion_model.all_final_layer.2-1.linear.weight",
            "model.diffusion_model.final_layer.linear.weight",
        ),
        (
            Family.SD1,
            "unet.down_blocks.0.downsamplers.0.conv.weight",
            "model.diffusion_model.input_blocks.3.0.op.weight",
        ),
        (
            Family.SDXL,
            "unet.up_blocks.0.upsamplers.0.conv.weight",
            "model.diffusion_model.output_blocks.2.2.conv.weight",
        ),
        (Family.SDXL, "model.diffusion_model.add_embedding.linear_2.bias", "model.diffusion_model.label_emb.0.2.bias"),
        (
            Family.SDXL,
            "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
            "cond_stage_model.1.transformer.text_model.encoder.layers.0.self_attn.in_proj.weight",
        ),
        (
            Family.SD2,
            "cond_stage_model.model.token_embedding.weight",
            "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        ),
        (
            Family.QWEN_IMAGE,
            "text_encoders.llm.blk.0.attn_q.weight",
            "text_encoders.llm.model.layers.0.self_attn.q_proj.weight",
        ),
        (
            Family.QWEN_IMAGE,
            "text_encoders.llm.visual.v.blk.0.attn_out.weight",
            "text_encoders.llm.visual.blocks.0.attn.proj.weight",
        ),
        (
            Family.FLUX,
            "text_encoders.t5xxl.transformer.enc.blk.0.ffn_gate.weight",
            "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wi_0.weight",
        ),
        (Family.FLUX2, "model.diffusion_model.img_in.weight", "model.diffusion_model.img_in.weight"),
    ],
)
def test_a_tensor_of_a_model_gets_the_engines_name(family: Family, name: str, engines: str) -> None:
    assert engine_name(name, family) == engines


TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({f"{DIFFUSION}transformer_blocks.0.img_mod.1.weight": (9, 3)}, Family.QWEN_IMAGE),
        ({f"{DIFFUSION}cap_embedder.0.weight": (9,)}, Family.Z_IMAGE),
        ({f"{DIFFUSION}layers.0.adaLN_sa_ln.weight": (9,)}, Family.ERNIE_IMAGE),
        ({f"{DIFFUSION}double_blocks.0.img_attn.qkv.weight": (9, 3)}, Family.FLUX),
        (
            {f"{DIFFUSION}double_blocks.0.img_attn.qkv.weight": (9, 3)}
            | {f"{DIFFUSION}double_stream_modulation_img.lin.weight": (9, 3)},
            Family.FLUX2,
        ),
        ({f"{DIFFUSION}input_blocks.0.0.weight": (9, 4, 3, 3), TOKENS: (9, 768)}, Family.SD1),
        ({f"{DIFFUSION}input_blocks.0.0.weight": (9, 4, 3, 3), TOKENS: (9, 1024)}, Family.SD2),
        (
            {f"{DIFFUSION}input_blocks.0.0.weight": (9, 4, 3, 3), "conditioner.embedders.1.model.logit": ()},
            Family.SDXL,
        ),
        ({f"{DIFFUSION}joint_blocks.0.x_block.attn.qkv.weight": (9, 3)}, None),
        ({f"{DIFFUSION}something.else.weight": (9, 3)}, None),
        ({}, None),
    ],
    ids=lambda value: str(value) if isinstance(value, Family) else "",
)
def test_a_family_is_known_by_its_tensors(shapes: dict[str, tuple[int, ...]], family: Family | None) -> None:
    assert family_of(shapes) is family


@pytest.mark.parametrize("file", ["dit.gguf", "llm.gguf", "tae.gguf"])
def test_the_header_of_a_gguf_file_is_read_as_its_own_library_does(models_dir: Path, file: str) -> None:
    theirs = GGUFReader(models_dir / "tiny" / file)
    expected = {one.name: tuple(int(side) for side in reversed(one.shape)) for one in theirs.tensors}
    assert gguf_header.read(models_dir / "tiny" / file).shapes == expected


@pytest.mark.parametrize("cut", [0, 3, 23, 40, 200, 600])
def test_a_gguf_file_that_is_cut_off_is_none(models_dir: Path, tmp_path: Path, cut: int) -> None:
    (tmp_path / "cut").write_bytes((models_dir / "tiny" / "dit.gguf").read_bytes()[:cut])
    with pytest.raises(gguf_header.NotGGUF):
        gguf_header.read(tmp_path / "cut")
