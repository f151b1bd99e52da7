"""What a policy observes and commands: features, tasks and names, matched with those of a dataset or a robot."""

import copy
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Self, cast

from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from .checks import check
from .constants import Stage
from .context import TrainingContext
from .features import camera_shape, encoded_camera, is_depth, is_read, same_picture
from .fields import named_fields
from .names import dimension_names, listed, positions_of
from .policy import PolicyOptions

logger = logging.getLogger(__name__)


@dataclass
class ObservedOptions(PolicyOptions, PreTrainedConfig):
    """Options together with the features that LeRobot gives a policy (``input_features``, ``output_features``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        #: What the command that runs is about to do (`lerobot_lafp/options/context.py`); no option, and not saved.
        self.context: TrainingContext | None = None
        #: Column -> where each of its dimensions is in the dataset's or robot's order, where that is another than the
        #: policy's; no option, and not saved.
        self.orders: dict[str, list[int]] = {}
        #: Whether the stage in training is given the latents of each frame, and needs no later frames to infer them:
        #: the dataset has them (``lafp label``, stage latent_policy), or the frame store. No option, and not saved.
        self.given_latents = False
        self._fill_in_undecided()

    def _fill_in_undecided(self) -> None:
        """Give options that the first dataset decides the values that they have until then."""
        self.facts.undecided = []
        for each in named_fields(type(self)):
            if each.by_dataset and getattr(self, each.name) is None:
                setattr(self, each.name, each.field.metadata["otherwise"])
                self.facts.undecided.append(each.name)
        if "num_latents" in self.facts.undecided and self.horizon % self.num_latents:
            self.num_latents = self.nearest_latents(self.horizon)
        if "n_action_steps" in self.facts.undecided:
            self.n_action_steps = max(1, self.horizon // 2)

    @staticmethod
    def nearest_latents(horizon: int, wanted: int = 4) -> int:
        """The number of latents nearest to ``wanted`` that divides ``horizon``."""
        return min((n for n in range(1, horizon + 1) if horizon % n == 0), key=lambda n: abs(n - wanted))

    def decide(self, names: Iterable[str]) -> None:
        """Options that somebody has set: no dataset decides them any more."""
        decided = set(names)
        if self.facts.undecided is not None:
            self.facts.undecided = [name for name in self.facts.undecided if name not in decided]

    def but(self, **options: Any) -> Self:
        """A copy with other options; what was filled in stays."""
        other = copy.deepcopy(self)
        for name, value in options.items():
            setattr(other, name, value)
        other.decide(options)
        check(other)
        return other

    @property
    def camera_shapes(self) -> dict[str, tuple[int, ...]]:
        """Cameras that the model reads -> (C, H, W) as the dataset stores them."""
        return {
            key: tuple(ft.shape)
            for key, ft in self._ordered_features
            if ft.type is FeatureType.VISUAL and self._is_latent_feature(key)
        }

    @property
    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """States (robot and environment) that stages 1 and 2 read -> shape."""
        return {k: s for k, s in self._vector_features.items() if self._is_latent_feature(k)}

    @property
    def task_encoder(self) -> Literal["none", "words", "model"] | None:
        """How the policy reads the task in words; None: the first dataset that it is trained on decides."""
        if self.text_model is not None:
            return "model"
        return self.facts.task_encoder if self.language == "auto" else cast(Literal["none", "words"], self.language)

    @property
    def reads_task(self) -> bool:
        """Whether the task in words is one of the policy's observations."""
        return self.task_encoder in ("words", "model")

    def take_tasks(self, tasks: list[str]) -> int:
        """Where the policy is about to be trained, settle ``task_encoder`` by the dataset's tasks, and add them to
        ``facts.tasks``. One that was trained before it was settled does not read them.

        Returns:
            How many there were before.
        """
        before = list(self.facts.tasks or [])
        if self.only_stage is Stage.LATENT_ACTION:
            return len(before)
        if self.task_encoder is None:
            several = len(tasks) > 1 and self.only_stage is not Stage.ACTION_DECODER
            self.facts.task_encoder = "words" if several else "none"
        if self.reads_task and self.only_stage is not Stage.ACTION_DECODER:
            self.facts.tasks = [*before, *(task for task in tasks if task not in set(before))]
        return len(before)

    @property
    def decoder_vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """States that only the decoder may read, because the video had none -> shape."""
        return {k: s for k, s in self._vector_features.items() if not self._is_latent_feature(k)}

    @property
    def decoder_states(self) -> dict[str, tuple[int, ...]]:
        """States that the decoder is given beside what it sees through the policy's tokens -> shape."""
        if self.decoder_observes == "tokens":
            return self.decoder_vector_shapes
        state = self.decoder_observes == "state"
        return {k: s for k, s in self._vector_features.items() if state and k == OBS_STATE}

    @property
    def _vector_features(self) -> dict[str, tuple[int, ...]]:
        kinds = (FeatureType.STATE, FeatureType.ENV)
        return {k: tuple(ft.shape) for k, ft in self._ordered_features if ft.type in kinds}

    @property
    def _ordered_features(self) -> list[tuple[str, PolicyFeature]]:
        """``input_features`` in ``feature_order``, what is not in it after that by name."""
        features = list((self.input_features or {}).items())
        if (order := self.facts.feature_order) is None:
            return features
        return sorted(features, key=lambda each: (order.index(each[0]) if each[0] in order else len(order), each[0]))

    def _is_latent_feature(self, key: str) -> bool:
        return self.facts.latent_features is None or key in self.facts.latent_features

    @property
    def named_joints(self) -> list[int] | None:
        """For each action the dimension of ``observation.state`` of its name; None where there is none.

        Relative actions have it by their order where there are no names to go by.
        """
        actions, joints = self.names_of(ACTION), self.names_of(OBS_STATE)
        found = positions_of(actions, joints) if actions and joints else None
        if found is None and self.relative_actions and self.facts.action_dim is not None:
            found = list(range(self.facts.action_dim))
        return found if found is None or self.facts.action_dim in (None, len(found)) else None

    @property
    def joint_of_action(self) -> list[int] | None:
        """``named_joints``; None where the demonstrations showed that actions are no places of these."""
        otherwise = self.facts.actions_are_positions is False and not self.relative_actions
        return None if otherwise else self.named_joints

    @property
    def commands_positions(self) -> bool:
        """Whether an action says where the joints of ``observation.state`` are to be, so that it can be held."""
        return self.joint_of_action is not None

    def set_dataset_feature_metadata(self, features: dict[str, dict[str, Any]]) -> None:
        """Take over what a dataset says of itself. LeRobot's ``make_policy`` calls it before building.

        The first dataset decides what stages 1 and 2 observe; the first one with actions decides their width.
        Both are kept from then on, because a later dataset may lack them (`L/policies/factory.py` would then
        drop the action from the configuration, and with it the decoder).

        Args:
            features: ``dataset.meta.features``.

        Raises:
            ValueError: A feature that the policy was trained with is missing or has another shape, or the stage
                needs actions and there are none.
        """
        if self.context is not None and self.context.rename_map:
            features = {self.context.rename_map.get(key, key): feature for key, feature in features.items()}
        self.input_features: dict[str, PolicyFeature] = dict(self.input_features or {})
        self._take_encoded_cameras(features)
        if self.facts.latent_features is None:
            self._choose_observations(features)
            self._take_cameras(features)
            self._leave_out_words(features)
            self.facts.latent_features = sorted(self.input_features)
            self.facts.feature_order = self.facts.feature_order or self.facts.latent_features
        for key in self.facts.latent_features:
            if key not in features:
                raise ValueError(
                    f"The dataset has no `{key}`, which this policy was trained with. It has "
                    f"{sorted(k for k in features if k.startswith('observation'))}: rename the right one with "
                    f'--rename_map=\'{{"its_name": "{key}"}}\', or start again from stage latent_action.'
                )
            self._check_same_shape(key, features[key])
        if ACTION in features and self.facts.action_dim is None:
            self.facts.action_dim = prod(features[ACTION]["shape"])
        self.match_names(features)
        if ACTION not in features and (self.stage == "action_decoder" or self.latent_source == "actions"):
            raise ValueError(
                "`dataset` has no `action` column, but "
                + (
                    "stage action_decoder learns from actions. "
                    if self.latent_source == "idm"
                    else "`latent_source=actions` learns from nothing else. "
                )
                + "Give it the labelled demonstrations with --dataset.repo_id; video without actions is for stages "
                "latent_action and latent_policy."
            )
        if self.facts.action_dim is not None and not self.output_features:
            self.output_features: dict[str, PolicyFeature] = {
                ACTION: PolicyFeature(FeatureType.ACTION, (self.facts.action_dim,))
            }
        if ACTION in features and self.stage != "latent_policy":
            for key, feature in features.items():
                is_state = key.startswith("observation.") and feature["dtype"] not in ("image", "video", "string")
                own_state = key == OBS_STATE and (self.relative_actions or self.decoder_observes == "state")
                read = self.decoder_observes == "tokens" and self.stage == "action_decoder"
                if is_state and (read or own_state) and key not in self.input_features:
                    self.input_features[key] = PolicyFeature(FeatureType.STATE, tuple(feature["shape"]))

    def match_names(self, features: Mapping[str, Mapping[str, Any]]) -> None:
        """Match the dimensions of states and actions by their names to those of a dataset or a robot.

        The policy keeps the order of the first dataset that had names. Of one that has the same names in another order
        that order is kept in ``orders``; names that nobody had before become the policy's own, as do those of a state
        that it does not read.

        Args:
            features: Of a dataset, or of a robot, as LeRobot describes them (``names``, ``shape``).

        Raises:
            ValueError: Its names are others.
        """
        self.orders = {}
        for key in sorted({*self._vector_features, OBS_STATE, ACTION} & set(features)):
            theirs, own = dimension_names(features[key]), self.names_of(key)
            if theirs is None or len(features[key]["shape"]) != 1:
                continue
            if own is None or key not in {*self._vector_features, ACTION}:  # a state that is not read has no order
                self._name(key, theirs)
                continue
            order = positions_of(own, theirs)
            if order is None or len(order) != len(theirs):
                typed = json.dumps({**(self.names or {}), key: theirs})
                raise ValueError(
                    f"`{key}` is {listed(own)} in this policy and {listed(theirs)} here: not the same names. If they "
                    f"are the same joints in the same order, say so: --policy.names='{typed}'. "
                    "Else use the robot or the dataset that the policy was trained for."
                )
            if order != list(range(len(order))):
                self.orders[key] = order
                logger.info("`%s` comes in another order (%s); it is matched by name.", key, listed(theirs))

    def names_of(self, key: str) -> list[str] | None:
        """Names of the dimensions of ``observation.state``, another state or ``action``, one for each; else None."""
        typed = (self.names or {}).get(key)
        if key == ACTION:
            names, width = typed or self.facts.action_names, self.facts.action_dim
        else:
            known = self.facts.state_names if key == OBS_STATE else (self.facts.vector_names or {}).get(key)
            names = typed or known
            feature = (self.input_features or {}).get(key)
            width = None if feature is None else prod(feature.shape)
        return names if names and width in (None, len(names)) else None

    def _name(self, key: str, names: list[str]) -> None:
        if key == ACTION:
            self.facts.action_names = names
        elif key == OBS_STATE:
            self.facts.state_names = names
        else:
            self.facts.vector_names = {**(self.facts.vector_names or {}), key: names}

    def _choose_observations(self, features: dict[str, dict[str, Any]]) -> None:
        """Of what LeRobot found, keep what ``observations`` names."""
        if self.observations is None:
            return
        missing = sorted(set(self.observations) - set(features))
        if missing:
            raise ValueError(
                f"`observations` names {listed(missing)}, and the dataset has no such feature. It has "
                f"{sorted(key for key in features if key.startswith('observation'))}."
            )
        kept = {key: feature for key, feature in (self.input_features or {}).items() if key in self.observations}
        self.input_features = kept

    def _take_cameras(self, features: dict[str, dict[str, Any]]) -> None:
        """Cameras in the shape in which LeRobot hands them over, and which of them tell distances."""
        assert self.input_features is not None
        for key, feature in features.items():
            if key in self.input_features and feature["dtype"] in ("image", "video"):
                height, width, channels = feature["shape"]
                as_lerobot_reads = ((height, width, channels), (channels, height, width))
                if tuple(self.input_features[key].shape) in as_lerobot_reads:
                    self.input_features[key] = PolicyFeature(FeatureType.VISUAL, camera_shape(feature))
                if is_depth(feature):
                    self.facts.depth_cameras = sorted({*(self.facts.depth_cameras or ()), key})

    def _leave_out_words(self, features: dict[str, dict[str, Any]]) -> None:
        """What LeRobot takes for a state and is no number; the task in words is read as such (``task_encoder``)."""
        assert self.input_features is not None
        for key, feature in features.items():
            if key in self.input_features and not is_read(feature):
                del self.input_features[key]
                logger.warning("`%s` holds no numbers (%s) and is not read.", key, feature["dtype"])

    def _take_encoded_cameras(self, features: dict[str, dict[str, Any]]) -> None:
        """A camera that ``lafp label --features`` encoded is a camera still, of the shape that its video had."""
        for key, feature in features.items():
            shape = encoded_camera(feature)
            if shape is None:
                continue
            if self.backbone.encoder != "vit":
                raise ValueError(
                    f"The dataset holds `{key}` as features of a ViT, and this policy has none. Use the dataset with "
                    "the video, or train with --policy.backbone.encoder=vit and the --policy.backbone.weights "
                    "of the checkpoint that encoded it."
                )
            if self.facts.latent_features is None:
                assert self.input_features is not None
                self.input_features[key] = PolicyFeature(FeatureType.VISUAL, shape)

    def _check_same_shape(self, key: str, feature: dict[str, Any]) -> None:
        expected = tuple((self.input_features or {})[key].shape)
        seen = feature["dtype"] in ("image", "video")
        if seen and is_depth(feature) != (key in (self.facts.depth_cameras or ())):
            kinds = ("distances", "colours") if is_depth(feature) else ("colours", "distances")
            raise ValueError(
                f"`{key}` tells {kinds[0]} in this dataset, but the policy was trained with {kinds[1]}. Rename the "
                "camera that is the same (--rename_map), or correct `is_depth_map` in the dataset's meta/info.json."
            )
        shape = encoded_camera(feature) or (camera_shape(feature) if seen else tuple(feature["shape"]))
        resized = self.resize_shape is not None and seen
        if not same_picture(shape, expected, resized):
            raise ValueError(
                f"`{key}` has shape {shape} in this dataset, but the policy was trained with {expected}. "
                "Convert the dataset to that size, or train from the start with --policy.resize_shape set, which takes "
                "every size of one aspect."
            )
