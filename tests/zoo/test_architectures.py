import pytest
import torch

from cist_core.errors import CistError
from cist_core.zoo.architectures import ARCHITECTURES, create_model
from cist_core.zoo.layers import ChannelShuffle
from cist_core.zoo.resnet import PaddingShortcut

# Millions of parameters at 100 classes, as published with RepDistiller, mdistiller and the papers that build on them.
PUBLISHED_MILLIONS = {
    "resnet8": 0.08,
    "resnet14": 0.18,
    "resnet20": 0.28,
    "resnet32": 0.47,
    "resnet44": 0.67,
    "resnet56": 0.86,
    "resnet110": 1.74,
    "resnet8x4": 1.23,
    "resnet32x4": 7.43,
    "wrn_16_1": 0.18,
    "wrn_16_2": 0.70,
    "wrn_40_1": 0.57,
    "wrn_40_2": 2.26,
    "vgg8": 3.97,
    "vgg11": 9.28,
    "vgg13": 9.46,
    "vgg16": 14.77,
    "vgg19": 20.09,
    "MobileNetV2": 0.81,
    "ShuffleV1": 0.95,
    "ShuffleV2": 1.36,
}
# Exact counts of the public CIFAR-10 family, of the networks for digits and of torchvision's, at 10 classes.
EXACT = {
    "resnet20-plain": 269_722,
    "resnet32-plain": 464_154,
    "resnet44-plain": 658_586,
    "resnet56-plain": 853_018,
    "resnet110-plain": 1_727_962,
    "cnn_32_64": 458_890,
    "cnn_16_32": 115_274,
    "mlp_14x14": 2_494,
    "resnet18": 11_181_642,
    "resnet34": 21_289_802,
}
# A few names and shapes of each family's public checkpoints, at 100 classes.
CHECKPOINT_SHAPES = {
    "resnet8x4": {
        "conv1.weight": (32, 3, 3, 3),
        "layer1.0.downsample.0.weight": (64, 32, 1, 1),
        "layer1.0.downsample.1.running_var": (64,),
        "layer3.0.conv2.weight": (256, 256, 3, 3),
        "fc.weight": (100, 256),
    },
    "wrn_40_2": {
        "block1.layer.0.bn1.weight": (16,),
        "block1.layer.0.convShortcut.weight": (32, 16, 1, 1),
        "block3.layer.5.conv2.weight": (128, 128, 3, 3),
        "bn1.running_mean": (128,),
        "fc.bias": (100,),
    },
    "vgg13": {
        "block0.0.weight": (64, 3, 3, 3),
        "block0.0.bias": (64,),
        "block0.4.weight": (64,),
        "block4.3.weight": (512, 512, 3, 3),
        "classifier.weight": (100, 512),
    },
    "MobileNetV2": {
        "conv1.0.weight": (16, 3, 3, 3),
        "blocks.0.0.conv.0.weight": (16, 16, 1, 1),
        "blocks.1.0.conv.3.weight": (48, 1, 3, 3),
        "blocks.6.0.conv.7.running_mean": (160,),
        "conv2.0.weight": (1280, 160, 1, 1),
        "classifier.0.weight": (100, 1280),
    },
    "ShuffleV1": {
        "conv1.weight": (24, 3, 1, 1),
        "layer1.0.conv1.weight": (54, 24, 1, 1),
        "layer1.0.conv3.weight": (216, 18, 1, 1),
        "layer2.7.conv2.weight": (120, 1, 3, 3),
        "linear.weight": (100, 960),
    },
    "ShuffleV2": {
        "layer1.0.conv1.weight": (24, 1, 3, 3),
        "layer1.0.conv5.weight": (58, 58, 1, 1),
        "layer2.7.bn3.weight": (116,),
        "conv2.weight": (1024, 464, 1, 1),
        "linear.bias": (100,),
    },
}


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_maps_images_to_logits(name: str, num_classes: int) -> None:
    architecture = ARCHITECTURES[name]
    model = create_model(name, num_classes=num_classes).eval()
    images = torch.randn(2, architecture.channels, architecture.image_size, architecture.image_size)
    with torch.inference_mode():
        logits = model(images)
    assert logits.shape == (2, num_classes)
    assert torch.isfinite(logits).all()
    assert not torch.equal(logits[0], logits[1])


def _parameters(name: str, num_classes: int) -> int:
    return sum(parameter.numel() for parameter in create_model(name, num_classes=num_classes).parameters())


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    assert round(_parameters(name, 100) / 1e6, 2) == PUBLISHED_MILLIONS[name]


@pytest.mark.parametrize("name", EXACT)
def test_exact_parameter_counts(name: str) -> None:
    assert _parameters(name, 10) == EXACT[name]


def test_every_architecture_has_a_known_count() -> None:
    assert PUBLISHED_MILLIONS.keys() | EXACT.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", CHECKPOINT_SHAPES)
def test_weights_have_the_names_of_public_checkpoints(name: str) -> None:
    state = create_model(name, num_classes=100).state_dict()
    assert {key: tuple(state[key].shape) for key in CHECKPOINT_SHAPES[name]} == CHECKPOINT_SHAPES[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_head_is_the_last_linear_layer(name: str) -> None:
    assert create_model(name, num_classes=7).state_dict()[ARCHITECTURES[name].head].shape[0] == 7


def test_channel_shuffle_deals_groups_out_in_turn() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert ChannelShuffle(3)(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert ChannelShuffle(1)(x) is x


def test_padding_shortcut_takes_every_second_pixel_and_pads_both_sides() -> None:
    x = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    out = PaddingShortcut(1, 3)(x)
    assert out[0, 1].tolist() == [[1, 3], [9, 11]]
    assert out[0, 0].abs().sum() == out[0, 2].abs().sum() == 0


def test_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(CistError, match=r"no architecture 'resnet_20'; did you mean .*resnet20"):
        create_model("resnet_20", num_classes=10)


def test_one_class_is_refused() -> None:
    with pytest.raises(CistError, match="at least 2, but got 1"):
        create_model("vgg8", num_classes=1)
