"""The fused output layer: values and gradients of the plain formula, and memory that does not grow with the logits."""

import pytest
import torch

from trainers.token_logprobs import VOCABULARY_BLOCK, TokenLogprobs, token_logprobs


def plain(hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return torch.log_softmax((hidden @ weight.t()).float() / temperature, -1)[torch.arange(len(targets)), targets]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 11 * 7, 1 << 20])
def test_float32_values_and_gradients(chunk: int, temperature: float) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets, direction = torch.randint(0, 11, (50,)), torch.randn(50)
    expected = plain(hidden, targets, weight, temperature)
    found = token_logprobs(hidden, targets, weight, chunk, temperature)
    assert torch.allclose(found, expected, atol=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(found, (hidden, weight), direction),
        torch.autograd.grad(expected, (hidden, weight), direction),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_bfloat16_gradients_are_summed_in_float32(temperature: float) -> None:
    """Over two vocabulary blocks and many chunks, as close to the float32 gradient as the plain bfloat16 graph."""
    torch.manual_seed(0)
    vocabulary = VOCABULARY_BLOCK + 5
    hidden = torch.randn(64, 4).bfloat16().requires_grad_()
    weight = torch.randn(vocabulary, 4).bfloat16().requires_grad_()
    targets, direction = torch.randint(0, vocabulary, (64,)), torch.ones(64)
    targets[:2] = torch.tensor([VOCABULARY_BLOCK - 1, VOCABULARY_BLOCK])
    exact = torch.autograd.grad(plain(hidden.float(), targets, weight.float(), temperature), (hidden, weight), direction)
    usual = torch.autograd.grad(plain(hidden, targets, weight, temperature), (hidden, weight), direction)
    ours = token_logprobs(hidden, targets, weight, vocabulary * 2, temperature)
    found = torch.autograd.grad(ours, (hidden, weight), direction)
    for ours, theirs, true in zip(found, usual, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        error, usual_error = (float((value.float() - true.float()).abs().max()) for value in (ours, theirs))
        assert error <= 1.5 * usual_error + 1e-6


def test_a_frozen_weight_gets_no_gradient() -> None:
    hidden, weight = torch.randn(6, 4, requires_grad=True), torch.randn(5, 4)
    token_logprobs(hidden, torch.zeros(6, dtype=torch.int64), weight, 5).sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_no_predictions() -> None:
    assert token_logprobs(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.ones(5, 4)).shape == (0,)


def test_an_output_layer_with_a_bias_is_refused() -> None:
    with pytest.raises(ValueError, match="with a bias is not supported"):
        TokenLogprobs(torch.nn.Linear(4, 5), 5)
