"""A config.json that cannot be had or read, or has options that this version lacks: the cause and the mend."""

import json
from functools import wraps
from pathlib import Path
from typing import Any, cast

from draccus.utils import DecodingError
from huggingface_hub.constants import CONFIG_NAME
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from lerobot.configs import PreTrainedConfig

from ..configuration_lafp import LAFPConfig
from ..lerobot_patches import in_json
from .fetching import explained
from .integrity import installed_versions, read_config


def explain_unreadable_configurations() -> None:
    """Add the mend to what ``PreTrainedConfig.from_pretrained`` raises.

    LeRobot parses config.json before any code of a policy type runs, and its parser takes no decoder of a policy
    type's own: the only place left is around LeRobot's method. Nothing else of it changes.
    """
    read = PreTrainedConfig.from_pretrained.__func__

    @wraps(read)
    def from_pretrained(
        cls: type[PreTrainedConfig], pretrained_name_or_path: str | Path, **options: Any
    ) -> PreTrainedConfig:
        if (file := Path(pretrained_name_or_path) / CONFIG_NAME).is_file():
            read_config(file)
        if overrides := options.get("cli_overrides"):
            options["cli_overrides"] = [in_json(each) for each in overrides]
        try:
            return cast(PreTrainedConfig, read(cls, pretrained_name_or_path, **options))
        except (FileNotFoundError, HFValidationError, LocalEntryNotFoundError) as error:
            of_hub = error if isinstance(error, (HFValidationError, LocalEntryNotFoundError)) else error.__cause__
            if not isinstance(of_hub, (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError)):
                raise
            raise explained(str(pretrained_name_or_path), of_hub, options.get("revision")) from error
        except json.JSONDecodeError as error:
            raise ValueError(
                f"The {CONFIG_NAME} of {pretrained_name_or_path} cannot be read ({error}). Its author has to push it "
                "again, or give a revision where it was whole."
            ) from error
        except DecodingError as error:
            if LAFPConfig.__name__ not in error.message:
                raise
            mend = (
                f". The config.json of {pretrained_name_or_path} does not fit lerobot_policy_lafp "
                f"{installed_versions()['lerobot_policy_lafp']}: install the version that it was made with, or remove "
                f"what was added by hand. `lafp inspect {pretrained_name_or_path}` says which."
            )
            raise DecodingError(error.key_path, error.message + mend) from error

    PreTrainedConfig.from_pretrained = classmethod(from_pretrained)  # type: ignore[arg-type]
