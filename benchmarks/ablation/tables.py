"""The tables, claim by claim: which rows, which differences, which figure."""

from .render import Difference, Figure, ModeFigure, Row, Table
from .variants import (
    GRID_ALIGNMENTS,
    GRID_LABELS,
    GRID_WIDTHS,
    LABELS,
    PREDICTION_WIDTHS,
    STEPS,
    SWEEP_ALIGNMENTS,
    TAUS,
)

TITLES = {"two_way": "two-way task", "pusht_keypoints": "PushT keypoints"}
#: Alignment of the decoder -> what a row calls it.
RULES = {
    "lafp": "as shipped, IDM latents",
    "interpolation": "U(0,1)",
    "upper_quarter": "U(0.75,1)",
    "mixed": "half U(0.75,1), half IDM latents",
    "direct": "direct",
}
#: Steps of the sampler -> variant; the other tables have 10.
SAMPLED_STEPS = dict(sorted([(10, "lafp"), *((k, f"steps_{k}") for k in STEPS)]))
HALVED = "Stages 1 and 2 trained half as long as in the other tables; to be compared within this one."
SHARED = (
    "Motion told by the latent stands in for labels in LAFP's stage 1 (claim 4), so that only the decoder depends on "
    "how many there are."
)
SIDES = {"two_way": ("left", "right"), "pusht_keypoints": ("reward",)}
#: What rows of a task are compared in.
METRICS = {"two_way": ("success",), "pusht_keypoints": ("success", "reward")}


def _differences(task: str, *pairs: tuple[str, str, str]) -> tuple[Difference, ...]:
    """Of (label, variant, baseline), in all that rows of the task are compared in."""
    return tuple(Difference(*pair, metric) for pair in pairs for metric in METRICS[task])


