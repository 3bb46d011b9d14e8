"""A server of the kind that people write first: FastAPI, uvicorn, docker-py's high-level calls.

It has one process, no authentication, no records and no clean-up; it is here to be measured against. What its
containers get comes from ``NAIVE_RUN_OPTIONS``, the JSON of keyword arguments of ``containers.run``.
"""

from __future__ import annotations

import json
import os
from typing import Any

import docker
import uvicorn
from docker.models.containers import Container
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()
client = docker.from_env()
options: dict[str, Any] = json.loads(os.environ.get("NAIVE_RUN_OPTIONS", "{}"))
# docker-py tells an address and a port from several ports by the tuple, which JSON doesn't have.
options["ports"] = {port: tuple(binding) for port, binding in options.get("ports", {}).items()}


class Start(BaseModel):
    image: str
    command: list[str] | None = None


class Action(BaseModel):
    runtime_id: str


def find(runtime_id: str) -> Container:
    try:
        return client.containers.get(runtime_id)
    except docker.errors.NotFound:
        raise HTTPException(404, "No such runtime") from None


def describe(container: Container) -> dict[str, Any]:
    return {
        "runtime_id": container.id,
        "status": container.status,
        "image": container.attrs["Config"]["Image"],
        "ports": container.ports,
        "labels": container.labels,
        "created_at": container.attrs["Created"],
    }


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/start", status_code=201)
def start(body: Start) -> dict[str, Any]:
    container = client.containers.run(body.image, body.command, detach=True, **options)
    container.reload()
    return describe(container)


@app.post("/pause")
def pause(body: Action) -> dict[str, Any]:
    container = find(body.runtime_id)
    container.pause()
    container.reload()
    return describe(container)


@app.post("/resume")
def resume(body: Action) -> dict[str, Any]:
    container = find(body.runtime_id)
    container.unpause()
    container.reload()
    return describe(container)


@app.get("/runtimes/{runtime_id}")
def get(runtime_id: str) -> dict[str, Any]:
    container = find(runtime_id)
    container.reload()
    return describe(container)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["NAIVE_PORT"]))
