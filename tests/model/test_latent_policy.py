"""Stage 2: the flow and behaviour cloning behind one interface, and the average of the weights."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lerobot_lafp.model.latent_policy import BehaviorCloningPolicy, FlowPolicy, LatentPolicy, update_average
from lerobot_lafp.observation.encoders import ObservationEncoder

STATE = "observation.state"
NUM_LATENTS, LATENT_DIM, NUM_OBS_STEPS = 3, 2, 2
NETWORKS = ("mlp", "transformer")


def build(head: str = "flow", network: str = "mlp", **options: Any) -> LatentPolicy:
    shape = {"num_obs_steps": NUM_OBS_STEPS, "num_latents": NUM_LATENTS, "latent_dim": LATENT_DIM}
    encoder = ObservationEncoder({}, {STATE: 2, "observation.environment_state": 3}, token_dim=8)
    common = {"encoder": encoder, **shape, "network": network, "dim": 16, "layers": 1}
    if head == "bc":
        return BehaviorCloningPolicy(**{**common, **options})
    return FlowPolicy(**{**common, "prediction": "sample", "num_steps": 3, "draws": 2, **options})


def history(size: int = 4) -> dict[str, Tensor]:
    return {STATE: torch.randn(size, 2, 2), "observation.environment_state": torch.randn(size, 2, 3)}


def silence(policy: LatentPolicy) -> None:
    """Make the network answer zero."""
    last = policy.network.leave
    last = last[-1] if isinstance(last, nn.Sequential) else last
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("head", ["flow", "bc"])
def test_shapes(head: str, network: str) -> None:
    policy = build(head, network)
    tokens = policy.observe(history())
    assert tokens.shape == (4, NUM_OBS_STEPS, 2, 8)
    noise, z = policy.noise(4, tokens), torch.randn(4, NUM_LATENTS, LATENT_DIM)
    assert noise.shape == z.shape
    assert policy.loss(z, tokens).shape == z.shape
    assert policy.sample(tokens, noise).shape == z.shape
    assert policy.align(tokens, noise, z, torch.rand(4)).shape == z.shape


def test_in_training_something_of_what_images_tell_is_left_out_and_nothing_of_states() -> None:
    front = "observation.images.front"
    encoder = ObservationEncoder({front: (3, 16, 16)}, {STATE: 2}, token_dim=64)
    policy = build(encoder=encoder, num_obs_steps=1)
    seen = {front: torch.rand(5, 1, 3, 16, 16), STATE: torch.randn(5, 1, 2)}
    whole = policy.eval().observe(seen)
    assert torch.equal(whole, encoder(seen)), "what acts sees everything"
    parts = [policy.train().observe(seen) for _ in range(20)]
    left_out = torch.stack([part == 0 for part in parts]).float().mean(dim=(0, 1, 2))
    assert left_out[0].mean().item() == pytest.approx(0.3, abs=0.05)
    assert all(torch.equal(part[:, :, 1], whole[:, :, 1]) for part in parts)
    torch.testing.assert_close(
        torch.stack([p[:, :, 0].mean() for p in parts]).mean(), whole[:, :, 0].mean(), atol=0.05, rtol=0
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_the_network_reads_the_latents_flow_time_and_every_token(network: str) -> None:
    net = build(network=network).network
    z, tau, tokens = torch.randn(2, NUM_LATENTS, LATENT_DIM), torch.full((2,), 0.3), torch.randn(2, 2, 2, 8)
    out = net(z, tau, tokens)
    assert not torch.allclose(out, net(z, tau + 0.4, tokens))
    for latent in range(NUM_LATENTS):
        moved = z.clone()
        moved[:, latent] += 1
        changed = (net(moved, tau, tokens) - out).abs().amax(dim=-1) > 1e-6
        assert changed.all(), "every latent of the chunk depends on every other"
    for frame in range(2):
        for n in range(2):
            other = tokens.clone()
            other[:, frame, n] += torch.randn(8)
            assert not torch.allclose(out, net(z, tau, other))
    swapped = net(z, tau, tokens.flip(1))
    assert not torch.allclose(out, swapped), "the order of the frames matters"


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("head", ["flow", "bc"])
def test_a_row_depends_on_its_own_observation_alone(head: str, network: str) -> None:
    policy = build(head, network)
    tokens, noise = policy.observe(history()), torch.randn(4, NUM_LATENTS, LATENT_DIM)
    rows = torch.cat([policy.sample(tokens[i : i + 1], noise[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(policy.sample(tokens, noise), rows)


def test_behaviour_cloning_ignores_noise_and_the_idm() -> None:
    policy = build("bc")
    tokens = policy.observe(history())
    sample = policy.sample(tokens, policy.noise(4, tokens))
    assert torch.equal(sample, policy.sample(tokens, policy.noise(4, tokens)))
    z_idm = torch.randn(4, NUM_LATENTS, LATENT_DIM)
    assert torch.equal(sample, policy.align(tokens, policy.noise(4, tokens), z_idm, torch.rand(4)))
    policy = build("flow")
    tokens = policy.observe(history())
    samples = [policy.sample(tokens, policy.noise(4, tokens)) for _ in range(2)]
    assert not torch.allclose(*samples)


def test_losses_of_a_silent_network() -> None:
    """The target is what is left of the error: z itself, or z minus noise, whose mean square is ``z^2 + 1``."""
    z = torch.randn(4, NUM_LATENTS, LATENT_DIM)
    for head, options in (("bc", {}), ("flow", {"prediction": "sample"})):
        policy = build(head, **options)
        silence(policy)
        torch.testing.assert_close(policy.loss(z, policy.observe(history())), z**2)
    policy = build(prediction="velocity", draws=4000)
    silence(policy)
    torch.testing.assert_close(policy.loss(z, policy.observe(history())), z**2 + 1, atol=0.2, rtol=0.1)


def test_flow_draws_share_one_encoding_and_keep_the_rows_apart() -> None:
    policy, seen = build(draws=3), []
    policy.network.register_forward_pre_hook(lambda _, args: seen.append(args))
    tokens = policy.observe(history(2))
    z = torch.zeros(2, NUM_LATENTS, LATENT_DIM)
    z[1] = float("nan")
    loss = policy.loss(z, tokens)
    (noisy, tau, repeated), *more = seen
    assert not more
    assert noisy.shape[0] == tau.shape[0] == 6
    assert len(tau.unique()) == 6
    assert torch.equal(repeated, torch.cat([tokens] * 3))
    assert torch.isfinite(loss[0]).all()
    assert torch.isnan(loss[1]).all()


def test_alignment_is_one_call_between_noise_and_the_idm_latent() -> None:
    policy = build()
    tokens, z_idm = policy.observe(history()), torch.randn(4, NUM_LATENTS, LATENT_DIM)
    noise = policy.noise(4, tokens)
    for z, tau in ((noise, torch.zeros(4)), (z_idm, torch.ones(4))):
        torch.testing.assert_close(policy.align(tokens, noise, z_idm, tau), policy.network(z, tau, tokens))
    policy = build(prediction="velocity", num_steps=1)
    tokens = policy.observe(history())
    assert torch.equal(policy.align(tokens, noise, z_idm, torch.ones(4)), z_idm)
    torch.testing.assert_close(policy.align(tokens, noise, z_idm, torch.zeros(4)), policy.sample(tokens, noise))


def test_the_average_follows_the_warm_up_of_diffusers() -> None:
    """Decays 0, 2/11, 3/12 for the first three updates, then no more than ``decay``."""
    trained = nn.Linear(1, 1, bias=False)
    average = copy.deepcopy(trained).requires_grad_(False)
    values, decays = [3.0, -1.0, 7.0], [0.0, 2 / 11, 3 / 12]
    expected = average.weight.item()
    for step, (value, decay) in enumerate(zip(values, decays, strict=True)):
        nn.init.constant_(trained.weight, value)
        update_average(average, trained, decay=0.999, step=step)
        expected = decay * expected + (1 - decay) * value
        assert average.weight.item() == pytest.approx(expected)
    assert trained.weight.item() == 7
    nn.init.constant_(trained.weight, 0.0)
    update_average(average, trained, decay=0.5, step=10_000)
    assert average.weight.item() == pytest.approx(0.5 * expected)


def test_the_average_also_follows_weights_that_are_frozen_by_now() -> None:
    trained = nn.Linear(2, 2).requires_grad_(False)
    average = copy.deepcopy(trained)
    nn.init.constant_(trained.weight, 1.0)
    before = average.weight.clone()
    update_average(average, trained, decay=0.9, step=100)
    torch.testing.assert_close(average.weight, 0.9 * before + 0.1)


@pytest.mark.parametrize("prediction", ["sample", "velocity"])
def test_the_flow_keeps_both_modes_where_behaviour_cloning_averages(prediction: str) -> None:
    options = {"num_latents": 1, "latent_dim": 1, "dim": 32}
    seen = {key: x[:1].expand(64, *x.shape[1:]) for key, x in history(1).items()}
    samples = {}
    for head in ("flow", "bc"):
        torch.manual_seed(0)
        policy = build(head, **options, **({} if head == "bc" else {"prediction": prediction, "num_steps": 10}))
        optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
        for _ in range(300 if head == "flow" else 100):
            z = torch.randint(0, 2, (64, 1, 1)) * 2.0 - 1
            loss = policy.loss(z, policy.observe(seen)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            tokens = policy.observe(seen)
            samples[head] = torch.cat([policy.sample(tokens, policy.noise(64, tokens)) for _ in range(8)]).flatten()
    flow, bc = samples["flow"], samples["bc"]
    assert (flow.abs() > 0.5).float().mean() > 0.85
    assert 0.35 < (flow > 0).float().mean() < 0.65
    assert bc.abs().max() < 0.25
