"""What a checkpoint's files are called, and its type, as LeRobot has it: known without importing LeRobot."""

#: ``type`` in ``config.json``.
TYPE = "lafp"

#: Every option of the run that trained it.
TRAIN_CONFIG = "train_config.json"
#: The pipelines before and after the policy.
PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
