"""Every variant by name, each a few options away from LAFP. What a name means stands here and nowhere else."""

from collections.abc import Callable

from lerobot_lafp.configuration_lafp import STAGES

from .plan import Variant
from .tasks import Budget

LATENT_ACTION, LATENT_POLICY, ACTION_DECODER = STAGES

TAUS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
STEPS = (1, 3, 5, 20)
GRID_WIDTHS, GRID_LABELS = (2, 8, 32, 128), (2, 10, 50)
PREDICTION_WIDTHS = (32, 64, 128, 256)
#: Half of what the two-way task has: the grid's cells are held against each other, not against the other tables.
GRID_BUDGETS = {LATENT_ACTION: Budget(1000, 64), LATENT_POLICY: Budget(2500, 64)}
LABELS = (5, 10, 20, 50, 206)
RIVAL_LABELS = (5, 10, 20, 50, 100, 206)

#: Rules that align the decoder with the policy: what it is trained on.
ALIGNMENTS: dict[str, dict[str, object]] = {
    "interpolation": {"decoder_input": "interpolation", "interpolation_tau_min": 0.0},
    "upper_half": {"decoder_input": "interpolation", "interpolation_tau_min": 0.5},
    "idm": {"decoder_input": "idm"},
    "direct": {"decoder_input": "direct"},
}


def _common() -> list[Variant]:
    """Claims 1, 2, 4 and 5, on every task."""
    bc = {LATENT_POLICY: {"policy_head": "bc"}}
    finetune = {ACTION_DECODER: {"finetune_policy": True}}
    video = {LATENT_ACTION: {"label_weight": 0.0, "motion_weight": 0.0}}
    motion = {LATENT_ACTION: {"label_weight": 0.0, "motion_weight": 1.0}}
    difference = {LATENT_ACTION: {"label_weight": 0.0, "motion_weight": 0.0, "idm_input": "difference"}}
    both = {LATENT_ACTION: {"label_weight": 0.0, "idm_input": "difference", "motion_weight": 1.0}}
    rows = [
        Variant("lafp"),
        Variant("lafp_finetuned", options=finetune),
        Variant("laom_frozen", options=bc),
        Variant("laom", options={**bc, **finetune}),
        Variant("interpolation", options={ACTION_DECODER: ALIGNMENTS["interpolation"]}),
        Variant(
            "interpolation_remaining",
            options={ACTION_DECODER: {**ALIGNMENTS["interpolation"], "interpolation_steps": "remaining"}},
        ),
        Variant("upper_half", options={ACTION_DECODER: ALIGNMENTS["upper_half"]}),
        Variant("direct", options={ACTION_DECODER: ALIGNMENTS["direct"]}),
        Variant("idm", options={ACTION_DECODER: ALIGNMENTS["idm"]}),
        Variant("stage1_decoder", stages=STAGES[:2], acting={"decoder_input": "none"}),
        Variant("laom_stage1_decoder", stages=STAGES[:2], options=bc, acting={"decoder_input": "none"}),
        *(
            Variant(
                f"tau_{tau}",
                options={ACTION_DECODER: {"interpolation_tau_min": tau, "interpolation_tau_max": tau}},
            )
            for tau in TAUS
        ),
        Variant("lafp_labels_alone", options={LATENT_ACTION: {"motion_weight": 0.0}}),
        Variant("lafp_video_only", options=video),
        Variant("lafp_video_only_finetuned", options={**video, **finetune}),
        Variant("laom_frozen_video_only", options={**video, **bc}),
        Variant("laom_video_only", options={**video, **bc, **finetune}),
        Variant("lafp_video_only_motion", options=motion),
        Variant("lafp_video_only_difference", options=difference),
        Variant("lafp_video_only_both", options=both),
        *(Variant(f"steps_{k}", acting={"num_flow_steps": k}) for k in STEPS),
        *(
            Variant(
                f"{name}_dz{width}",
                options={LATENT_ACTION: {"latent_dim": width}, LATENT_POLICY: {"prediction": prediction}},
            )
            for width in PREDICTION_WIDTHS
            for name, prediction in (("x", "sample"), ("v", "velocity"))
        ),
    ]
    return rows


def _grid() -> list[Variant]:
    """Claim 3: width of the latents against labels, for each alignment."""
    return [
        Variant(
            f"{name}_dz{width}_{labels}_labels",
            labels=labels,
            budgets=GRID_BUDGETS,
            options={LATENT_ACTION: {"latent_dim": width}, ACTION_DECODER: alignment},
        )
        for width in GRID_WIDTHS
        for labels in GRID_LABELS
        for name, alignment in ALIGNMENTS.items()
    ]


def _labels() -> list[Variant]:
    """Claims 3 and 6: success against labels, for each alignment and for the rivals."""
    rows = [
        Variant(f"{name}_{labels}_labels", labels=labels, options={ACTION_DECODER: alignment})
        for labels in LABELS
        for name, alignment in ({"lafp": {}} | ALIGNMENTS).items()
    ]
    rows += [
        Variant(f"{rival}_{labels}_labels", stages=(rival,), labels=labels)
        for labels in RIVAL_LABELS
        for rival in ("diffusion", "act", "flow_on_actions")
    ]
    return rows


VARIANTS: dict[str, dict[str, Variant]] = {
    "two_way": {v.name: v for v in [*_common(), *_grid(), Variant("flow_on_actions", stages=("flow_on_actions",))]},
    "pusht_keypoints": {v.name: v for v in [*_common(), *_labels(), Variant("joint", stages=("joint",))]},
    "pusht": {
        "lafp": Variant("lafp"),
        **{f"diffusion_{n}_labels": Variant(f"diffusion_{n}_labels", ("diffusion",), labels=n) for n in (20, 206)},
    },
}

#: Task -> (variant's name -> training seeds it is meant to have).
SEEDS: dict[str, Callable[[str], int]] = {
    "two_way": lambda name: 3 if "_dz" in name else 5,
    "pusht_keypoints": lambda name: 3,
    "pusht": lambda name: 1,
}
