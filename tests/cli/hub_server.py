"""The Hub on loopback: as much of its HTTP interface as ``huggingface_hub``'s client uses to share models.

Repositories, commits, LFS uploads, tags, downloads with ETag and range, private repositories; and failures on demand.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"
#: Paths of the interface, each with the method of ``_Handler`` that answers it.
ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>.+)", "preupload"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>.+)", "commit"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/tag/(?P<revision>.+)", "tag"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)", "tree"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>.+))?", "info"),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>\w+)", "upload"),
    ("POST", r"/lfs/(?P<oid>\w+)/verify", "verify"),
    ("HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
)


@dataclass
class Repository:
    """Its commits, newest last, each a commit's name with all files of that state."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, {})])
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a branch, a tag or a commit's name means."""
        if revision in (None, "main"):
            return self.commits[-1]
        wanted = self.tags.get(str(revision), revision)
        return next((commit for commit in self.commits if commit[0] == wanted), None)


@dataclass
class Hub:
    """What the server holds, and what it is to do wrong.

    Attributes:
        repositories: Name -> repository.
        uploads: SHA-256 -> content, of large files.
        requests: Method and path of all that was asked, in order.
        ranges: Of every download, the path and the byte it begins with.
        fail: Asked of every request before it is answered: the status to answer with instead, or None.
        cut: Of the next download of weights, how many bytes are sent before the connection is cut.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[tuple[str, int]] = field(default_factory=list)
    fail: Callable[[str, str], int | None] = lambda method, path: None
    cut: int | None = None


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub on a free port of loopback."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Nothing to the terminal."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 (the names that http.server calls)

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        status = self.hub.fail(self.command, path)
        if status is not None:
            return self._say(status, {"error": "out of order"})
        for method, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if method == self.command and found:
                return getattr(self, f"_{answer}")(**found.groupdict())
        return self._say(404, {"error": f"nothing at {path}"})

    # --- Answers -----------------------------------------------------------------------------------------------

    def _say(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, repo: str, write: bool = False) -> Repository | None:
        """The repository, if whoever asks may have it; otherwise that is said."""
        found = self.hub.repositories.get(repo)
        if found is None or ((write or found.private) and not self._known):
            status = 401 if found is not None or write else 404
            self._say(status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def _create(self) -> None:
        given = json.loads(self.body)
        if not self._known:
            return self._say(401, {"error": "Invalid username or password."})
        name = f"{given['organization']}/{given['name']}"
        status = 409 if name in self.hub.repositories else 200
        private = given.get("private") or given.get("visibility") == "private"
        self.hub.repositories.setdefault(name, Repository(private=bool(private)))
        return self._say(status, {"url": f"{self.hub.url}/{name}", "id": name, "name": name})

    def _validate(self) -> None:
        has_metadata = json.loads(self.body)["content"].startswith("---\n")
        warning = [] if has_metadata else [{"message": "no metadata"}]
        self._say(200, {"errors": [], "warnings": warning})

    def _preupload(self, repo: str, revision: str) -> None:
        if self._repository(repo, write=True) is None:
            return
        files = [each["path"] for each in json.loads(self.body)["files"]]
        modes = ["lfs" if path.endswith(".safetensors") else "regular" for path in files]
        answer = [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in zip(files, modes, strict=True)]
        self._say(200, {"files": answer})

    def _batch(self, repo: str) -> None:
        if self._repository(repo, write=True) is None:
            return
        objects = []
        for each in json.loads(self.body)["objects"]:
            href = f"{self.hub.url}/lfs/{each['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            there = each["oid"] in self.hub.uploads
            objects.append({**each, **({} if there else {"actions": actions})})
        self._say(200, {"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._say(400, {"error": "not what was announced"})
        self.hub.uploads[oid] = self.body
        return self._say(200, {})

    def _verify(self, oid: str) -> None:
        self._say(200 if oid in self.hub.uploads else 404, {})

    def _commit(self, repo: str, revision: str) -> None:
        repository = self._repository(repo, write=True)
        if repository is None:
            return
        files = dict(repository.commits[-1][1])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        oid = hashlib.sha1(repr(sorted(files.items())).encode() + self.body).hexdigest()
        repository.commits.append((oid, files))
        self._say(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}"})

    def _tag(self, repo: str, revision: str) -> None:
        repository = self._repository(repo, write=True)
        if repository is None:
            return
        commit = repository.at(revision)
        assert commit is not None
        repository.tags[json.loads(self.body)["tag"]] = commit[0]
        self._say(200, {})

    def _found(self, repo: str, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        repository = self._repository(repo)
        if repository is None:
            return None
        commit = repository.at(revision)
        if commit is None:
            self._say(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def _info(self, repo: str, revision: str | None = None) -> None:
        if (commit := self._found(repo, revision)) is not None:
            siblings = [{"rfilename": path} for path in sorted(commit[1])]
            self._say(200, {"_id": "1", "id": repo, "sha": commit[0], "siblings": siblings, "tags": []})

    def _tree(self, repo: str, revision: str) -> None:
        if (commit := self._found(repo, revision)) is not None:
            files = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in sorted(commit[1].items())
            ]
            self._say(200, files)

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        commit = self._found(repo, revision)
        if commit is None:
            return None
        headers = {"X-Repo-Commit": commit[0], "Accept-Ranges": "bytes"}
        data = commit[1].get(path)
        if data is None:
            return self._say(404, {"error": "Entry not found"}, {**headers, "X-Error-Code": "EntryNotFound"})
        large = hashlib.sha256(data).hexdigest() in self.hub.uploads
        digest = hashlib.sha256(data) if large else hashlib.sha1(data)
        headers["ETag"] = f'"{digest.hexdigest()}"'
        if large:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        status, start = (206, int(first[1])) if first else (200, 0)
        if first:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.command == "GET":
            self.hub.ranges.append((path, start))
            if path == "model.safetensors" and self.hub.cut is not None:
                return self._cut_off(data, headers)
        return self._say(status, data[start:], headers)

    def _cut_off(self, data: bytes, headers: dict[str, str]) -> None:
        most, self.hub.cut = self.hub.cut, None
        self.send_response(200)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data[:most])
        self.wfile.flush()
        self.close_connection = True
