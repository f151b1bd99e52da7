"""Stage 1: what enters its losses, what its gradients reach, and that it learns."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from lerobot_lafp.model.latent_action_model import LatentActionModel, VectorQuantized
from lerobot_lafp.observation.encoders import ObservationEncoder
from lerobot_lafp.observation.terms import shrink

STATE, FRONT = "observation.state", "observation.images.front"
#: Of which pixels are predicted, and features.
SMALL, LARGE = (3, 16, 20), (3, 8, 130)


def build(images: dict[str, Any] | None = None, vectors: dict[str, int] | None = None, **options: Any):
    images, vectors = images or {}, {STATE: 3} if vectors is None else vectors
    encoder = ObservationEncoder(images, vectors, token_dim=8, vision_encoder=options.pop("vision_encoder", "auto"))
    defaults = {"latent_dim": 4, "hidden": 16, "frame_offset": 2, "action_dim": 2, "pixel_target_size": 8}
    model = LatentActionModel(encoder, images, vectors, **{**defaults, "codebook_heads": 2, **options})
    return model.train()


def frames(model: LatentActionModel, images: dict[str, Any] | None = None, size: int = 5, count: int = 3):
    out = {key: torch.randn(size, count, 3) for key in model.vectors}
    return {**out, **{key: torch.randn(size, count, *shape) for key, shape in (images or {}).items()}}


def total_loss(model: LatentActionModel, observed: dict[str, Tensor], valid: Tensor) -> Tensor:
    latents = model.encode(observed, valid)
    return model.reconstruction_loss(observed, latents, valid).mean() + latents.bottleneck_loss


def gradients(model: LatentActionModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bottleneck", ["continuous", "vq"])
@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_padded_frames_never_enter_the_loss(bottleneck: str, shape: tuple[int, int, int]) -> None:
    images = {FRONT: shape}
    original = build(images, bottleneck=bottleneck, vision_encoder="small_conv")
    observed = frames(original, images)
    valid = torch.tensor([[1, 1], [1, 0], [1, 0], [0, 0], [1, 1]], dtype=torch.bool)
    results = []
    for filler in (0.0, 1e6):
        model = copy.deepcopy(original)
        filled = {key: x.clone() for key, x in observed.items()}
        for x in filled.values():
            x[1:3, 2] = filler
            x[3, 1:] = filler
        torch.manual_seed(5)
        loss = total_loss(model, filled, valid)
        loss.backward()
        results.append((loss, gradients(model), model.state_dict()))
    (loss, grads, state), (other_loss, other_grads, other_state) = results
    torch.testing.assert_close(loss, other_loss)
    assert grads.keys() == other_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, other_grads[name], atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    moved = [k for k, v in state.items() if not torch.equal(v, other_state[k]) and v.isfinite().all()]
    assert not moved, "nor do they move the codebook"
    wrong = total_loss(copy.deepcopy(original), filled, torch.ones_like(valid))
    assert wrong > 10 * loss, "the filler would have shown"


def test_the_codebook_is_only_moved_by_valid_latents() -> None:
    vq = VectorQuantized(4, codebook_size=3, heads=2).train()
    z, nothing = torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool)
    same, loss = vq(z, nothing)
    assert torch.equal(same, z)
    assert loss == 0
    assert not vq.quantize.codebook.any(), "no valid latent, no codebook yet"
    valid = torch.tensor([[True, True, False], [True, True, False]])
    vq(torch.where(valid.unsqueeze(-1), z, 1e6), valid)
    assert 0 < vq.quantize.codebook.abs().max() < 100


def test_an_evaluation_does_not_initialise_the_codebook() -> None:
    vq = VectorQuantized(4, codebook_size=3, heads=1).eval()
    z, valid = torch.randn(8, 1, 4), torch.ones(8, 1, dtype=torch.bool)
    assert torch.equal(vq(z, valid)[0], z)
    assert not vq.quantize.codebook.any()
    vq.train()(z, valid)
    codes = vq.eval()(z, valid)[0].flatten(0, 1)
    assert len(codes.unique(dim=0)) <= 3
    distance = torch.cdist(codes, vq.quantize.codebook.reshape(-1, 4)).amin(dim=1)
    torch.testing.assert_close(distance, torch.zeros(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bottleneck", ["continuous", "vq"])
def test_the_forward_model_teaches_the_inverse_model(bottleneck: str) -> None:
    model = build(bottleneck=bottleneck)
    observed, valid = frames(model), torch.ones(5, 2, dtype=torch.bool)
    latents = model.encode(observed, valid)
    model.reconstruction_loss(observed, latents, valid).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.idm.parameters())


def test_a_forward_model_that_says_nothing_pays_for_the_change() -> None:
    """With a zero output the prediction is the present frame, so the loss is the mean squared change."""
    model = build({FRONT: SMALL})
    torch.nn.init.zeros_(model.vector_fdm["observation__state"][-1].weight)
    torch.nn.init.zeros_(model.vector_fdm["observation__state"][-1].bias)
    blend = model.pixel_fdm["observation__images__front"].blend[-1]
    torch.nn.init.zeros_(blend.weight)
    torch.nn.init.zeros_(blend.bias)
    observed = frames(model, {FRONT: SMALL}, size=2)
    valid = torch.tensor([[True, True], [True, False]])
    loss = model.reconstruction_loss(observed, model.encode(observed, valid), valid)
    small = shrink(observed[FRONT], 8)

    def change(x: Tensor) -> Tensor:
        return ((x[:, 1:] - x[:, :-1]) ** 2)[valid].mean()

    assert loss.shape == (2,)
    torch.testing.assert_close(loss.mean(), (change(observed[STATE]) + change(small)) / 2)


def test_a_feature_target_is_a_frozen_copy_of_the_encoder() -> None:
    model = build({FRONT: LARGE}, vision_encoder="small_conv")
    name = "observation__images__front"
    before = copy.deepcopy(model.target_encoder.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total_loss(model, frames(model, {FRONT: LARGE}), torch.ones(5, 2, dtype=torch.bool)).backward()
    assert all(p.grad is None for p in model.target_encoder.parameters())
    assert not any(p.requires_grad for p in model.target_encoder.parameters())
    optimizer.step()
    assert all(torch.equal(before[key], value) for key, value in model.target_encoder.state_dict().items())
    assert not torch.equal(model.encoder.encoders[name][0].weight, model.target_encoder[name][0].weight)


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [(SMALL, True), ((3, 128, 20), True), ((3, 20, 128), True), (LARGE, False), ((3, 129, 8), False)],
)
def test_what_is_predicted_for_a_camera(shape: tuple[int, int, int], pixels: bool) -> None:
    model = build({FRONT: shape}, vectors={}, vision_encoder="small_conv")
    assert (model.pixel_cameras, model.feature_cameras) == (([FRONT], []) if pixels else ([], [FRONT]))
    observed = frames(model, {FRONT: shape}, size=2, count=2)
    valid = torch.ones(2, 1, dtype=torch.bool)
    latents = model.encode(observed, valid)
    assert latents.z.shape == (2, 1, 4)
    assert model.reconstruction_loss(observed, latents, valid).shape == (2,)
    if pixels:
        assert max(model.pixel_fdm["observation__images__front"].target(observed[FRONT]).shape[-2:]) <= 8


def test_the_action_loss_is_in_units_of_the_labels_own_deviation() -> None:
    model = build()
    torch.nn.init.zeros_(model.action_head[-1].weight)
    torch.nn.init.zeros_(model.action_head[-1].bias)
    z, labeled = torch.randn(6, 2, 4), torch.rand(6, 2, 2) < 0.6
    actions = 50 + 10 * torch.randn(6, 2, 2, 2)
    actions[~labeled] = float("nan")
    loss = model.action_loss(z, actions, labeled)
    assert loss.shape == (6,)
    assert loss.mean().item() == pytest.approx(1, rel=1e-4), "a constant answer is wrong by one deviation"
    predicted = model.predict_actions(z)
    assert predicted.shape == (6, 2, 2, 2)
    torch.testing.assert_close(predicted[0, 0, 0], actions[labeled].mean(dim=0), rtol=1e-4, atol=1e-4)


def test_unlabelled_actions_give_no_gradient() -> None:
    model = build()
    z = torch.randn(4, 2, 4, requires_grad=True)
    actions, labeled = torch.randn(4, 2, 2, 2), torch.zeros(4, 2, 2, dtype=torch.bool)
    labeled[0] = True
    actions[1:] = float("nan")
    model.action_loss(z, actions, labeled).mean().backward()
    assert z.grad[0].abs().sum() > 0
    assert not z.grad[1:].any()
    model.action_loss(z, actions, torch.zeros_like(labeled)).mean().backward()  # no label at all
    assert torch.isfinite(z.grad).all()


def test_normalised_latents_are_cut_from_the_graph_and_zero_where_not_valid() -> None:
    model = build()
    observed, valid = frames(model), torch.tensor([[1, 1], [1, 0], [0, 0], [1, 1], [1, 1]], dtype=torch.bool)
    model.statistics.update(torch.randn(20, 4) * 3 + 7)
    z = model.normalized_latents(observed, valid)
    assert not z.requires_grad
    assert not z[~valid].any()
    raw = model.encode(observed, valid).z[valid]
    torch.testing.assert_close(z[valid], (raw - model.statistics.centre) / model.statistics.scale)


def test_each_latent_tells_its_own_pair_of_frames() -> None:
    model = build()
    observed, valid = frames(model), torch.ones(5, 2, dtype=torch.bool)
    z = model.encode(observed, valid).z
    observed[STATE][:, 2] += 1
    other = model.encode(observed, valid).z
    assert torch.equal(z[:, 0], other[:, 0])
    assert not torch.isclose(z[:, 1], other[:, 1]).all()


def test_without_actions_there_is_no_head() -> None:
    model = build(action_dim=None)
    assert model.action_head is None
    assert model.action_moments is None


@pytest.mark.parametrize("label_weight", [0.0, 0.1])
def test_latents_learn_the_displacement_of_a_point(label_weight: float) -> None:
    """A point on a line moves by u. Frames alone teach latents from which, knowing where the point was, u is read
    off linearly; labels on a tenth of the samples teach latents that tell it by themselves."""
    model = build(vectors={STATE: 1}, latent_dim=1, hidden=32, action_dim=1, frame_offset=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    valid = torch.ones(128, 1, dtype=torch.bool)
    labeled = (torch.arange(128) < 13).reshape(-1, 1, 1)

    def draw() -> tuple[dict[str, Tensor], Tensor]:
        start, u = torch.randn(128, 1, 1), torch.randn(128, 1, 1)
        return {STATE: torch.cat([start, start + u], dim=1)}, u

    for _ in range(300):
        observed, u = draw()
        latents = model.encode(observed, valid)
        loss = model.reconstruction_loss(observed, latents, valid).mean()
        if label_weight:
            loss = loss + label_weight * model.action_loss(latents.z, u.unsqueeze(1), labeled).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def seen_by_the_probe() -> tuple[Tensor, Tensor]:
        observed, u = draw()
        parts = [model.encode(observed, valid).z[:, 0], torch.ones(128, 1)]
        return torch.cat(parts if label_weight else [*parts, observed[STATE][:, 0]], dim=1), u[:, 0]

    probe = torch.linalg.lstsq(*seen_by_the_probe()).solution
    x, u = seen_by_the_probe()  # others than those the probe was fitted on
    r2 = 1 - ((x @ probe - u) ** 2).sum() / ((u - u.mean()) ** 2).sum()
    assert r2 > 0.95


@pytest.mark.parametrize("idm_input", ["frames", "difference"])
def test_what_the_inverse_model_sees_beside_the_first_frame(idm_input: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build({FRONT: SMALL}, idm_input=idm_input)
    observed, valid = frames(model, {FRONT: SMALL}), torch.ones(5, 2, dtype=torch.bool)
    seen: list[Tensor] = []
    inverse = model.idm.forward
    monkeypatch.setattr(model.idm, "forward", lambda x: inverse(seen.append(x) or x))
    tokens = model.encode(observed, valid).tokens
    now, beside = (half.unflatten(2, (2, 8)) for half in seen[0].chunk(2, dim=-1))  # two tokens a frame
    assert torch.equal(now, tokens[:, :-1])
    later = tokens[:, 1:]
    assert torch.equal(beside, later - tokens[:, :-1] if idm_input == "difference" else later)


def test_the_difference_of_equal_frames_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(idm_input="difference")
    still = {STATE: torch.randn(5, 1, 3).expand(-1, 3, -1)}
    seen: list[Tensor] = []
    inverse = model.idm.forward
    monkeypatch.setattr(model.idm, "forward", lambda x: inverse(seen.append(x) or x))
    model.encode(still, torch.ones(5, 2, dtype=torch.bool))
    now, change = seen[0].chunk(2, dim=-1)
    assert now.any()
    assert not change.any()


def test_motion_is_predicted_on_request_alone() -> None:
    assert build().motion_head is None
    head = build({FRONT: SMALL}, motion_grid=3, motion_target="flow").motion_head
    assert (head.cameras, head.vectors) == ([FRONT], [STATE])
    assert head.project.out_features == 3 + 2 * 3 * 3


# --- The action head as decoder --------------------------------------------------------------------------------


def test_decoding_absolute_actions_is_the_heads_answer_to_unnormalised_latents() -> None:
    model = build()
    model.statistics.update(torch.randn(20, 4) * 3 + 7)
    model.action_moments.update(torch.randn(20, 2) * 5 - 2)
    z = torch.randn(6, 2, 4)
    actions = model.decode(model.normalize(z, torch.ones(6, 2, dtype=torch.bool)), origin=None)
    assert actions.shape == (6, 4, 2)
    torch.testing.assert_close(actions, model.predict_actions(z).flatten(1, 2))


def test_a_later_latent_starts_where_the_actions_before_it_led(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(frame_offset=2)
    relative = torch.tensor([[[[1.0, 0], [2, 1]], [[0, 1], [1, 1]], [[-1, 0], [0, 5]]]])
    monkeypatch.setattr(model, "predict_actions", lambda z: relative)
    actions = model.decode(torch.zeros(1, 3, 4), origin=torch.tensor([[10.0, 0]]))
    assert actions.tolist() == [[[11, 0], [12, 1], [12, 2], [13, 2], [12, 2], [13, 7]]]
    alone = model.decode(torch.zeros(1, 3, 4), origin=None)
    assert torch.equal(alone, relative.flatten(1, 2))
