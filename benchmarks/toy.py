"""The small architecture that benchmarks run on the CPU: the published one's layers, narrow."""

from __future__ import annotations

from animator_core.checkpoints.build import PUBLISHED, ModelConfigs

TOY = ModelConfigs(
    unet={
        **PUBLISHED.unet,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "block_out_channels": (32, 64),
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 96,
        "layers_per_block": 1,
        "cross_attention_dim": 64,
        "num_attention_heads": (2, 4),
    },
    vae={**PUBLISHED.vae, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1},
    image_encoder={
        **PUBLISHED.image_encoder,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 64,
    },
)
