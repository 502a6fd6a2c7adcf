"""No objective makes the host wait for the device, so that a training step can be recorded as a CUDA graph.

Where there is no GPU, the objectives run on CUDA tensors without storage: the host can read no value from those, and
what is built on the host and copied is seen.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cist_core.objectives import create_objective, objective_names, objective_specification
from cist_core.objectives.softening import GRADIENTS, WEIGHTINGS

REQUIRED_VALUES = {"rho": 4.0, "H": 0.5}
ROWS, CLASSES = 64, 100


def every_text():
    for name in objective_names():
        required = [parameter.name for parameter in objective_specification(name).parameters if parameter.required]
        yield f"{name}:{','.join(f'{key}={REQUIRED_VALUES[key]}' for key in required)}".removesuffix(":")
    yield from (f"cist:rho=4,weighting={weighting},normalise=yes" for weighting in WEIGHTINGS)
    yield from (f"cist:rho=4,floor=0,gradient={mode}" for mode in GRADIENTS)
    yield from ("kd-entout-ce:sides=both", "kd-entout-ht:sides=both")


TEXTS = list(every_text())


def step(objective, student, teacher, labels, epoch):
    views = {}
    if "strong_student_logits" in objective.specification.inputs:
        views = {"strong_student_logits": student * 0.5, "strong_teacher_logits": teacher * 0.7}
    return objective(student_logits=student, teacher_logits=teacher, labels=labels, epoch=epoch, **views)


class NoCopyFromHost(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        devices = [
            {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}
            for tree in ((args, kwargs), result)
        ]
        assert not ("cpu" in devices[0] and "cuda" in devices[1]), f"{function} copies from the host"
        return result


class NoTensorFromNumbers(TorchFunctionMode):
    """`torch.tensor(1.0, device="cuda")` and the like build on the host and copy, which the dispatcher does not see."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor), f"{function} on the host"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("text", TEXTS)
def test_an_objective_reads_and_copies_nothing_on_the_host(text):
    with FakeTensorMode():
        objective = create_objective(text)
        for name, _ in list(objective.named_parameters()):
            setattr(objective, name, torch.nn.Parameter(torch.empty((), device="cuda")))
        student, teacher = (torch.empty(ROWS, CLASSES, device="cuda") for _ in range(2))
        labels = torch.empty(ROWS, dtype=torch.long, device="cuda")
        epoch = torch.empty((), device="cuda")
        with torch.no_grad(), NoCopyFromHost(), NoTensorFromNumbers():
            terms = step(objective, student, teacher, labels, epoch)
    assert all(value.device.type == "cuda" for value in terms.values())


@pytest.mark.parametrize("name", ["dkd", "dtkd", "ctkd", "cist+dkd", "cist+ctkd"])
@pytest.mark.parametrize("epoch", [0.0, 3.0, 15.0, 40.0])
def test_an_epoch_may_be_a_tensor(name, epoch):
    parameters = {"rho": 4.0} if "cist" in name else {}
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    objective = create_objective(name, **parameters)
    expected = step(objective, student, teacher, torch.arange(6), epoch)
    terms = step(objective, student, teacher, torch.arange(6), torch.tensor(epoch, dtype=torch.float64))
    for key, value in expected.items():
        torch.testing.assert_close(terms[key], value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("text", TEXTS)
def test_a_recorded_step_gives_what_a_plain_one_gives(text):
    objective = create_objective(text).cuda()
    generator = torch.Generator("cuda").manual_seed(0)

    def draw():
        return torch.randn(ROWS, CLASSES, device="cuda", generator=generator)

    student, teacher = draw().requires_grad_(), draw() * 4
    labels = torch.arange(ROWS, device="cuda")
    epoch = torch.tensor(3.0, device="cuda")
    leaves = [student, *objective.parameters()]

    def whole_step():
        terms = step(objective, student, teacher, labels, epoch)
        return terms, torch.autograd.grad(terms["total"], leaves, allow_unused=True)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        whole_step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = whole_step()
    with torch.no_grad():
        student.copy_(draw())
        teacher.copy_(draw() * 4)
        epoch.fill_(7.0)
    graph.replay()
    expected = whole_step()
    for name, value in expected[0].items():
        torch.testing.assert_close(recorded[0][name], value)
    for found, gradient in zip(recorded[1], expected[1], strict=True):
        if gradient is not None:
            torch.testing.assert_close(found, gradient)
