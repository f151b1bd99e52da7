"""Every variant by name, each a few options away from LAFP. What a name means stands here and nowhere else."""

from collections.abc import Callable
from dataclasses import replace

from lerobot_lafp.options.constants import STAGES

from .plan import RIVALS, Variant
from .tasks import TASKS, Budget

LATENT_ACTION, LATENT_POLICY, ACTION_DECODER = STAGES

TAUS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
STEPS = (1, 3, 5, 20)
GRID_WIDTHS, GRID_LABELS = (2, 8, 32, 128), (2, 10, 50)
PREDICTION_WIDTHS = (32, 64, 128, 256)
LABELS = (5, 10, 20, 50, 100, 206)

#: The commit that had all options of rows whose options are gone: a share of the inverse model's latents in the
#: decoder's (`interpolation_idm_share`), the remaining steps of the interpolation, the loss of the velocity, and joint
#: runs in which stage 1 comes to rest. None of them gained anything (docs/method.md).
BEFORE = "bdd6ed4"

#: Evaluation episodes of what the targets are about.
SHIPPED_EPISODES = 500

#: Rules that align the decoder with the policy: what it is trained on.
ALIGNMENTS: dict[str, dict[str, object]] = {
    "interpolation": {"decoder_input": "interpolation", "interpolation_tau_min": 0.0},
    "upper_half": {"decoder_input": "interpolation", "interpolation_tau_min": 0.5},
    "upper_quarter": {"decoder_input": "interpolation", "interpolation_tau_min": 0.75},
    "mixed": {"decoder_input": "interpolation", "interpolation_tau_min": 0.75, "interpolation_idm_share": 0.5},
    "idm": {"decoder_input": "idm"},
    "direct": {"decoder_input": "direct"},
}

#: The rule that ``LAFPConfig`` has as default, by which every row called "lafp" is trained. A result names its rule,
#: lest a change of the default go unnoticed by results that are there; a test holds the two together.
SHIPPED: dict[str, object] = ALIGNMENTS["idm"]
OTHERS = {name: rule for name, rule in ALIGNMENTS.items() if rule != SHIPPED}
#: Behaviour cloning has no flow to start within: by this rule its decoder is trained on what it samples.
SAMPLED: dict[str, object] = {"decoder_input": "interpolation"}


#: What the grid of widths and labels compares, and what the sweep over labels does.
GRID_ALIGNMENTS = {"lafp": SHIPPED, **{name: OTHERS[name] for name in ("upper_quarter", "interpolation", "direct")}}
SWEEP_ALIGNMENTS = {"lafp": SHIPPED, **{name: OTHERS[name] for name in ("upper_quarter", "interpolation", "mixed")}}

#: Stage 1 without labels: from video alone, and with motion told by the latent in their place.
VIDEO: dict[str, object] = {"label_weight": 0.0, "motion_weight": 0.0}
MOTION: dict[str, object] = {"label_weight": 0.0, "motion_weight": 1.0}
MOMENTS: dict[str, object] = {**MOTION, "motion_target": "moments"}


