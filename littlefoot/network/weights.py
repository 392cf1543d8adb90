"""Names and shapes of a model's weights, derived from its configuration."""

from __future__ import annotations

from littlefoot.network.config import ModelConfig

Shape = tuple[int, ...]


def expected_weights(config: ModelConfig) -> dict[str, Shape]:
    """Every weight that ``littlefoot.network.encoder`` reads: name without the model's prefix -> shape.

    Weight norm is folded: the positional convolution has one ``weight``.
    """
    shapes: dict[str, Shape] = {}
    width = config.hidden_size

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str, channels: int) -> None:
        shapes[f"{name}.weight"] = (channels,)
        shapes[f"{name}.bias"] = (channels,)

    channels = 1
    for layer, (outputs, kernel) in enumerate(zip(config.conv_dim, config.conv_kernel, strict=True)):
        name = f"feature_extractor.conv_layers.{layer}"
        if layer > 0 or config.feat_extract_first == "conv":
            shapes[f"{name}.conv.weight"] = (outputs, channels, kernel)
            if config.conv_bias:
                shapes[f"{name}.conv.bias"] = (outputs,)
            if config.feat_extract_norm == "layer" or layer == 0:
                norm(f"{name}.layer_norm", outputs)
        channels = outputs
    if config.feat_proj_layer_norm:
        norm("feature_projection.layer_norm", channels)
    linear("feature_projection.projection", channels, width)

    grouped = width // config.num_conv_pos_embedding_groups
    if config.model_type == "data2vec-audio":
        for layer in range(config.num_conv_pos_embeddings):
            name = f"encoder.pos_conv_embed.layers.{layer}.conv"
            shapes[f"{name}.weight"] = (width, grouped, config.conv_pos_kernel_size)
            shapes[f"{name}.bias"] = (width,)
    else:
        shapes["encoder.pos_conv_embed.conv.weight"] = (width, grouped, config.num_conv_pos_embeddings)
        shapes["encoder.pos_conv_embed.conv.bias"] = (width,)
    norm("encoder.layer_norm", width)

    layers = range(config.num_hidden_layers)
    attending = {config.block(layer) for layer in layers if config.map(layer) == layer}
    for layer in layers:
        name = f"encoder.layers.{layer}"
        heads = config.attention_heads(layer) * config.head_dim
        units = config.feed_forward_units(layer)
        if config.layer_norms:
            norm(f"{name}.layer_norm", width)
            norm(f"{name}.final_layer_norm", width)
        if config.layer_depth_embedding:
            shapes[f"{name}.depth_embedding"] = (width,)
        if rank := config.layer_delta_rank:
            maps = ("attention.q_proj", "attention.k_proj") if config.map(layer) == layer else ()
            sizes = {
                **dict.fromkeys((*maps, "attention.v_proj"), (width, heads)),
                "attention.out_proj": (heads, width),
                "feed_forward.intermediate_dense": (width, units),
                "feed_forward.output_dense": (units, width),
            }
            for part, (inputs, outputs) in sizes.items():
                shapes[f"{name}.delta.{part}.down.weight"] = (rank, inputs)
                shapes[f"{name}.delta.{part}.up.weight"] = (outputs, rank)
        if config.block(layer) != layer:
            continue
        for projection in ("q_proj", "k_proj", "v_proj") if layer in attending else ("v_proj",):
            linear(f"{name}.attention.{projection}", width, heads)
        linear(f"{name}.attention.out_proj", heads, width)
        if config.model_type == "wavlm":
            shapes[f"{name}.attention.gru_rel_pos_const"] = (1, config.num_attention_heads, 1, 1)
            linear(f"{name}.attention.gru_rel_pos_linear", config.head_dim, 8)
            if layer == 0:
                table = (config.num_buckets, config.num_attention_heads)
                shapes[f"{name}.attention.rel_attn_embed.weight"] = table
        if not config.layer_norms:
            norm(f"{name}.layer_norm", width)
            norm(f"{name}.final_layer_norm", width)
        linear(f"{name}.feed_forward.intermediate_dense", width, units)
        linear(f"{name}.feed_forward.output_dense", units, width)
        if config.adapter_attn_dim is not None:
            norm(f"{name}.adapter_layer.norm", width)
            linear(f"{name}.adapter_layer.linear_1", width, config.adapter_attn_dim)
            linear(f"{name}.adapter_layer.linear_2", config.adapter_attn_dim, width)
    linear("lm_head", width, config.vocab_size)
    return shapes
