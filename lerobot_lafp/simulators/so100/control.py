"""Asking a running arm from another process: what it looks like, another target, a fault.

A socket beside the port (``PORT.control``), one JSON object a line each way; only this machine's user can open it.
"""

import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

from .arm import SimArm
from .faults import Fault

#: Seconds within which a server stops.
STOP_WITHIN = 0.02


def socket_of(port: str | Path) -> Path:
    return Path(f"{port}.control")


class ControlServer:
    """Answers for ``arm`` until stopped."""

    def __init__(self, arm: SimArm, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write((json.dumps(_answer(arm, line)) + "\n").encode())

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        os.chmod(path, 0o600)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_WITHIN,), name="sim-arm control", daemon=True
        )

    def __enter__(self) -> "ControlServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.path.unlink(missing_ok=True)


def _answer(arm: SimArm, line: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(line)
        match asked.pop("ask", None):
            case "state":
                return arm.state()
            case "results":
                with arm.lock:
                    return {"rollouts": arm.task.results()}
            case "reset":
                arm.reset(**asked)
            case "move_target":
                arm.move_target()
            case "fault":
                arm.bus.inject(Fault(**{**asked, "servos": tuple(asked.get("servos", ()))}))
            case "mend":
                arm.bus.mend()
            case other:
                raise ValueError(
                    f"nobody answers to {other!r}: ask for state, results, reset, move_target, fault or mend."
                )
    except (ValueError, TypeError, AttributeError) as error:
        return {"error": str(error)}
    return {}


class ControlClient:
    """The other end of ``ControlServer``.

    Args:
        port: The arm's port, as given to LeRobot.

    Raises:
        ConnectionError: No emulated arm runs there.
    """

    def __init__(self, port: str | Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(socket_of(port)))
        except OSError as error:
            self._socket.close()
            raise ConnectionError(
                f"no emulated arm answers at {socket_of(port)} ({error.strerror}). Start one: "
                f"lafp sim-arm --port={port}"
            ) from error
        self._file = self._socket.makefile("rw")
        self._lock = threading.Lock()

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """One question and its answer.

        Raises:
            ValueError: The arm did not understand.
            ConnectionError: It is gone.
        """
        with self._lock:
            try:
                self._file.write(json.dumps({"ask": what, **details}) + "\n")
                self._file.flush()
                line = self._file.readline()
            except OSError as error:
                raise ConnectionError(f"the emulated arm is gone: {error}.") from error
        if not line:
            raise ConnectionError("the emulated arm is gone.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()
