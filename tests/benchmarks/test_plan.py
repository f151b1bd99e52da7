"""Which trainings a variant needs, which of them variants share, and that every one can be built."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ablation import plan as planning
from ablation import running, tasks
from ablation.plan import RIVALS, Run, Training, Variant, chain, plan
from ablation.tables import TABLES
from ablation.tasks import TASKS, Budget
from ablation.variants import SEEDS, SHIPPED, VARIANTS
from ablation.vocabulary import put
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from lerobot_lafp import LAFPConfig
from lerobot_lafp.options.constants import STAGES
from lerobot_lafp.options.fields import read

from ..building import lafp

EVERY = [(task, name) for task, variants in VARIANTS.items() for name in variants]
EPISODES = {"two_way": 1000, "pusht_keypoints": 206, "pusht": 206}


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning asks a dataset for no more than how many episodes it has."""
    monkeypatch.setattr(tasks, "_data", lambda name: SimpleNamespace(num_episodes=EPISODES[name]))


def planned(name: str, task: str = "two_way", seed: int = 0, **options: Any) -> Run:
    return plan(task, VARIANTS[task][name], seed, **options)


def digests(run: Run) -> list[str]:
    return [training.digest for training in chain(run.training)]


# --- Trainings in common -------------------------------------------------------------------------------------


def test_a_variant_is_a_chain_of_its_stages() -> None:
    trainings = chain(planned("lafp").training)
    assert [t.stage for t in trainings] == list(STAGES)
    assert [t.parent for t in trainings] == [None, *trainings[:2]]
    assert [t.budget for t in trainings] == [TASKS["two_way"].budgets[stage] for stage in STAGES]
    assert len(set(digests(planned("lafp")))) == 3
    assert digests(planned("lafp")) == digests(planned("lafp"))


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ("interpolation", 2),
        ("upper_half", 2),
        ("upper_quarter", 2),
        ("tau_0.5", 2),
        ("lafp_finetuned", 2),
        ("laom_frozen", 1),
        ("laom", 1),
        ("lafp_video_only", 0),
        ("x_dz64", 0),
        ("steps_5", 3),
    ],
)
def test_variants_share_the_trainings_before_they_part(other: str, shared: int) -> None:
    a, b = digests(planned("lafp")), digests(planned(other))
    assert [x == y for x, y in zip(a, b, strict=True)] == [True] * shared + [False] * (3 - shared)


def test_a_variant_without_stage_three_acts_from_the_trainings_of_one_with_it() -> None:
    assert digests(planned("stage1_decoder")) == digests(planned("lafp"))[:2]
    assert digests(planned("laom_stage1_decoder")) == digests(planned("laom_frozen"))[:2]


def test_options_given_to_a_stage_hold_from_there_on() -> None:
    run = plan("two_way", Variant("v", options={STAGES[1]: {"policy_dim": 8}, STAGES[2]: {"decoder_dim": 9}}), 0)
    assert [t.options["policy_dim"] for t in chain(run.training)] == [TASKS["two_way"].options["policy_dim"], 8, 8]
    assert ["decoder_dim" in t.options for t in chain(run.training)] == [False, False, True]


def test_trainings_that_read_no_label_are_the_same_for_any_number_of_them() -> None:
    """Which holds for stages 1 and 2 where ``label_weight`` is 0, and for nothing else."""
    few, many = (digests(planned(f"lafp_dz8_{n}_labels")) for n in (2, 50))
    assert [a == b for a, b in zip(few, many, strict=True)] == [True, True, False]
    for training in chain(planned("lafp_dz8_2_labels").training):
        assert (not training.labeled_episodes) == (training.stage in STAGES[:2])
    assert all(training.labeled_episodes for training in chain(planned("lafp").training))


