"""Stage 3: what the decoder learns from, and in which units."""

import pytest
import torch

from lerobot_lafp.model.action_decoder import FEW_FRAMES, ActionDecoder, weight_decay

NAN = float("nan")


def build(observation_dim: int = 0, relative: bool = False, whole: bool = False) -> ActionDecoder:
    return ActionDecoder(2, 3, 4, 2, 16, observation_dim, relative, whole).train()


def silence(decoder: ActionDecoder) -> None:
    torch.nn.init.zeros_(decoder.network[-1].weight)
    torch.nn.init.zeros_(decoder.network[-1].bias)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("observation_dim", [0, 5])
def test_it_reads_latents_and_the_observation_where_it_has_one(observation_dim: int, whole: bool) -> None:
    decoder = build(observation_dim, whole=whole)
    z, observation = torch.randn(6, 2, 3), torch.randn(6, 5) if observation_dim else None
    actions = decoder(z, observation)
    assert actions.shape == (6, 4, 2)
    assert not torch.allclose(actions, decoder(z + 1, observation))
    if observation is not None:
        assert not torch.allclose(actions, decoder(z, observation + 1))
    torch.testing.assert_close(actions[:1], decoder(z[:1], observation if observation is None else observation[:1]))


def test_every_latent_is_decoded_alike_but_for_its_place() -> None:
    """What lies around a latent is told by how far from it, so that a chunk one latent later decodes to the same."""
    decoder = build()
    z, nothing = torch.randn(6, 1, 3), torch.zeros(6, 1, 3)
    first, second = decoder(torch.cat([z, nothing], dim=1))[:, :2], decoder(torch.cat([nothing, z], dim=1))[:, 2:]
    assert not torch.allclose(first, second)
    decoder.network[0].weight.data[:, -2:] = 0
    first, second = decoder(torch.cat([z, nothing], dim=1))[:, :2], decoder(torch.cat([nothing, z], dim=1))[:, 2:]
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("changed", [0, 1])
def test_actions_depend_on_the_latents_before_and_after_their_own(changed: int) -> None:
    decoder = build()
    z = torch.randn(6, 2, 3)
    other = z.clone()
    other[:, changed] += 1
    moved = (decoder(other) - decoder(z)).abs().amax(dim=(0, 2))
    assert bool((moved > 1e-4).all())


def test_places_go_on_from_where_the_latent_before_led() -> None:
    steps, places = build(), build(relative=True)
    places.load_state_dict(steps.state_dict())
    z = torch.randn(6, 2, 3)
    of_steps, of_places = steps(z), places(z)
    torch.testing.assert_close(of_places[:, :2], of_steps[:, :2])
    torch.testing.assert_close(of_places[:, 2:], of_steps[:, 2:] + of_steps[:, 1:2])


def test_the_loss_is_in_units_of_the_actions_own_deviation() -> None:
    decoder = build()
    silence(decoder)
    actions, labeled = 100 + 7 * torch.randn(50, 4, 2), torch.ones(50, 4, dtype=torch.bool)
    loss = decoder.loss(torch.randn(50, 2, 3), None, actions, labeled)
    assert loss.shape == (50,)
    assert loss.mean().item() == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(decoder(torch.randn(1, 2, 3))[0, 0], actions.flatten(0, 1).mean(dim=0))


@pytest.mark.parametrize("observation_dim", [0, 5])
def test_actions_without_a_label_never_enter(observation_dim: int) -> None:
    z, observation = torch.randn(3, 2, 3), torch.randn(3, 5) if observation_dim else None
    labeled = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    actions, results = torch.randn(3, 4, 2), []
    for filler in (0.0, 1e6, NAN):
        torch.manual_seed(2)
        decoder = build(observation_dim)
        filled = torch.where(labeled.unsqueeze(-1), actions, filler)
        loss = decoder.loss(z, observation, filled, labeled)
        loss.mean().backward()
        results.append((loss, decoder.network[-1].weight.grad, decoder.moments.mean.clone()))
    for loss, gradient, mean in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(gradient, results[0][1])
        torch.testing.assert_close(mean, results[0][2])
    torch.testing.assert_close(results[0][2], actions[labeled].mean(dim=0))
    assert results[0][0][2] == 0


def test_the_mean_weighs_every_labelled_action_alike() -> None:
    decoder = build()
    silence(decoder)
    decoder.eval()  # moments stay at mean 0, deviation 1
    actions, labeled = torch.zeros(2, 4, 2), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.bool)
    actions[0, :3] = 1
    loss = decoder.loss(torch.randn(2, 2, 3), None, actions, labeled)
    assert loss.mean().item() == pytest.approx(3 / 4), "three of four labelled actions are off by one"


def test_an_evaluation_does_not_move_the_moments() -> None:
    decoder = build().eval()
    decoder.loss(torch.randn(2, 2, 3), None, torch.randn(2, 4, 2) + 9, torch.ones(2, 4, dtype=torch.bool))
    assert int(decoder.moments.count) == 0


def test_the_prior_counts_as_much_however_many_labels_there_are() -> None:
    assert weight_decay(None) == weight_decay(0) == weight_decay(1) == weight_decay(FEW_FRAMES) == 1
    assert [weight_decay(n * FEW_FRAMES) * n for n in (2, 3, 50)] == pytest.approx([1, 1, 1])
