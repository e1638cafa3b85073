"""A W&B service on the loopback interface: as much of it as the client asks for when runs are published. It remembers what it was told.

``trouble`` maps an operation's name to what happens instead of an answer: ``error`` (a refusal), ``gone`` (the connection is closed), ``slow``
(no answer for longer than the client waits); ``after`` says how many good answers come first.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "k" * 40
NOW = "2026-01-01T00:00:00Z"


class Service:
    """Use as a context manager; ``url`` is its address."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.used: list[tuple[str, str]] = []
        self.linked: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.trouble: dict[str, str] = {}
        self.after: dict[str, int] = {}
        self.lock = threading.RLock()
        handler = type("Handler", (Handler,), {"service": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Service:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    # ------------------------------------------------------------------ what tests ask
    def outputs(self, run: str) -> list[str]:
        """Return ``name:type`` of the committed artifacts that a run made."""
        return sorted(f"{a['name']}:{a['type']}" for a in self.artifacts.values() if a["run"] == run and a["state"] == "COMMITTED")

    def inputs(self, run: str) -> list[str]:
        """Return the names of the artifacts that a run used."""
        return sorted(self.artifacts[a]["name"] for r, a in self.used if r == run)

    # ------------------------------------------------------------------ operations
    def answer(self, operation: str, query: str, v: dict[str, Any]) -> dict[str, Any]:
        method = getattr(self, f"on_{operation}", None)
        if method is not None:
            return method(v)
        if "__type" in query or "__schema" in query:
            return {"__type": None, "__schema": None}
        return {}

    def on_Viewer(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "VXNlcg==", "entity": "lab", "username": "someone", "email": "", "flags": "{}", "admin": False,
                           "name": "someone", "deletedAt": None, "teams": {"edges": [{"node": {"name": "lab"}}]}}}  # fmt: skip

    def on_RunResumeStatus(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(v["name"])
        bucket = None
        if run is not None:
            bucket = {"id": f"id-{v['name']}", "name": v["name"], "displayName": v["name"], "summaryMetrics": json.dumps(run["summary"]),
                      "logLineCount": 0, "historyLineCount": len(run["history"]), "eventsLineCount": 0,
                      "historyTail": json.dumps([json.dumps(h) for h in run["history"][-1:]]), "eventsTail": "[]",
                      "config": json.dumps(run["config"]), "tags": run["tags"], "notes": "", "wandbConfig": "{}"}  # fmt: skip
        return {"model": {"id": "p", "name": v["project"], "entity": {"id": "e", "name": "lab"}, "bucket": bucket}}

    def on_UpsertBucket(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v["name"] or str(v["id"]).removeprefix("id-")
        new = name not in self.runs
        run = self.runs.setdefault(name, {"summary": {}, "history": [], "config": {}, "tags": [], "project": v["project"]})
        run |= {k: v[k] for k in ("groupName", "jobType", "displayName", "tags") if v.get(k) is not None}
        if v.get("config"):
            run["config"] = json.loads(v["config"])
        project = {"id": "p", "name": v["project"], "entity": {"id": "e", "name": "lab"}}
        return {"upsertBucket": {"inserted": new, "bucket": {
            "id": f"id-{name}", "name": name, "displayName": name, "description": "", "config": v.get("config") or "{}", "sweepName": None,
            "project": project, "historyLineCount": len(run["history"]),
        }}}  # fmt: skip

    def on_CreateRunFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": n, "uploadUrl": f"{self.url}/storage/{v['run']}/{n}"} for n in v["files"]]
        return {"createRunFiles": {"runID": f"id-{v['run']}", "uploadHeaders": [], "files": files}}

    def on_ArtifactType(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v["name"].partition(":")[0]
        found = next((a for a in self.artifacts.values() if a["name"] == name), None)
        return {"project": {"artifact": found and {"artifactType": {"name": found["type"]}}}}

    def on_CreateArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        i = v["input"]
        name = i["artifactCollectionNames"][0] if i.get("artifactCollectionNames") else i["artifactCollectionName"]
        known = next((a for a in self.artifacts.values() if a["name"] == name and a["digest"] == i["digest"]), None)
        aliases = [a["alias"] for a in i.get("aliases") or []]
        if known is None:
            versions = sum(a["name"] == name for a in self.artifacts.values())
            known = {"id": f"art{len(self.artifacts)}", "name": name, "type": i["artifactTypeName"], "digest": i["digest"], "state": "PENDING",
                     "run": i.get("runName"), "aliases": [], "metadata": i.get("metadata"), "version": versions, "files": []}  # fmt: skip
            self.artifacts[known["id"]] = known
        known["aliases"] = list(dict.fromkeys([*known["aliases"], *aliases]))
        for other in self.artifacts.values():
            if other is not known and other["name"] == name:
                other["aliases"] = [a for a in other["aliases"] if a not in aliases]
        sequence = {"id": f"seq-{name}", "latestArtifact": {"id": known["id"], "versionIndex": known["version"]}}
        return {"createArtifact": {"artifact": {"id": known["id"], "state": known["state"], "artifactSequence": sequence}}}

    def on_CreateArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/storage/manifest/{v['artifactID']}"
        file = {"id": "f", "name": v["name"], "displayName": v["name"], "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"man-{v['artifactID']}", "file": file}}}

    def on_UpdateArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = v["artifactManifestID"].removeprefix("man-")
        url = f"{self.url}/storage/manifest/{artifact}"
        file = {"id": "f", "name": "manifest", "displayName": "manifest", "uploadUrl": url, "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": v["artifactManifestID"], "file": file}}}

    def on_CreateArtifactFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for f in v["input"]["artifactFiles"]:
            where = f"{f['artifactID']}/{f['name']}"
            self.artifacts[f["artifactID"]]["files"].append(f["name"])
            edges.append({"node": {"id": "f", "name": f["name"], "displayName": f["name"], "uploadUrl": f"{self.url}/storage/{where}",
                                   "uploadHeaders": [], "storagePath": where, "uploadMultipartUrls": None,
                                   "artifact": {"id": f["artifactID"]}}})  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_CommitArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[v["artifactID"]]["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": v["artifactID"], "digest": self.artifacts[v["artifactID"]]["digest"]}}}

    # ------------------------------------------------------------------ lineage, links, reports
    def _node(self, a: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "internalId": "cA==", "name": "scorebench", "entity": {"name": "lab"}}
        sequence = {"__typename": "ArtifactSequence", "id": f"seq-{a['name']}", "name": a["name"], "project": project}
        return {
            "__typename": "Artifact", "id": a["id"], "artifactSequence": sequence, "versionIndex": a["version"],
            "artifactType": {"name": a["type"]},
            "description": None, "metadata": a["metadata"] or "{}", "ttlDurationSeconds": -2, "ttlIsInherited": True, "tags": [],
            "historyStep": None, "state": a["state"], "size": 1, "digest": a["digest"], "digestAlgorithm": "MANIFEST_MD5", "commitHash": "c",
            "fileCount": len(a["files"]), "createdAt": NOW, "updatedAt": NOW,
            "aliases": [{"__typename": "ArtifactAlias", "id": f"al-{n}", "alias": n, "artifactCollection": sequence} for n in a["aliases"]],
        }  # fmt: skip

    def _member(self, a: dict[str, Any], collection: str | None = None) -> dict[str, Any]:
        node = self._node(a)
        where = {**node["artifactSequence"], "name": collection or a["name"]}
        return {"__typename": "ArtifactCollectionMembership", "id": f"m-{a['id']}", "versionIndex": a["version"], "createdAt": NOW,
                "aliases": node["aliases"], "artifactCollection": where, "artifact": node}  # fmt: skip

    def on_ArtifactByID(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": self._node(self.artifacts[v["id"]])}

    def on_ArtifactMembershipByName(self, v: dict[str, Any]) -> dict[str, Any]:
        name, _, alias = v["name"].partition(":")
        mine = [a for a in self.artifacts.values() if a["name"] == name and a["state"] == "COMMITTED"]
        found = [a for a in mine if alias in (*a["aliases"], f"v{a['version']}")]
        return {"project": {"artifactCollectionMembership": self._member(found[-1]) if found else None}}

    def on_UseArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        given = v.get("input") or v
        self.used.append((given["runName"], given["artifactID"]))
        return {"useArtifact": {"artifact": self._node(self.artifacts[given["artifactID"]])}}

    def on_FetchOrgInfoFromEntity(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"name": "org", "orgEntity": {"name": "org-entity"}}, "user": None}}

    def on_LinkArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        i = v["input"]
        self.linked.append(i)
        return {"result": {"versionIndex": 0, "artifactMembership": self._member(self.artifacts[i["artifactID"]], i["artifactPortfolioName"])}}

    def on_GetDefaultEntity(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "VXNlcg==", "entity": "lab"}}

    def on_ProjectInternalId(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"internalId": "UHJvamVjdDox"}}

    def on_GetProject(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"__typename": "Project", "id": "cA==", "name": v["name"], "entityName": v["entity"], "createdAt": NOW,
                            "isBenchmark": False, "user": None}}  # fmt: skip

    def on_GetProjects(self, v: dict[str, Any]) -> dict[str, Any]:
        nodes = [self.on_GetProject({"name": "scorebench", "entity": v["entity"]})["project"]] if self.runs else []
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": [{"node": n} for n in nodes]}}

    def on_ProjectViews(self, v: dict[str, Any]) -> dict[str, Any]:
        user = {"username": "someone", "photoUrl": None, "email": ""}
        nodes = {w["displayName"]: {"id": "Vmlldzox", "name": w["name"], "displayName": w["displayName"], "description": w["description"],
                                    "user": user, "spec": w["spec"], "updatedAt": NOW, "createdAt": NOW} for w in self.views}  # fmt: skip
        edges = [{"node": n, "cursor": "c"} for n in nodes.values()]
        return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}}

    def on_upsertView(self, v: dict[str, Any]) -> dict[str, Any]:
        self.views.append(v)
        view = {"id": "Vmlldzox", "name": v["name"], "displayName": v["displayName"], "description": v["description"], "spec": v["spec"],
                "type": "runs", "user": {"name": "someone", "username": "someone", "photoUrl": None, "admin": False},
                "project": {"id": "p", "name": v["projectName"], "entityName": v["entityName"]}, "updatedAt": NOW, "createdAt": NOW,
                "previewUrl": None, "coverUrl": None, "viewCount": 0, "stars": [], "starCount": 0, "createdUsing": "WANDB_SDK",
                "locked": False}  # fmt: skip
        return {"upsertView": {"view": view, "inserted": True}}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        kept = self.runs.setdefault(run, {"summary": {}, "history": [], "config": {}, "tags": []})
        for name, part in (body.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"] if line.strip()]
            if name == "wandb-summary.json" and lines:
                kept["summary"] = lines[-1]
            elif name == "wandb-history.jsonl":
                kept["history"] += lines
        if body.get("complete"):
            kept["exit"] = body.get("exitcode")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    service: Service
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            out = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            out = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(out) if self.headers.get("Content-Encoding") == "gzip" else out

    def _say(self, status: int, value: Any) -> None:
        out = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)

    def _troubled(self, operation: str) -> bool:
        s = self.service
        with s.lock:
            kind = s.trouble.get(operation)
            if kind is None:
                return False
            if s.after.get(operation, 0) > 0:
                s.after[operation] -= 1
                return False
        if kind == "slow":
            time.sleep(60)
        if kind == "gone":
            self.close_connection = True
            self.connection.close()
            return True
        self._say(400, {"errors": [{"message": f"{operation} was refused"}]})
        return True

    def _any(self) -> None:
        body, s = self._body(), self.service
        if self.path.startswith("/storage/"):
            if not self._troubled("storage"):
                with s.lock:
                    s.files[self.path.removeprefix("/storage/")] = body
                self._say(200, None)
        elif self.path.endswith("/file_stream"):
            with s.lock:
                s.stream(self.path.split("/")[-2], json.loads(body or b"{}"))
            self._say(200, {"exitcode": None, "limits": {}})
        elif "graphql" in self.path:
            asked = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            operation = asked.get("operationName") or (found[1] if found else "")
            with s.lock:
                s.asked.append(operation)
            if not self._troubled(operation):
                with s.lock:
                    data = s.answer(operation, asked["query"], asked.get("variables") or {})
                self._say(200, {"data": data})
        else:
            self._say(200, {})

    do_GET = do_POST = do_PUT = do_HEAD = _any