def _common(task: str) -> list[Table]:
    title, extra = TITLES[task], SIDES[task]
    columns = ("success", *extra, "cpu_minutes", "seeds", "episodes")
    metric = "success" if task == "two_way" else "reward"
    # Where there is a camera, what its motion is taken to be makes a difference.
    with_labels = {"lafp_moments": "labels and shift of brightness", "lafp_labels_alone": "labels, no motion"}
    with_labels = with_labels if task == "two_way" else {}
    without_labels = ("lafp_video_only_moments",) if task == "two_way" else ()
    few_labels = ("flow_on_actions",) if task == "two_way" else ()  # of PushT there is a table of its own
    return [
        Table(
            name=f"{task}_flow_against_bc",
            title=f"Flow against behaviour cloning of latents, {title} (claim 1; paper, Table 3)",
            task=task,
            rows=(
                Row("LAFP", "lafp"),
                Row("LAFP, decoder on U(0.75,1)", "upper_quarter"),
                Row("the same, policy fine-tuned with the decoder", "lafp_finetuned"),
                Row("LAOM (BC, fine-tuned)", "laom"),
                Row("LAOM (BC, frozen)", "laom_frozen"),
                *(Row("our flow, directly on the labelled actions", rival) for rival in few_labels),
            ),
            columns=columns,
            differences=_differences(
                task,
                ("LAFP - LAOM (frozen)", "lafp", "laom_frozen"),
                ("LAFP - LAOM", "lafp", "laom"),
                ("U(0.75,1): frozen - fine-tuned", "upper_quarter", "lafp_finetuned"),
                *(("LAFP - flow on the labelled actions", "lafp", rival) for rival in few_labels),
                *(("LAFP as shipped - flow on the labelled actions", "lafp_moments", rival) for rival in few_labels),
            ),
        ),
        Table(
            name=f"{task}_interpolation_removed",
            title=f"The interpolation removed, and nothing else, {title} (claim 2)",
            task=task,
            rows=(
                Row("U(0,1) interpolation (paper)", "interpolation"),
                Row("decoder on samples from noise", "direct"),
            ),
            columns=columns,
            differences=(
                Difference("success: interpolation - direct", "interpolation", "direct", "success"),
                Difference("reward: interpolation - direct", "interpolation", "direct", "reward"),
            ),
        ),
        Table(
            name=f"{task}_decoder_input",
            title=f"What the decoder is trained on, {title} (claim 2; paper, Tables 2 and 5)",
            task=task,
            rows=(
                Row("LAFP as shipped: IDM latents", "lafp"),
                Row("interpolation, one call", "interpolation"),
                Row("interpolation, one call, tau from U(0.5,1)", "upper_half"),
                Row("interpolation, one call, tau from U(0.75,1)", "upper_quarter"),
                Row("interpolation, remaining steps", "interpolation_remaining"),
                Row("half U(0.75,1), half IDM latents", "mixed"),
                Row("direct", "direct"),
                Row("stage-1 decoder reused", "stage1_decoder"),
                Row("stage-1 decoder reused, LAOM (frozen)", "laom_stage1_decoder"),
            ),
            columns=columns,
            differences=_differences(
                task,
                ("shipped - interpolation", "lafp", "interpolation"),
                ("shipped - U(0.75,1)", "lafp", "upper_quarter"),
                ("shipped - half and half", "lafp", "mixed"),
                ("U(0.5,1) - U(0,1)", "upper_half", "interpolation"),
                ("remaining steps - one call", "interpolation_remaining", "interpolation"),
            ),
        ),
        Table(
            name=f"{task}_strength",
            title=f"Strength of the interpolation, {title} (claim 3)",
            task=task,
            rows=(*(Row(f"tau = {tau:g}", f"tau_{tau}") for tau in TAUS), Row("U(0,1)", "interpolation")),
            columns=("success", *extra, "wrong_mode_rate", "decoder_input_distance", "seeds"),
            differences=_differences(task, ("tau = 0.75 - tau = 0", "tau_0.75", "tau_0.0")),
            figure=Figure(
                "lines",
                x=TAUS,
                series={"fixed tau": tuple(f"tau_{tau}" for tau in TAUS)},
                metric=metric,
                xlabel="tau of the decoder's training",
                log_x=False,
            ),
        ),
        Table(
            name=f"{task}_video_only",
            title=f"Stage-1 labels off, and what mends it, {title} (claim 4; paper, Table 4)",
            task=task,
            rows=(
                Row(
                    "labels and optical flow: LAFP of the other tables" if with_labels else "LAFP, labels in stage 1",
                    "lafp",
                ),
                *(Row(label, variant) for variant, label in with_labels.items()),
                Row("LAFP, no labels in stage 1", "lafp_video_only"),
                Row("+ motion predicted from the latent", "lafp_video_only_motion"),
                *(Row("+ motion as shift of brightness", variant) for variant in without_labels),
                Row("+ difference input", "lafp_video_only_difference"),
                Row("+ motion and difference input", "lafp_video_only_both"),
                Row("LAFP fine-tuned, no labels", "lafp_video_only_finetuned"),
                Row("LAOM, no labels", "laom_video_only"),
                Row("LAOM (frozen), no labels", "laom_frozen_video_only"),
            ),
            columns=("success", *extra, "probe_r2", "seeds"),
            differences=_differences(
                task,
                ("no labels - LAFP with labels", "lafp_video_only", "lafp"),
                ("motion - LAFP with labels", "lafp_video_only_motion", "lafp"),
                ("motion - no labels", "lafp_video_only_motion", "lafp_video_only"),
                ("difference - LAFP with labels", "lafp_video_only_difference", "lafp"),
                ("motion and difference - LAFP with labels", "lafp_video_only_both", "lafp"),
                ("motion and difference - motion", "lafp_video_only_both", "lafp_video_only_motion"),
                *(("shift of brightness - LAFP with labels", variant, "lafp") for variant in without_labels),
                *(
                    ("shift of brightness - optical flow", variant, "lafp_video_only_motion")
                    for variant in without_labels
                ),
                *((f"{label} - LAFP with labels", variant, "lafp") for variant, label in with_labels.items()),
            ),
        ),
        Table(
            name=f"{task}_steps",
            title=f"Steps of the sampler, {title} (claim 5; paper, Table 6)",
            task=task,
            rows=(
                *(Row(f"K = {k}", variant) for k, variant in SAMPLED_STEPS.items()),
                Row("LAOM (frozen)", "laom_frozen"),
            ),
            differences=_differences(
                task,
                ("K = 3 - K = 1", "steps_3", "steps_1"),
                ("K = 10 - K = 3", "lafp", "steps_3"),
                ("K = 10 - K = 5", "lafp", "steps_5"),
                ("K = 20 - K = 10", "steps_20", "lafp"),
            ),
            columns=("success", *extra, "ms_per_chunk", "seeds"),
            figure=Figure(
                "lines",
                x=tuple(SAMPLED_STEPS),
                series={"LAFP": tuple(SAMPLED_STEPS.values())},
                metric=metric,
                xlabel="steps of the sampler",
                log_x=True,
            ),
        ),
        Table(
            name=f"{task}_prediction",
            title=f"x- against v-prediction, {title} (claim 5; paper, Table 7)",
            task=task,
            note=HALVED,
            rows=tuple(
                Row(f"{name}-prediction, Dz = {width}", f"{name}_dz{width}")
                for width in PREDICTION_WIDTHS
                for name in ("x", "v")
            ),
            columns=("success", *extra, "ms_per_chunk", "seeds"),
            differences=_differences(
                task, *((f"Dz = {width}: x - v", f"x_dz{width}", f"v_dz{width}") for width in PREDICTION_WIDTHS)
            ),
            figure=Figure(
                "lines",
                x=PREDICTION_WIDTHS,
                series={
                    f"{name}-prediction": tuple(f"{name}_dz{width}" for width in PREDICTION_WIDTHS) for name in "xv"
                },
                metric=metric,
                xlabel="width of a latent, Dz",
                log_x=True,
            ),
        ),
        Table(
            name=f"{task}_structure",
            title=f"Does the policy keep the latents' structure? {title} (claim 7)",
            task=task,
            rows=(Row("LAFP", "lafp"), Row("LAOM (frozen)", "laom_frozen")),
            columns=("success", "energy_distance", "mode_coverage", "bimodal_neighbourhoods", "seeds"),
            # Human demonstrations of PushT leave no neighbourhood with two clear modes.
            figure=ModeFigure({"LAFP": "lafp", "LAOM (frozen)": "laom_frozen"}) if task == "two_way" else None,
        ),
    ]