@pytest.mark.parametrize("changed", ["option", "steps", "batch_size", "bf16", "seed", "labels", "task"])
def test_whatever_a_training_depends_on_changes_its_digest(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(planned("lafp"))
    variant, seed, task, first = VARIANTS["two_way"]["lafp"], 0, "two_way", 0
    if changed == "option":
        lafp = variant.options
        variant, first = replace(variant, options={**lafp, STAGES[1]: {"policy_dim": 257}}), 1
    elif changed in ("steps", "batch_size", "bf16"):
        budget = Budget(**{"steps": 5000, "batch_size": 64, changed: 65})
        monkeypatch.setitem(TASKS["two_way"].budgets, STAGES[1], budget)
        first = 1
    elif changed == "seed":
        seed = 1
    elif changed == "labels":
        variant = Variant("v", labels=12)
    else:
        task = "pusht_keypoints"
    after = digests(plan(task, variant, seed))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True] * first + [False] * (3 - first)


def test_a_run_also_depends_on_how_it_acts_and_is_evaluated() -> None:
    lafp = planned("lafp")
    assert planned("lafp").digest == lafp.digest
    others = [
        planned("steps_5"),
        planned("lafp", first_seed=5),
        plan("two_way", replace(VARIANTS["two_way"]["lafp"], episodes=7), 0),
        planned("lafp", seed=1),
    ]
    assert others[0].training.digest == others[1].training.digest == others[2].training.digest == lafp.training.digest
    assert len({lafp.digest, *(run.digest for run in others)}) == 5


def test_a_smoke_run_is_another_one() -> None:
    smoke = planned("lafp", smoke=True)
    assert {t.budget for t in chain(smoke.training)} == {planning.SMOKE}
    assert smoke.episodes == 2
    assert not {*digests(smoke)} & {*digests(planned("lafp"))}


# --- Labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "counts"), [("two_way", (2, 10, 50, 1000)), ("pusht_keypoints", (5, 10, 20, 50, 100, 206))]
)
@pytest.mark.parametrize("seed", range(4))
def test_fewer_labels_are_among_more(task: str, counts: tuple[int, ...], seed: int) -> None:
    sets = [TASKS[task].labeled_episodes(count, seed) for count in counts]
    for count, episodes in zip(counts, sets, strict=True):
        assert len(set(episodes)) == len(episodes) == count
        assert episodes == sorted(episodes)
        assert set(episodes) <= set(range(EPISODES[task]))
    assert all({*few} < {*many} for few, many in pairwise(sets))
    assert TASKS[task].labeled_episodes(10, seed) == TASKS[task].labeled_episodes(10, seed)
    assert TASKS[task].labeled_episodes(10, seed) != TASKS[task].labeled_episodes(10, seed + 1)


@pytest.mark.parametrize("count", [2, 10, 50])
def test_labels_of_the_two_way_task_pass_on_either_side_alike(count: int) -> None:
    labeled = TASKS["two_way"].labeled_episodes(count, 0)
    assert sum(episode % 2 for episode in labeled) == count / 2


# --- Everything that is to be run ----------------------------------------------------------------------------


def test_every_variant_of_every_table_is_one() -> None:
    shown = {(table.task, variant) for table in TABLES for variant in table.variants}
    assert shown <= {*EVERY}


def test_every_row_and_difference_can_be_run() -> None:
    for table in TABLES:
        names = {row.variant for row in table.rows} | {v for d in table.differences for v in (d.variant, d.baseline)}
        assert names <= VARIANTS[table.task].keys(), table.name


def test_rows_as_shipped_are_what_the_defaults_say() -> None:
    assert {name: getattr(lafp(), name) for name in SHIPPED} == SHIPPED
    assert "decoder_input" in SHIPPED
    for name in ("lafp", "steps_3", "lafp_video_only", "x_dz64"):
        assert SHIPPED.items() <= planned(name).training.options.items()
    for task in TASKS:
        assert planned("lafp", task).training.options["n_obs_steps"] == lafp().n_obs_steps, task


