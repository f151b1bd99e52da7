"""``lafp serve``."""

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8080,
    fps: Annotated[int, typer.Option("--fps", help="Actions per second that the client sends to its robot.")] = 30,
    allow_remote: Annotated[
        bool, typer.Option("--allow_remote", help="Accept connections from other machines. Read the warning above.")
    ] = False,
) -> None:
    """Serve LAFP to robots through LeRobot's policy server.

    The server predicts chunks for a robot whose own computer runs LeRobot's client. It runs until you press Ctrl-C. The
    client names the checkpoint:

    \b
        python -m lerobot.async_inference.robot_client \\
            --server_address=127.0.0.1:8080 --policy_type=lafp \\
            --pretrained_name_or_path=CHECKPOINT --actions_per_chunk=16 \\
            --fps=30 --robot.type=so100_follower ..

    Warning: whoever can connect to the server can run any program on this machine. Client and server exchange Python
    pickles, without encryption or passwords. By default the server accepts connections from this machine only. For a
    client on another machine, forward the port through SSH: ssh -L 8080:127.0.0.1:8080 SERVER. In a network where you
    trust every machine, you can set --host and add --allow_remote.
    """
    from ..acting.server import serve_policies
    from ..lerobot_patches import apply_to_policy_server

    serve_policies(host, port, fps, allow_remote, prepare=apply_to_policy_server)