def _grid() -> Table:
    names = {name: RULES[name] for name in GRID_ALIGNMENTS}
    return Table(
        name="two_way_width_and_labels",
        title="Width of the latents against labels, two-way task (claim 3)",
        task="two_way",
        note=f"{HALVED} {SHARED}",
        rows=tuple(
            Row(f"Dz = {width}, {labels} labelled, {label}", f"{name}_dz{width}_{labels}_labels")
            for width in GRID_WIDTHS
            for labels in GRID_LABELS
            for name, label in names.items()
        ),
        columns=("success", "left", "right", "seeds"),
        differences=tuple(
            Difference(
                f"Dz = {width}, {labels} labelled: U(0,1) - {label}",
                f"interpolation_dz{width}_{labels}_labels",
                f"{name}_dz{width}_{labels}_labels",
            )
            for width in GRID_WIDTHS
            for labels in GRID_LABELS
            for name, label in names.items()
            if name != "interpolation"
        ),
    )


def _labels() -> list[Table]:
    task = "pusht_keypoints"
    rivals = {"diffusion": "LeRobot diffusion", "act": "LeRobot act", "flow_on_actions": "our flow on actions"}
    lafp = {"shipped": "LAFP as shipped", "lafp": "LAFP, no labels in stage 1"}
    columns = ("success", "reward", "cpu_minutes", "seeds", "episodes")
    rules = {name: RULES[name] for name in SWEEP_ALIGNMENTS}
    return [
        Table(
            name="pusht_keypoints_alignment",
            title="Alignment of the decoder against labels, PushT keypoints (claim 3)",
            task=task,
            note=SHARED,
            rows=tuple(
                Row(f"{n} labelled, {label}", f"{rule}_{n}_labels") for n in LABELS for rule, label in rules.items()
            ),
            columns=("success", "reward", "seeds"),
            differences=tuple(
                Difference(f"{n} labelled: shipped - {label}", f"lafp_{n}_labels", f"{rule}_{n}_labels", "reward")
                for n in LABELS
                for rule, label in rules.items()
                if rule != "lafp"
            ),
            figure=Figure(
                "lines",
                x=LABELS,
                series={label: tuple(f"{rule}_{n}_labels" for n in LABELS) for rule, label in rules.items()},
                metric="reward",
                xlabel="labelled episodes",
                log_x=True,
            ),
        ),
        Table(
            name="pusht_keypoints_labels",
            title="Labels: LAFP against what else can be trained on them, PushT keypoints (claim 6)",
            task=task,
            note=(
                "The rivals train about as long as LAFP's three stages. Where stage 1 has no labels, motion told by "
                "the latent stands in for them."
            ),
            rows=(
                *(Row(f"LAFP as shipped, {n} labelled", f"shipped_{n}_labels") for n in LABELS),
                *(Row(f"LAFP, {n} labelled, in stage 3 alone", f"lafp_{n}_labels") for n in LABELS),
                *(
                    Row(f"{label}, {n} labelled", f"{rival}_{n}_labels")
                    for rival, label in rivals.items()
                    for n in LABELS
                ),
            ),
            columns=columns,
            differences=tuple(
                Difference(
                    f"LAFP as shipped with 20 - {label} with {n}", "shipped_20_labels", f"{rival}_{n}_labels", metric
                )
                for rival, label in rivals.items()
                for n in (20, 100)
                for metric in ("success", "reward")
            ),
            figure=Figure(
                "lines",
                x=LABELS,
                series={label: tuple(f"{name}_{n}_labels" for n in LABELS) for name, label in (lafp | rivals).items()},
                metric="reward",
                xlabel="labelled episodes",
                log_x=True,
            ),
        ),
        Table(
            name="pusht_keypoints_shipped",
            title="As shipped, 20 labelled episodes, PushT keypoints (targets)",
            task=task,
            rows=(
                Row("LAFP", "shipped"),
                Row("LAOM (frozen)", "shipped_laom_frozen"),
                *(Row(label, f"shipped_{rival}") for rival, label in rivals.items()),
            ),
            columns=columns,
            differences=tuple(
                Difference(f"LAFP - {label}", "shipped", f"shipped_{rival}", metric)
                for rival, label in ({"laom_frozen": "LAOM (frozen)"} | rivals).items()
                for metric in ("success", "reward")
            ),
            note="A diffusion policy published for keypoints, all 206 labelled: 0.978, success 86.8 %.",
        ),
        Table(
            name="pusht_keypoints_history",
            title="Frames of history that the policy sees, PushT keypoints",
            task=task,
            rows=(Row("one, as in the other tables", "lafp"), Row("two", "two_frames")),
            columns=columns,
            differences=tuple(
                Difference(f"{metric}: one - two", "lafp", "two_frames", metric) for metric in ("success", "reward")
            ),
        ),
        Table(
            name="pusht_keypoints_flow_loss",
            title="x-prediction: error of the sample or of the velocity, PushT keypoints",
            task=task,
            rows=(Row("error of the sample (paper)", "lafp"), Row("error of the velocity", "velocity_loss")),
            columns=columns,
            differences=tuple(
                Difference(f"{metric}: velocity - sample", "velocity_loss", "lafp", metric)
                for metric in ("success", "reward")
            ),
        ),
        Table(
            name="pusht_keypoints_joint",
            title="One run or three, PushT keypoints",
            task=task,
            rows=(
                Row("three runs", "lafp"),
                Row("one joint run, stage 1 at rest after 40 % of it (as shipped)", "joint"),
                Row("one joint run, stage 1 learning to the end", "joint_unsettled"),
            ),
            columns=columns,
            differences=tuple(
                Difference(f"{label} - three runs", variant, "lafp", metric)
                for label, variant in (("joint", "joint"), ("joint, stage 1 learning to the end", "joint_unsettled"))
                for metric in ("success", "reward")
            ),
        ),
    ]


def _images() -> Table:
    return Table(
        name="pusht_images",
        title="PushT from images (a GPU's work)",
        task="pusht",
        rows=(
            Row("LAFP, 20 labelled", "lafp"),
            Row("LeRobot diffusion, 20 labelled", "diffusion_20_labels"),
            Row("LeRobot diffusion, 206 labelled", "diffusion_206_labels"),
        ),
        columns=("success", "reward", "seeds", "episodes"),
        differences=(Difference("LAFP with 20 - diffusion with 20", "lafp", "diffusion_20_labels", "reward"),),
        note="LeRobot's published model, all 206 labelled: mean maximum reward 0.959, success 63.8 %.",
    )


TABLES = (*_common("two_way"), _grid(), *_common("pusht_keypoints"), *_labels(), _images())
