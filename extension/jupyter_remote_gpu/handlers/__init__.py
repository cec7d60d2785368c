"""The REST API: one file per noun; `docs/reference/rest-api.yaml` describes it, and a test compares the two."""

from __future__ import annotations

from jupyter_remote_gpu.handlers.attachments import AttachmentHandler, AttachmentsHandler, RebindHandler
from jupyter_remote_gpu.handlers.base import Handler
from jupyter_remote_gpu.handlers.choice import ChoiceHandler
from jupyter_remote_gpu.handlers.clusters import ClusterConfigHandler, ClusterHandler, ClustersHandler, PrewarmHandler
from jupyter_remote_gpu.handlers.gateway import GatewayHandler
from jupyter_remote_gpu.handlers.logins import LoginHandler, LoginsHandler, PromptHandler
from jupyter_remote_gpu.handlers.queue import CancelHandler, QueueHandler
from jupyter_remote_gpu.handlers.selections import SelectionHandler, SelectionsHandler
from jupyter_remote_gpu.handlers.sessions import (
    ExtendHandler,
    InterruptHandler,
    LogsHandler,
    RestartHandler,
    SessionHandler,
    SessionsHandler,
)
from jupyter_remote_gpu.handlers.tasks import TaskHandler, TasksHandler

__all__ = ["ROUTES"]

_SESSION = "/remote-gpu/sessions/{session}"

ROUTES: dict[str, type[Handler]] = {
    "/remote-gpu": GatewayHandler,
    "/remote-gpu/clusters": ClustersHandler,
    "/remote-gpu/clusters/{cluster}": ClusterHandler,
    "/remote-gpu/clusters/{cluster}/config": ClusterConfigHandler,
    "/remote-gpu/sessions": SessionsHandler,
    _SESSION: SessionHandler,
    f"{_SESSION}/interrupt": InterruptHandler,
    f"{_SESSION}/restart": RestartHandler,
    f"{_SESSION}/extend": ExtendHandler,
    f"{_SESSION}/logs": LogsHandler,
    f"{_SESSION}/queue": QueueHandler,
    f"{_SESSION}/queue/{{cell}}": CancelHandler,
    f"{_SESSION}/attachments": AttachmentsHandler,
    f"{_SESSION}/attachments/{{attachment}}": AttachmentHandler,
    f"{_SESSION}/attachments/{{attachment}}/rebind": RebindHandler,
    "/remote-gpu/tasks": TasksHandler,
    "/remote-gpu/tasks/{task}": TaskHandler,
    "/remote-gpu/logins": LoginsHandler,
    "/remote-gpu/logins/{name}": LoginHandler,
    "/remote-gpu/prompts/{prompt}": PromptHandler,
    "/remote-gpu/choice": ChoiceHandler,
    "/remote-gpu/selections": SelectionsHandler,
    "/remote-gpu/selections/{selection}": SelectionHandler,
    "/remote-gpu/prewarm": PrewarmHandler,
}
"""Our routes, written as OpenAPI writes them; `{name}` stands for one part of the path."""
