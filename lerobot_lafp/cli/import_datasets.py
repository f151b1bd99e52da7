"""``lafp import-datasets``."""

from collections.abc import Sequence

from ..data.importing.dataset_episodes import _episodes
from .arguments import CommandParser
from .import_options import add_import_options, finish_import, import_settings

USAGE = """lafp import-datasets SOURCE.. --root=OUT [--repo_id=NAME] [--size=S] [--fps=N] [--fit=pad|crop]
           [--camera=KEY] [--max_seconds=S] [--min_frames=N] [--workers=N] [--resume]

Joins LeRobotDatasets that LeRobot itself cannot merge, since they differ in cameras, rate or robot, into one without
actions, for stages latent_action and latent_policy. SOURCE is a dataset's folder, or its name on the Hub; which of its
cameras is taken is said after a comma where it has several: me/pick,observation.images.front. All images are called
KEY (default: observation.image), taken at N a second (default: 10) and resized to S pixels a side (default: 224, or
HEIGHTxWIDTH), their aspect kept. Tasks are kept, and the column source says which dataset a frame is from. Other
options are those of lafp import-videos.
"""


def run_import_datasets(arguments: Sequence[str]) -> int:
    """Run ``lafp import-datasets`` as ``USAGE`` says; returns the exit status.

    Raises:
        UserError: An argument is missing or does not fit, a dataset cannot be read, or nothing could be imported.
        ValueError: A dataset has another format.
        FileExistsError: See ``run_import``.
    """
    parser = CommandParser("import-datasets", USAGE)
    parser.add_argument("sources", nargs="+")
    add_import_options(parser)
    given = parser.parse_args(arguments)
    settings = import_settings(given)
    sources = [episode for source in given.sources for episode in _episodes(source)]
    return finish_import(sources, given, settings)
