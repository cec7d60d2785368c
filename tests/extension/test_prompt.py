"""What leaves the server for the browser leaves at once."""

from __future__ import annotations

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tests.fakes.server import running_server
from traitlets import Any, Bool
from traitlets.config import Config, Configurable

from jupyter_remote_gpu.prompt import without_delay


class _Handler:
    def __init__(self):
        self.nodelay = []

    def set_nodelay(self, value):
        self.nodelay.append(value)


class Connection(Configurable):
    websocket_handler = Any()
    limit_rate = Bool(True).tag(config=True)

    def connect(self):
        return "connected", list(self.websocket_handler.nodelay)


def test_a_kernels_websocket_does_not_wait_for_acknowledgements_and_keeps_its_configuration():
    config = Config()
    config.Connection.limit_rate = False
    connection = without_delay(Connection)(websocket_handler=_Handler(), config=config)
    assert connection.connect() == ("connected", [True])
    assert connection.limit_rate is False


async def test_the_extension_sees_to_that_for_every_kernel_of_its_server(places):
    async with running_server(places.base) as server:
        used = server.app.web_app.settings["kernel_websocket_connection_class"]
        assert issubclass(used, ZMQChannelsWebsocketConnection)
        assert used is not ZMQChannelsWebsocketConnection
