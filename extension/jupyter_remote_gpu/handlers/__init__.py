"""The REST API: one file per noun; `docs/reference/rest-api.yaml` describes it, and a test compares the two."""

from __future__ import annotations

from jupyter_remote_gpu.handlers.attachments import AttachmentHandler, AttachmentsHandler, RebindHandler
from jupyter_remote_gpu.handlers.base import Handler
from jupyter_remote_gpu.handlers.choice import ChoiceHandler
from jupyter_remote_gpu.handlers.clusters import ClustersHandler, PrewarmHandler, SelectionsHandler
from jupyter_remote_gpu.handlers.gateway import GatewayHandler
from jupyter_remote_gpu.handlers.queue import CancelHandler, QueueHandler
from jupyter_remote_gpu.handlers.sessions import InterruptHandler, LogsHandler, RestartHandler, SessionHandler, SessionsHandler

__all__ = ["ROUTES"]

_SESSION = "/remote-gpu/sessions/{session}"

ROUTES: dict[str, type[Handler]] = {
    "/remote-gpu": GatewayHandler,
    "/remote-gpu/clusters": ClustersHandler,
    "/remote-gpu/sessions": SessionsHandler,
    _SESSION: SessionHandler,
    f"{_SESSION}/interrupt": InterruptHandler,
    f"{_SESSION}/restart": RestartHandler,
    f"{_SESSION}/logs": LogsHandler,
    f"{_SESSION}/queue": QueueHandler,
    f"{_SESSION}/queue/{{cell}}": CancelHandler,
    f"{_SESSION}/attachments": AttachmentsHandler,
    f"{_SESSION}/attachments/{{attachment}}": AttachmentHandler,
    f"{_SESSION}/attachments/{{attachment}}/rebind": RebindHandler,
    "/remote-gpu/choice": ChoiceHandler,
    "/remote-gpu/selections": SelectionsHandler,
    "/remote-gpu/prewarm": PrewarmHandler,
}
"""Our routes, written as OpenAPI writes them; `{name}` stands for one part of the path."""
