"""kubectl, for what the benchmark needs of a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from meshd.bench.kube.objects import MANAGED, Object

_SECONDS = 60.0
_DELETE_SECONDS = 180
_PROGRAM = "kubectl"


class KubectlError(Exception):
    """kubectl could not do something; the message is what it said."""


class Kubectl:
    """One cluster."""

    def __init__(self, context: str = "") -> None:
        """``context``: of the kubeconfig; empty: the current one. Raises KubectlError."""
        if shutil.which(_PROGRAM) is None:
            raise KubectlError("kubectl is not on PATH: it is needed to reach the cluster")
        self._context = [f"--context={context}"] if context else []

    def version(self) -> str:
        """The cluster's, as v1.32.4. Raises KubectlError."""
        return str(self._json("version", "-o", "json")["serverVersion"]["gitVersion"])

    def create(self, objects: Sequence[Object]) -> None:
        """Create objects that are not there yet. Raises KubectlError."""
        if objects:
            # The API server judges what it is given; for kubectl to do it too it would fetch all schemas.
            listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
            self._run("create", "--validate=false", "-f", "-", stdin=json.dumps(listed))

    def pods(self, namespace: str, selector: str = "") -> list[Object]:
        """Its pods with labels. Raises KubectlError."""
        found = self._json("get", "pods", "-n", namespace, "-l", selector, "-o", "json")
        return list(found["items"])

    def logs(self, namespace: str, pod: str, container: str) -> str:
        """What a container wrote. Raises KubectlError."""
        return self._run("logs", "-n", namespace, pod, "-c", container)

    def delete_job(self, namespace: str, name: str) -> None:
        """Delete it and its pods, without waiting. Raises KubectlError."""
        self._run("delete", "job", name, "-n", namespace, "--ignore-not-found", "--wait=false")

    def delete_namespaces(self, names: Sequence[str]) -> None:
        """Delete them with all that is in them, and wait until they are gone. Raises KubectlError."""
        given = ("--ignore-not-found", f"--timeout={_DELETE_SECONDS}s")
        self._run("delete", "namespace", *names, *given, seconds=_DELETE_SECONDS + _SECONDS)

    def managed_namespaces(self) -> list[str]:
        """Those of a benchmark, under way or left over. Raises KubectlError."""
        selector = ",".join(f"{key}={value}" for key, value in MANAGED.items())
        found = self._json("get", "namespaces", "-l", selector, "-o", "json")
        return [str(one["metadata"]["name"]) for one in found["items"]]

    def _json(self, *arguments: str) -> Any:
        try:
            return json.loads(self._run(*arguments))
        except json.JSONDecodeError as error:
            raise KubectlError(f"kubectl {arguments[0]}: its output is not JSON: {error}") from error

    def _run(self, *arguments: str, stdin: str = "", seconds: float = _SECONDS) -> str:
        command = [_PROGRAM, *self._context, *arguments]
        try:
            # In a session of its own: Ctrl-C is for us, and must not end the kubectl that cleans up.
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(arguments)}: no end within {seconds:.0f} s") from error
        if done.returncode != 0:
            reason = done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}"
            raise KubectlError(f"kubectl {arguments[0]}: {reason}")
        return done.stdout
