"""``lafp probe``."""

from collections.abc import Sequence
from pathlib import Path

from ..diagnostics.report import Diagnosis, probe
from .arguments import CommandParser

USAGE = """lafp probe --policy.path=CHECKPOINT --dataset.repo_id=NAME [--dataset.root=FOLDER] [--output_dir=DIR]
           [--modes=FILE] [--max_frames=N] [--seed=N]

Says in three lines what the latents of a LAFP checkpoint are worth on a dataset: whether they tell the actions,
whether the policy keeps their structure, and what they describe. The checkpoint may have been through stage
latent_action alone; the dataset need not be the one it was trained on, nor have actions. Numbers and figure go to
DIR/probe.json and DIR/probe.png (default: outputs/probe). --modes names a JSON list that says for every episode which
way it went, as ["left", "right", null, ..]; without it, clusters of latents stand for the ways. At most N frames are
looked at (default: 4000), chosen by the seed (default: 0).
"""


def run_probe(arguments: Sequence[str]) -> Diagnosis:
    """Run ``lafp probe`` as ``USAGE`` says.

    Raises:
        UserError: An argument is missing or does not fit.
        ValueError: See ``probe``.
    """
    parser = CommandParser("probe", USAGE)
    parser.add_argument("--policy.path", dest="checkpoint", required=True)
    parser.add_argument("--dataset.repo_id", dest="repo_id", required=True)
    parser.add_argument("--dataset.root", dest="root", type=Path)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/probe"))
    parser.add_argument("--modes", type=Path)
    parser.add_argument("--max_frames", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    return probe(**vars(parser.parse_args(arguments)))
