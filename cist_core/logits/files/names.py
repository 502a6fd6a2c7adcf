"""What people call the arrays and columns of their files, as `plain` writes it; earlier names are preferred."""

import re

LOG_PROBABILITY_NAMES = (
    "log_probs", "logprobs", "log_prob", "log_probabilities", "log_softmax", "teacher_log_probs", "teacher_logprobs",
)  # fmt: skip
PROBABILITY_NAMES = (
    "probs", "prob", "probabilities", "probability", "pred_probs", "pred_prob", "predicted_probabilities", "proba",
    "predict_proba", "y_prob", "y_proba", "y_probs", "softmax", "softmaxes", "teacher_probs", "soft_labels",
)  # fmt: skip
LOGIT_NAMES = (
    "logits", "logit", "teacher_logits", "pred_logits", "cls_logits", *LOG_PROBABILITY_NAMES, *PROBABILITY_NAMES,
    "predictions", "preds", "outputs", "output", "scores", "score", "teacher_outputs", "teacher",
)  # fmt: skip
LABEL_NAMES = (
    "labels", "label", "targets", "target", "y", "y_true", "true_labels", "true_label", "ground_truth", "groundtruth",
    "gt", "label_ids", "label_id", "gt_labels", "gt_label", "true_class", "fine_labels", "fine_label", "class",
    "class_name", "class_id", "class_idx", "class_index", "category", "actual", "truth", "y_test", "test_labels",
    "y_val", "val_labels", "class_labels", "class_label", "target_labels", "target_label", "target_class",
    "actual_labels", "actual_label", "correct_label", "gold", "gold_labels", "gold_label", "labels_true", "label_true",
    "label_idx", "label_index", "y_label",
)  # fmt: skip
CLASS_NAMES = ("classes", "class_names", "label_names", "categories", "names")
MASK_NAMES = ("mask", "attention_mask", "loss_mask")
IDENTIFIER_NAMES = (
    "id", "uid", "uuid", "idx", "index", "row", "sample", "sample_id", "image", "image_id", "image_name", "image_path",
    "file", "file_name", "filename", "file_path", "filepath", "path",
)  # fmt: skip
"""What a column that names the samples may be called, if its values do: see `read_logits`."""
SAMPLE_LISTS = (
    "sample_names", "sample_ids", "ids", "uids", "uuids", "keys", "indices", "indexes", "image_ids", "image_names",
    "image_paths", "image_files", "files", "filenames", "file_names", "file_paths", "filepaths", "paths",
)  # fmt: skip
"""What a list of the names of the samples may be called beside `IDENTIFIER_NAMES`, in a file of arrays."""

FEATURE_NAMES = (
    "features", "feature", "feats", "feat", "embeddings", "embedding", "embeds", "embed", "emb", "image_embeds",
    "text_embeds", "hidden", "hidden_state", "hidden_states", "last_hidden_state", "penultimate", "representations",
    "representation", "activations", "activation", "latents", "latent", "pooled", "pooled_output", "pooler_output",
    "attentions", "gradients", "grads", "pixel", "pixels", "pixel_values", "images", "inputs", "x", "x_test", "x_train",
)  # fmt: skip
"""Inner values of a network, or what goes into it: many numbers a sample that are no logits."""

# Words that are classes of known data sets ("time", "right", "hat", "true") are not among them.
_ABOUT_SAMPLES = re.compile(
    r"""
    y_hat | argmax
    | (y_)?(pred|preds|prediction|predictions|predicted)(_?(label|labels|class|class_id|class_name|idx|index|id|name|
        score|scores|conf|confidence|prob|probability|entropy|correct))?
    | (label|class)_(pred|prediction|predicted|conf|confidence|true)
    | (true|gt|ground_?truth|target|coarse|noisy|clean|given|original|given_original|fine|actual)_(label|labels|class|
        class_id|class_name|prob|probability|conf|logit)(_(prob|probability|conf|confidence|logit|score|rank))?
    | (max|min|mean|sum|std|top|avg)_(prob|probs|probability|logit|logits|score|conf|confidence|softmax|entropy)
    | (prob|probability|logit|score)_(max|min|mean|top|top_?\d|pred|gt|label|target|gap|margin|entropy)
    | top_?\d+(_(acc|accuracy|correct|pred|prediction|class|label|prob|conf|error))?
    | (is_?)?correct | acc(uracy)?(_?(top|at|@)?_?\d+)?
    | conf | confidence | certainty | uncertainty | entropy | margin | energy | difficulty | temperature | tau
    | scores? | ranks? | weights? | prob | probability | logit | max | min | mean | std | variance
    | (inference|prediction|elapsed|eval)_(time|ms|seconds) | latency | runtime
    | (train_|val_|valid_|test_|sample_)?(ce_|xent_|cross_entropy_|kl_|kd_|nll_|bce_)?loss(es)? | nll | cross_entropy
    | ((cv|k)_?)?folds? | epochs? | iteration | (batch|run|split|cluster)_?(id|idx|no|index) | seed | timestamp
    | (sample|instance|class|loss)_?weights?
    | (label|class)_(ids?|idx|index) | labels? | targets? | ground_?truth | gt | actual | truth | y | y_(true|test|val)
    """,
    re.VERBOSE,
)

TOP_K_IDS = (
    "ids", "indices", "token_ids", "topk_ids", "top_k_ids", "topk_indices", "top_k_indices", "top_indices",
    "target_token_ids",
)  # fmt: skip
"""``top_indices`` is DistillKit's, ``target_token_ids`` axolotl's."""
TOP_K_LOG_PROBS = (
    "log_probs", "logprobs", "log_probabilities", "topk_log_probs", "top_k_log_probs", "topk_logprobs",
    "top_k_logprobs", "values", "topk_values", "top_k_values", "top_values", "target_logprobs",
)  # fmt: skip
REMAINING_NAMES = ("remaining", "remaining_mass", "mass", "tail", "tail_mass")
VOCABULARY_NAMES = ("vocabulary", "vocabulary_size", "vocab_size", "num_classes")


def plain(name: str) -> str:
    """A name in small letters, with an underscore wherever words are joined.

    Example:
        >>> plain(" Ground-Truth "), plain("y true"), plain("trueLabel")
        ('ground_truth', 'y_true', 'true_label')
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name.strip())
    return re.sub(r"[\s.\-/]+", "_", words).lower()


def is_about_samples(name: str) -> bool:
    """Whether a column of numbers of this name is no class: a label, a prediction, a loss, a fold, ...

    Example:
        >>> [is_about_samples(name) for name in ("y_true", "Pred", "max_prob", "fold", "golden retriever", "cat")]
        [True, True, True, True, False, False]
    """
    return _ABOUT_SAMPLES.fullmatch(plain(name)) is not None
