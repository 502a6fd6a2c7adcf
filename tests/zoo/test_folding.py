import pytest
import torch
from torch import Tensor, nn

from cist_core.zoo.architectures import ARCHITECTURES, create_model
from cist_core.zoo.folding import fold_batch_norm

# One of every make; the deeper ones repeat its blocks.
MAKES = [
    "resnet8",
    "resnet8x4",
    "resnet20-plain",
    "wrn_16_1",
    "wrn_16_2",
    "vgg8",
    "vgg16",
    "MobileNetV2",
    "ShuffleV1",
    "ShuffleV2",
    "cnn_16_32",
    "mlp_14x14",
]

# Pre-activation networks keep the batch norms that open a block and the last one, which read a sum. Only where the
# first block widens is the stem's convolution read by nothing but a batch norm.
UNFOLDABLE = {"wrn_16_1": 7, "wrn_16_2": 6}


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def _with_statistics(model: nn.Module) -> nn.Module:
    """As after training: no batch norm is the identity."""
    generator = torch.Generator().manual_seed(0)
    for norm in _norms(model):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) * 0.1)
        norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
        norm.weight.data.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
        norm.bias.data.copy_(torch.randn(norm.num_features, generator=generator) * 0.1)
    return model.eval()


@pytest.mark.parametrize("name", MAKES)
def test_folded_network_is_the_same_function(name: str) -> None:
    # In double precision, where nothing but a mistake could make a difference of this size.
    model = _with_statistics(create_model(name, num_classes=10)).double()
    folded = fold_batch_norm(model)
    size = ARCHITECTURES[name].image_size
    images = torch.randn(2, ARCHITECTURES[name].channels, size, size, dtype=torch.float64)
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(folded(images), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert len(_norms(folded)) == UNFOLDABLE.get(name, 0)


def test_the_original_is_not_changed() -> None:
    model = _with_statistics(create_model("resnet8", num_classes=10))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_batch_norm(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class DataDependent(nn.Module):
    """What `torch.fx` cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if float(x.detach().mean()) > 0 else -x


def test_untraceable_network_stays_as_it_is() -> None:
    model = _with_statistics(DataDependent())
    copy = fold_batch_norm(model)
    images = torch.randn(3, 1, 8, 8)
    assert len(_norms(copy)) == 1
    assert not copy.training
    torch.testing.assert_close(copy(images), model(images))


class SharedConvolution(nn.Module):
    """One convolution read once with and once without batch norm, and called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.conv(x.flip(3))


class ReadTwice(SharedConvolution):
    def forward(self, x: Tensor) -> Tensor:
        convolved = self.conv(x)
        return self.bn(convolved) + convolved


@pytest.mark.parametrize("kind", [SharedConvolution, ReadTwice])
def test_convolution_with_another_reader_is_not_folded(kind: type[nn.Module]) -> None:
    model = _with_statistics(kind())
    images = torch.randn(3, 2, 8, 8)
    folded = fold_batch_norm(model)
    assert len(_norms(folded)) == 1
    torch.testing.assert_close(folded(images), model(images))


def test_batch_norm_without_running_statistics_is_not_folded() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(fold_batch_norm(model)(images), model(images))
