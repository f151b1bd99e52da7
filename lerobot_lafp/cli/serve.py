"""``lafp serve``: LeRobot's policy server for asynchronous inference, which by itself knows only LeRobot's policies."""

import ipaddress
import logging
from collections.abc import Sequence

from ..configuration_lafp import LAFPConfig
from ..errors import UserError
from ..lerobot_patches import match_robots_of_the_policy_server
from .arguments import CommandParser

logger = logging.getLogger(__name__)

USAGE = """lafp serve [--host=127.0.0.1] [--port=8080] [--fps=30] [--allow_remote]

LeRobot's policy server (`lerobot.async_inference.policy_server`), for LAFP too: predicts chunks for a robot whose own
computer runs LeRobot's client, until you interrupt it. The client names the checkpoint:

    python -m lerobot.async_inference.robot_client --server_address=127.0.0.1:8080 --policy_type=lafp \\
        --pretrained_name_or_path=CHECKPOINT --actions_per_chunk=16 --fps=30 --robot.type=so100_follower ...

Whoever can connect can run any program here: client and server send each other Python pickles, without encryption
or passwords. So it listens to this machine alone. For a client elsewhere, bring its port here through SSH
(ssh -L 8080:127.0.0.1:8080 SERVER), or, in a network where you trust every machine, give --host with --allow_remote.
"""


def run_serve(arguments: Sequence[str]) -> int:
    """Run ``lafp serve`` as ``USAGE`` says, until it is interrupted; returns the exit status.

    Raises:
        UserError: The address is not this machine's alone, the port is taken, or gRPC is not installed.
    """
    parser = CommandParser("serve", USAGE)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--allow_remote", action="store_true")
    given = parser.parse_args(arguments)
    if not _is_this_machine(given.host) and not given.allow_remote:
        raise UserError(
            f"{given.host} can be reached from other machines, and whoever connects can run any program here (the "
            "protocol sends Python pickles). Leave --host out and forward the port through SSH, or add --allow_remote."
        )
    try:
        from lerobot.async_inference.configs import PolicyServerConfig
        from lerobot.async_inference.constants import SUPPORTED_POLICIES
        from lerobot.async_inference.policy_server import serve
    except ImportError as error:
        raise UserError(f"gRPC is needed ({error}): pip install 'lerobot_policy_lafp[serve]'.") from error
    SUPPORTED_POLICIES.append(LAFPConfig.get_choice_name(LAFPConfig))
    match_robots_of_the_policy_server()
    logger.warning(
        "Whoever can connect to %s:%d can run any program here: what is received is unpickled.", given.host, given.port
    )
    try:
        serve(PolicyServerConfig(host=given.host, port=given.port, fps=given.fps))
    except RuntimeError as error:  # gRPC's, of a port that is taken
        raise UserError(f"{given.host}:{given.port} cannot be listened to ({error}). Choose another --port.") from error
    return 0


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, of which only the resolver knows
        return False
