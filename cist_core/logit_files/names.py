"""What people call the arrays and columns of their files."""

LABEL_NAMES = ("labels", "label", "targets", "target", "y")
CLASS_NAMES = ("classes", "class_names")
LOGIT_NAMES = (
    "logits", "log_probs", "logprobs", "log_probabilities", "probs", "probabilities", "pred_probs",
)  # fmt: skip
MASK_NAMES = ("mask", "attention_mask")
IDENTIFIER_NAMES = (
    "id", "uid", "uuid", "idx", "index", "row", "sample", "sample_id", "image", "image_id", "image_name", "image_path",
    "file", "file_name", "filename", "file_path", "filepath", "path",
)  # fmt: skip
"""What a column that names the samples may be called, if its values do: see `read_logits`."""

TOP_K_IDS = ("ids", "indices", "token_ids", "topk_ids", "top_k_ids", "topk_indices", "top_k_indices")
TOP_K_LOG_PROBS = (
    "log_probs", "logprobs", "log_probabilities", "topk_log_probs", "top_k_log_probs", "topk_logprobs",
    "top_k_logprobs", "values", "topk_values", "top_k_values",
)  # fmt: skip
REMAINING_NAMES = ("remaining", "remaining_mass", "mass", "tail", "tail_mass")
VOCABULARY_NAMES = ("vocabulary", "vocabulary_size", "vocab_size", "num_classes")
