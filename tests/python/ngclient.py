#!/usr/bin/env python3
"""Takes in a repository that `sanderling repo` made, with python-tuf's own client.

    ngclient.py REPO TARGET...

REPO is a fleet's folder `repo`. It is served over HTTP on a port that the kernel chooses, as any TUF repository is: metadata under
/metadata/, targets under /targets/ with their digest in the name. The client starts from root 1, refreshes, and downloads the
targets. Then the server lies, in one thing at a time, and fresh clients have to refuse. One JSON object is printed:

    {"versions": {role: version}, "targets": {path: SHA-256 of what was downloaded}, "refused": {lie: name of the exception}}
"""

import hashlib
import http.server
import json
import pathlib
import sys
import tempfile
import threading
import urllib.parse

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater


class Server(http.server.ThreadingHTTPServer):
    """Serves a repository, with `lies` in the place of some of its files."""

    def __init__(self, repo):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repo = repo
        self.lies = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def content(self, path):
        kind, _, name = path.partition("/")
        if path in self.lies:
            return self.lies[path]
        if kind == "targets":
            name = name.rpartition("/")[2].partition(".")[0]
            file = self.repo / "blobs" / name
        else:
            file = self.repo / "metadata" / name
        return file.read_bytes() if file.is_file() else None


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.content(urllib.parse.unquote(self.path).lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def download(server, targets):
    """What a client that knows root 1 alone ends up with."""
    root = (server.repo / "metadata" / "1.root.json").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        metadata, held = pathlib.Path(folder, "metadata"), pathlib.Path(folder, "targets")
        metadata.mkdir()
        held.mkdir()
        updater = Updater(str(metadata), f"{server.url}/metadata/", str(held), f"{server.url}/targets/", bootstrap=root)
        updater.refresh()
        digests = {}
        for path in targets:
            info = updater.get_targetinfo(path)
            if info is None:
                raise RepositoryError(f"nobody who is trusted for {path} has it")
            digests[path] = hashlib.sha256(pathlib.Path(updater.download_target(info)).read_bytes()).hexdigest()
        roles = ["root", "timestamp", "snapshot", "targets", "releases", "deployments"]
        versions = {role: json.loads((metadata / f"{role}.json").read_bytes())["signed"]["version"] for role in roles}
        return versions, digests


def lies(server, versions, targets):
    """What a hostile server could say instead, by name."""
    def edited(name):
        content = server.content(name)
        at = content.index(b'"version"')
        return {name: content[:at] + content[at:].replace(b'"version"', b'"versioN"', 1)}

    root = json.loads(server.content("metadata/1.root.json"))
    root["signed"]["version"] = versions["root"] + 1
    said = {
        "an edited timestamp": edited("metadata/timestamp.json"),
        "a root that nobody signed": {f"metadata/{versions['root'] + 1}.root.json": json.dumps(root).encode()},
    }
    for role in ("snapshot", "targets", "releases", "deployments"):
        said[f"edited {role}"] = edited(f"metadata/{versions[role]}.{role}.json")
    for path in targets:
        info = server.content(f"metadata/{versions['releases']}.releases.json") + server.content(
            f"metadata/{versions['deployments']}.deployments.json")
        digest = info.split(json.dumps(path).encode(), 1)[1].split(b'"sha256":"', 1)[1][:64].decode()
        folder, slash, name = path.rpartition("/")
        at = f"targets/{folder}{slash}{digest}.{name}"
        content = server.content(at)
        said[f"other content of {path}"] = {at: bytes([content[0] ^ 1]) + content[1:]}
    return said


def main():
    repo, targets = pathlib.Path(sys.argv[1]), sys.argv[2:]
    server = Server(repo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    versions, digests = download(server, targets)
    refused = {}
    for name, lie in lies(server, versions, targets).items():
        server.lies = lie
        try:
            download(server, targets)
            refused[name] = None
        except (RepositoryError, DownloadError) as error:
            refused[name] = type(error).__name__
    server.shutdown()
    print(json.dumps({"versions": versions, "targets": digests, "refused": refused}))


if __name__ == "__main__":
    main()
