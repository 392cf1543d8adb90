"""Define the keys of a checkpoint's ``config.json`` that no recogniser needs: of training, other heads and
tasks.

A key in neither this set nor ``ModelConfig`` may be misspelled or damaged, or belong to a variant of the
architecture that would be computed wrongly. Loading a checkpoint therefore names it.
"""

from collections.abc import Iterable

UNUSED = frozenset(
    (
        # Keys of the families.
        *("apply_spec_augment", "classifier_proj_size", "max_source_positions"),
        # Checked by ``Family.requires``.
        *("conv_kernel_size", "max_relative_positions", "norm_rel_ebd", "pos_att_type", "relative_attention"),
        *("share_att_key", "feature_projection_input_dim", "use_intermediate_ffn_before_adapter"),
        # Whisper's, of its decoder too.
        *("begin_suppress_tokens", "decoder_attention_heads", "decoder_ffn_dim", "decoder_layerdrop"),
        *("decoder_layers", "encoder_layerdrop", "forced_decoder_ids", "max_length", "max_target_positions"),
        *("median_filter_width", "scale_embedding", "suppress_tokens"),
        # Parakeet's; the subsampling is checked by ``Family.requires``.
        *("dropout_positions", "max_position_embeddings"),
        *("subsampling_conv_kernel_size", "subsampling_conv_stride", "subsampling_factor"),
        *("codevector_dim", "contrastive_logits_temperature", "ctc_loss_reduction"),
        *("ctc_zero_infinity", "diversity_loss_weight", "feat_extract_dropout", "feat_quantizer_dropout"),
        *(
            "layerdrop",
            "mask_channel_length",
            "mask_channel_min_space",
            "mask_channel_other",
            "mask_channel_prob",
        ),
        *("mask_channel_selection", "mask_feature_length", "mask_feature_min_masks", "mask_feature_prob"),
        *(
            "mask_time_length",
            "mask_time_min_masks",
            "mask_time_min_space",
            "mask_time_other",
            "mask_time_prob",
        ),
        *("mask_time_selection", "num_codevector_groups", "num_codevectors_per_group"),
        *(
            "num_clusters",
            "num_ctc_classes",
            "num_feat_extract_layers",
            "num_negatives",
        ),
        *("proj_codevector_dim", "replace_prob", "tdnn_dilation", "tdnn_dim", "tdnn_kernel"),
        *("use_weighted_layer_sum", "xvector_output_dim"),
        # Keys of every configuration of transformers, older versions included.
        *(
            "_attn_implementation_autoset",
            "_commit_hash",
            "_name_or_path",
            "architectures",
            "attn_implementation",
        ),
        *("auto_map", "bos_token_id", "chunk_size_feed_forward", "cross_attention_hidden_size"),
        *("decoder_start_token_id", "dtype", "eos_token_id", "finetuning_task", "gradient_checkpointing"),
        *(
            "id2label",
            "is_decoder",
            "is_encoder_decoder",
            "label2id",
            "output_attentions",
            "output_hidden_states",
        ),
        *("prefix", "problem_type", "pruned_heads", "return_dict", "sep_token_id", "task_specific_params"),
        *("tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "torch_dtype"),
        *("torchscript", "transformers_version", "use_bfloat16", "use_cache"),
    )
)


def unknown(keys: Iterable[str]) -> list[str]:
    """Return the keys that may have an effect, in order. Before a dot stands the section of a key."""
    return sorted(key for key in keys if key.rpartition(".")[2] not in UNUSED)
