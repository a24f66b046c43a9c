from opskit.drivers.ssh import Connector
from opskit.model.inventory import Connection


def test_a_connection_leaves_the_configuration_that_others_share_as_it_is() -> None:
    connector = Connector()
    first = connector._connection("127.0.0.1", Connection(port=2222))
    shared = first.config
    settled = shared._config

    second = connector._connection("127.0.0.2", Connection(port=2223, user="me"))
    second.inline_ssh_env = True

    assert second.config is shared
    assert shared._config is settled, "it was merged anew, and empty for a moment"
    assert (second.host, second.port, second.user) == ("127.0.0.2", 2223, "me")
    assert first.inline_ssh_env is False
