"""The operators of ATen that an exported network may call.

They compute their result from tensors and numbers. What is left out on purpose: those that open files (``from_file``),
return memory that nobody has written (``empty``, ``resize_``, ``set_``, ``as_strided``), draw random numbers, or
differentiate; and those that no image classifier needs.
"""

from __future__ import annotations

_ARITHMETIC = """
abs add addcdiv addcmul addmm all amax amin any argmax argmin baddbmm bmm ceil clamp clamp_max clamp_min clip cos
cumsum div divide einsum erf exp exp2 expm1 floor floor_divide fmod linalg_vector_norm log log10 log1p log2 matmul max
maximum mean min minimum mm mul multiply neg norm pow prod reciprocal remainder round rsqrt rsub sign sin sort sqrt
square std sub subtract sum topk true_divide trunc var var_mean
"""
_COMPARISONS = (
    "bitwise_and bitwise_not bitwise_or eq ge gt isinf isnan le logical_and logical_not logical_or lt ne where"
)
_ACTIVATIONS = """
_log_softmax _safe_softmax _softmax celu elu gelu glu hardsigmoid hardswish hardtanh leaky_relu log_sigmoid
log_softmax mish prelu relu relu6 selu sigmoid silu softmax softplus tanh
"""
_LAYERS = """
_adaptive_avg_pool2d _native_batch_norm_legit_no_training adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d
avg_pool1d avg_pool2d batch_norm bilinear channel_shuffle conv1d conv2d convolution dropout embedding grid_sampler
grid_sampler_2d group_norm im2col instance_norm layer_norm linear max_pool1d max_pool2d max_pool2d_with_indices
native_channel_shuffle native_group_norm native_layer_norm pixel_shuffle pixel_unshuffle rms_norm
scaled_dot_product_attention unfold upsample_bicubic2d upsample_bilinear2d upsample_nearest2d
"""
_SHAPES = """
_to_copy _unsafe_view alias cat chunk clone constant_pad_nd contiguous detach diagonal expand expand_as flatten flip
gather index index_select lift_fresh lift_fresh_copy masked_fill moveaxis movedim narrow pad permute reflection_pad2d
repeat repeat_interleave replication_pad2d reshape roll select slice split split_with_sizes squeeze stack swapaxes
sym_numel sym_size t tensor_split tile to transpose tril triu type_as unbind unflatten unsafe_chunk unsafe_split
unsqueeze view view_as
"""
_CONSTANTS = (
    "arange eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like"
)

OPERATORS: frozenset[str] = frozenset(
    " ".join((_ARITHMETIC, _COMPARISONS, _ACTIVATIONS, _LAYERS, _SHAPES, _CONSTANTS)).split()
)
