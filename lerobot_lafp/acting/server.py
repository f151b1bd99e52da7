"""LeRobot's policy server for asynchronous inference, which by itself serves LeRobot's policies only."""

import ipaddress
import logging
from collections.abc import Callable

from ..errors import UserError

logger = logging.getLogger(__name__)


def serve_policies(host: str, port: int, fps: int, allow_remote: bool, prepare: Callable[[], None]) -> None:
    """Serve LAFP, too, until interrupted.

    Args:
        host: Address to listen on.
        port: Its port.
        fps: Actions a second that a client sends to its robot.
        allow_remote: Whether other machines may connect. What they send is unpickled.
        prepare: Called once it is known that the server can start, before it does.

    Raises:
        UserError: The address is not this machine's alone, the port is taken, or gRPC is not installed.
    """
    if not _is_this_machine(host) and not allow_remote:
        raise UserError(
            f"{host} can be reached from other machines, and whoever connects can run any program here (the "
            "protocol sends Python pickles). Leave --host out and forward the port through SSH, or add --allow_remote."
        )
    try:
        from lerobot.async_inference.configs import PolicyServerConfig
        from lerobot.async_inference.policy_server import serve
    except ImportError as error:
        raise UserError(f"gRPC is needed ({error}): pip install 'lerobot_policy_lafp[serve]'.") from error
    prepare()
    logger.warning("Whoever can connect to %s:%d can run any program here: what is received is unpickled.", host, port)
    try:
        serve(PolicyServerConfig(host=host, port=port, fps=fps))
    except RuntimeError as error:  # gRPC's, of a port that is taken
        raise UserError(f"{host}:{port} cannot be listened to ({error}). Choose another --port.") from error


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, of which only the resolver knows
        return False
