"""A stand-in of the Hugging Face Hub: its file API over HTTP, in memory, for the real huggingface_hub."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens: of anna, who may write to anna/..., and of someone who may only read."""

LICENCES = ("apache-2.0", "mit", "cc-by-4.0")


@dataclass
class Repository:
    """Its branches, each a list of commits: (id, message, files)."""

    private: bool
    branches: dict[str, list[tuple[str, str, dict[str, bytes]]]] = field(default_factory=dict)

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Id and files of a branch's newest commit, or of a commit."""
        if commits := self.branches.get(revision):
            return commits[-1][0], commits[-1][2]
        every = (commit for commits in self.branches.values() for commit in commits)
        return next(((each[0], each[2]) for each in every if each[0] == revision), None)


@dataclass
class Hub:
    """What the server knows."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by their SHA-256."""
    requests: list[str] = field(default_factory=list)


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, code: str = "", **content: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.content = status, code, {"error": message, **content}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        try:
            for pattern, method in _ROUTES:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    getattr(self, method)(body, **match.groupdict())
                    return
            raise RefusedError(404, f"no such page: {self.command} {path}")
        except RefusedError as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self._send(refused.content, refused.status, headers)

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # Rights

    @property
    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _may_write(self, repository: str) -> None:
        if self._token not in (WRITER, READER):
            raise RefusedError(401, "Invalid username or password.")
        if self._token == READER or not repository.startswith("anna/"):
            raise RefusedError(403, "You don't have the rights to write here.")

    def _repository(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self._token != WRITER):
            raise RefusedError(404 if self._token else 401, "Repository not found", "RepoNotFound")
        return found

    def _files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self._repository(repository).files(revision)
        if found is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    # Routes

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        self._may_write(name)
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            raise RefusedError(409, "You already created this model repo", url=url)
        private = wanted.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private, {"main": [("0" * 40, "initial", {})]})
        self._send({"url": url})

    def branch(self, body: bytes, repository: str, branch: str) -> None:
        self._may_write(repository)
        branches = self._repository(repository).branches
        if branch in branches:
            raise RefusedError(409, "Reference already exists")
        branches[branch] = list(branches["main"])
        self._send({})

    def info(self, body: bytes, repository: str, revision: str | None = None) -> None:
        commit, files = self._files(repository, revision or "main")
        private = self._repository(repository).private
        siblings = [{"rfilename": name} for name in files]
        self._send({"id": repository, "sha": commit, "private": private, "siblings": siblings})

    def validate(self, body: bytes) -> None:
        match = re.match(r"---\n(.*?)\n---", json.loads(body)["content"], re.DOTALL)
        values = yaml.safe_load(match[1]) if match else {}
        if (licence := values.get("license")) not in (None, *LICENCES):
            message = f'"license" must be one of [{", ".join(LICENCES)}], not {licence}'
            raise RefusedError(400, message, errors=[{"message": message}], warnings=[])
        self._send({"errors": [], "warnings": []})

    def preupload(self, body: bytes, repository: str, revision: str) -> None:
        self._may_write(repository)
        _, there = self._files(repository, revision)
        files = []
        for file in json.loads(body)["files"]:
            large = file["path"].endswith(".safetensors")
            mode, there_oid = ("lfs" if large else "regular"), oid(there.get(file["path"]), large)
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": there_oid})
        self._send({"files": files})

    def batch(self, body: bytes, repository: str) -> None:
        self._may_write(repository)
        objects = []
        for each in json.loads(body)["objects"]:
            if each["oid"] not in self.hub.objects:
                upload = {"href": f"{self.hub.url}/objects/{each['oid']}"}
                each["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/verify"}}
            objects.append(each)
        self._send({"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusedError(400, "the content has another checksum")
        self.hub.objects[oid] = body
        self._send({})

    def verify(self, body: bytes) -> None:
        wanted = json.loads(body)
        if len(self.hub.objects[wanted["oid"]]) != wanted["size"]:
            raise RefusedError(400, "the content has another size")
        self._send({})

    def commit(self, body: bytes, repository: str, revision: str) -> None:
        self._may_write(repository)
        _, files = self._files(repository, revision)
        files, message = dict(files), ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                raise RefusedError(400, f"unknown operation {item['key']}")
        commits = self._repository(repository).branches[revision]
        commit = hashlib.sha1(f"{repository} {revision} {len(commits)}".encode()).hexdigest()
        commits.append((commit, message, files))
        self._send({"commitUrl": f"{self.hub.url}/{repository}/commit/{commit}", "commitOid": commit})

    def tree(self, body: bytes, repository: str, revision: str) -> None:
        _, files = self._files(repository, revision)
        rows = []
        for path, data in files.items():
            row: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": oid(data, False)}
            if path.endswith(".safetensors"):
                row["lfs"] = {"oid": oid(data, True), "size": len(data), "pointerSize": 130}
            rows.append(row)
        self._send(rows)

    def resolve(self, body: bytes, repository: str, revision: str, path: str) -> None:
        commit, files = self._files(repository, revision)
        if path not in files:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        etag = oid(files[path], path.endswith(".safetensors"))
        self._send(files[path], headers={"X-Repo-Commit": commit, "ETag": f'"{etag}"'})


def oid(data: bytes | None, large: bool) -> str | None:
    """As git and git-lfs name a file."""
    if data is None:
        return None
    if large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_NAME = r"(?P<repository>[^/]+/[^/]+?)"
_ROUTES = [
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate"),
    (rf"POST /api/models/{_NAME}/branch/(?P<branch>.+)", "branch"),
    (rf"POST /api/models/{_NAME}/preupload/(?P<revision>.+)", "preupload"),
    (rf"POST /api/models/{_NAME}/commit/(?P<revision>.+)", "commit"),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", "batch"),
    (r"PUT /objects/(?P<oid>\w+)", "upload"),
    (r"POST /verify", "verify"),
    (rf"GET /api/models/{_NAME}/revision/(?P<revision>.+)", "info"),
    (rf"GET /api/models/{_NAME}/tree/(?P<revision>[^/]+)/?", "tree"),
    (rf"GET /api/models/{_NAME}", "info"),
    (rf"(?:GET|HEAD) /{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub of its own, on a free port."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