@pytest.mark.parametrize("task", VARIANTS)
def test_variants_are_kept_under_their_names(task: str) -> None:
    assert all(variant.name == name for name, variant in VARIANTS[task].items())
    assert all(SEEDS[task](name) >= 1 for name in VARIANTS[task])


@pytest.mark.parametrize("task", VARIANTS)
def test_no_training_is_planned_under_two_digests_or_two_under_one(task: str) -> None:
    trainings = [training for name in VARIANTS[task] for training in chain(planned(name, task).training)]
    content = {t.digest: [step.configuration for step in chain(t)] for t in trainings}
    assert all(content[t.digest] == [step.configuration for step in chain(t)] for t in trainings)
    assert len({str(c) for c in content.values()}) == len(content)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_every_training_is_of_a_valid_configuration(task: str, name: str) -> None:
    run = planned(name, task)
    for training in chain(run.training):
        config = running._config(training)
        if training.stage in RIVALS and training.stage != "flow_on_actions":
            assert config.type == training.stage
            assert all(getattr(config, option) == value for option, value in training.options.items())
        else:
            _check_lafp(config, training)
    before = running._config(run.training)
    put(before, run.variant.acting)
    assert (before == config) == (not run.variant.acting), "what matters when it acts is an option as well"


#: Options under the names of the results -> those of today, where a value moved as it is.
MOVED = {"motion_weight": "motion.weight", "motion_target": "motion.target"}
VALUES = {"moments": "centroid", "direct": "samples", "none": "action_head"}


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_row_that_can_be_run_has_every_option_of_its_results(task: str, name: str) -> None:
    """All are found again, the two bounds of the interpolation as one; or the row says which commit could run it."""
    run, missing = planned(name, task), []
    for training in chain(run.training):
        if training.stage in RIVALS and training.stage != "flow_on_actions":
            continue
        config = running._config(training)
        tau = (training.options.get("interpolation_tau_min"), training.options.get("interpolation_tau_max"))
        assert all(typed in (None, has) for typed, has in zip(tau, config.interpolation_tau, strict=True))
        for option, value in training.options.items():
            if not option.startswith("interpolation_tau"):
                has = read(config, MOVED.get(option, option), "gone")
                missing += [option] if has != VALUES.get(value, value) else []
    assert bool(missing) == (run.variant.last_run_by is not None), missing


@pytest.mark.parametrize("rival", sorted(TASKS["pusht_keypoints"].rivals))
def test_rivals_see_and_give_everything_normalised(rival: str) -> None:
    """LeRobot's defaults leave keypoints in pixels, and a rival that cannot learn from them is none."""
    widths = {OBS_ENV_STATE: (FeatureType.ENV, 16), OBS_STATE: (FeatureType.STATE, 2), ACTION: (FeatureType.ACTION, 2)}
    features = {key: PolicyFeature(kind, (width,)) for key, (kind, width) in widths.items()}
    config = running._config(planned(f"{rival}_20_labels", "pusht_keypoints").training)
    config.output_features = {ACTION: features.pop(ACTION)}
    config.input_features = features
    pixels = {"min": 0.0, "max": 512.0, "mean": 256.0, "std": 100.0}
    stats = {
        key: {name: torch.full((width,), value) for name, value in pixels.items()} for key, (_, width) in widths.items()
    }
    preprocessor, _ = make_pre_post_processors(config, dataset_stats=stats)
    batch = preprocessor({key: torch.full((3, width), 512.0) for key, (_, width) in widths.items()})
    assert all(0.5 < float(batch[key].max()) < 3 for key in widths)


def _check_lafp(config: Any, training: Training) -> None:
    assert isinstance(config, LAFPConfig)
    assert config.stage == ("joint" if training.stage == "flow_on_actions" else training.stage)
    assert config.latent_source == ("actions" if training.stage == "flow_on_actions" else "idm")
    assert config.labeled_episodes == (list(training.labeled_episodes) or None)
    start = None if training.parent is None else running.checkpoint_of(training.parent)
    assert config.pretrained_path == start