def _halved(task: str) -> dict[str, Budget]:
    """Stages 1 and 2 at half the task's steps: for rows that are held against each other, not against other tables."""
    whole = TASKS[task].budgets
    return {stage: replace(whole[stage], steps=whole[stage].steps // 2) for stage in (LATENT_ACTION, LATENT_POLICY)}


def _common(task: str) -> list[Variant]:
    """Claims 1, 2, 4 and 5, on every task."""
    shipped = {ACTION_DECODER: SHIPPED}
    bc = {LATENT_POLICY: {"policy_head": "bc"}}
    laom_frozen = {**bc, ACTION_DECODER: SAMPLED}
    laom = {**bc, ACTION_DECODER: {**SAMPLED, "finetune_policy": True}}
    # The decoder's loss reaches the policy only where the policy made the decoder's latents.
    finetuned = {ACTION_DECODER: {**ALIGNMENTS["upper_quarter"], "finetune_policy": True}}
    video = {LATENT_ACTION: VIDEO}
    motion = {LATENT_ACTION: MOTION}
    difference = {LATENT_ACTION: {**VIDEO, "idm_input": "difference"}}
    both = {LATENT_ACTION: {**MOTION, "idm_input": "difference"}}
    rows = [
        Variant("lafp", options=shipped),
        Variant("lafp_finetuned", options=finetuned),
        Variant("laom_frozen", options=laom_frozen),
        Variant("laom", options=laom),
        *(
            Variant(name, options={ACTION_DECODER: rule}, last_run_by=BEFORE if name == "mixed" else None)
            for name, rule in OTHERS.items()
        ),
        Variant(
            "interpolation_remaining",
            options={ACTION_DECODER: {**ALIGNMENTS["interpolation"], "interpolation_steps": "remaining"}},
            last_run_by=BEFORE,
        ),
        Variant("stage1_decoder", stages=STAGES[:2], acting={"decoder_input": "none"}),
        Variant("laom_stage1_decoder", stages=STAGES[:2], options=bc, acting={"decoder_input": "none"}),
        *(
            Variant(
                f"tau_{tau}",
                options={
                    ACTION_DECODER: {
                        "decoder_input": "interpolation",
                        "interpolation_tau_min": tau,
                        "interpolation_tau_max": tau,
                    }
                },
            )
            for tau in TAUS
        ),
        Variant("lafp_video_only", options={**video, **shipped}),
        Variant("lafp_video_only_finetuned", options={**video, **finetuned}),
        Variant("laom_frozen_video_only", options={**video, **laom_frozen}),
        Variant("laom_video_only", options={**video, **laom}),
        Variant("lafp_video_only_motion", options={**motion, **shipped}),
        Variant("lafp_video_only_difference", options={**difference, **shipped}),
        Variant("lafp_video_only_both", options={**both, **shipped}),
        *(Variant(f"steps_{k}", options=shipped, acting={"num_flow_steps": k}) for k in STEPS),
        *(
            Variant(
                f"{name}_dz{width}",
                budgets=_halved(task),
                options={LATENT_ACTION: {"latent_dim": width}, LATENT_POLICY: {"prediction": prediction}, **shipped},
            )
            for width in PREDICTION_WIDTHS
            for name, prediction in (("x", "sample"), ("v", "velocity"))
        ),
    ]
    if task == "two_way":  # it is seen by a camera, and motion is predicted beside the labels
        rows += [
            Variant("lafp_video_only_moments", options={LATENT_ACTION: MOMENTS, **shipped}),
            Variant("lafp_moments", options={LATENT_ACTION: {"motion_target": "moments"}, **shipped}),
            Variant("lafp_labels_alone", options={LATENT_ACTION: {"motion_weight": 0.0}, **shipped}),
        ]
    return rows


def _grid() -> list[Variant]:
    """Claim 3: width of the latents against labels, for each alignment.

    Without labels in stage 1 but with motion (the shift of brightness) in their place, so that the latents of a width
    are the same whatever the number of labels, and the decoder is all that differs.
    """
    return [
        Variant(
            f"{name}_dz{width}_{labels}_labels",
            labels=labels,
            budgets=_halved("two_way"),
            options={LATENT_ACTION: {**MOMENTS, "latent_dim": width}, ACTION_DECODER: alignment},
        )
        for width in GRID_WIDTHS
        for labels in GRID_LABELS
        for name, alignment in GRID_ALIGNMENTS.items()
    ]


def _labels() -> list[Variant]:
    """Claims 3 and 6: success against labels, for each alignment and for the rivals.

    Stage 1 as in the grid: one policy, and decoders for it. Beside them LAFP as shipped, labels in stage 1 too.
    """
    rows = [
        Variant(
            f"{name}_{labels}_labels",
            labels=labels,
            options={LATENT_ACTION: MOTION, ACTION_DECODER: alignment},
            last_run_by=BEFORE if name == "mixed" else None,
        )
        for labels in LABELS
        for name, alignment in SWEEP_ALIGNMENTS.items()
    ]
    rows += [Variant(f"shipped_{labels}_labels", labels=labels, options={ACTION_DECODER: SHIPPED}) for labels in LABELS]
    rows += [
        Variant(f"{rival}_{labels}_labels", stages=(rival,), labels=labels) for labels in LABELS for rival in RIVALS
    ]
    return rows


def _shipped() -> list[Variant]:
    """LAFP as shipped, BC of its latents, and its rivals: trainings of the other tables, evaluated for longer."""
    shipped = Variant("shipped", options={ACTION_DECODER: SHIPPED}, episodes=SHIPPED_EPISODES)
    bc = Variant(
        "shipped_laom_frozen",
        options={LATENT_POLICY: {"policy_head": "bc"}, ACTION_DECODER: SAMPLED},
        episodes=SHIPPED_EPISODES,
    )
    return [shipped, bc, *(Variant(f"shipped_{r}", stages=(r,), episodes=SHIPPED_EPISODES) for r in RIVALS)]


_EVERY: dict[str, list[Variant]] = {
    "two_way": [*_common("two_way"), *_grid(), Variant("flow_on_actions", stages=("flow_on_actions",))],
    "pusht_keypoints": [
        *_common("pusht_keypoints"),
        *_labels(),
        *_shipped(),
        Variant("two_frames", options={LATENT_POLICY: {"n_obs_steps": 2}, ACTION_DECODER: SHIPPED}),
        Variant(
            "velocity_loss",
            options={LATENT_POLICY: {"flow_loss": "velocity"}, ACTION_DECODER: SHIPPED},
            last_run_by=BEFORE,
        ),
        *(
            Variant(
                name,
                stages=("joint",),
                options={"joint": {**SHIPPED, "joint_latent_share": share}},
                last_run_by=BEFORE,
            )
            for name, share in (("joint", 0.4), ("joint_unsettled", 1.0))
        ),
    ],
    "pusht": [
        Variant("lafp", options={ACTION_DECODER: SHIPPED}),
        *(Variant(f"diffusion_{n}_labels", ("diffusion",), labels=n) for n in (20, 206)),
    ],
}
#: Task -> variant's name -> variant.
VARIANTS = {task: {variant.name: variant for variant in variants} for task, variants in _EVERY.items()}

#: LAFP as shipped and its rivals at numbers of labels that no goal is about: points of a curve, of one training seed.
ONCE = {f"shipped_{labels}_labels" for labels in LABELS if labels != 20} | {
    f"{rival}_{labels}_labels" for rival in RIVALS for labels in LABELS if labels not in (20, 100)
}
#: Task -> (variant's name -> training seeds it is meant to have).
SEEDS: dict[str, Callable[[str], int]] = {
    "two_way": lambda name: 3 if "_dz" in name else 5,
    "pusht_keypoints": lambda name: 1 if name in ONCE else 3,
    "pusht": lambda name: 3 if name == "lafp" else 1,
}
