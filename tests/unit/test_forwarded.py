"""Whose word counts for where a request came from."""

from __future__ import annotations

import pytest

from runtime_server.network.forwarded import Forwarded
from runtime_server.settings import Settings
from runtime_server.testing import in_memory_server
from tests.unit.test_source import ask

NGINX = ("127.0.0.1", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("proxies", "socket", "peer", "named", "address"),
    [
        # nobody is trusted
        ((), False, "192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ((), False, "127.0.0.1", "198.51.100.1", "127.0.0.1"),
        ((), False, "", "198.51.100.1", ""),
        ((), True, "127.0.0.1", "198.51.100.1", "127.0.0.1"),
        # a proxy is, and says who asked it
        (NGINX, False, "127.0.0.1", "198.51.100.1", "198.51.100.1"),
        (NGINX, False, "::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        (NGINX, False, "fd00::1", " 2001:db8::7 ", "2001:db8::7"),
        ((), True, "", "198.51.100.1", "198.51.100.1"),
        # what its peer said before is that one's own word
        (NGINX, False, "127.0.0.1", "192.0.2.1, 198.51.100.1", "198.51.100.1"),
        ((), True, "", "192.0.2.1,198.51.100.1", "198.51.100.1"),
        # two proxies in a row
        (NGINX, False, "127.0.0.1", "192.0.2.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        (NGINX, False, "127.0.0.1", "10.9.9.9", "10.9.9.9"),
        # it says nothing, or nonsense
        (NGINX, False, "127.0.0.1", "", "127.0.0.1"),
        (NGINX, False, "127.0.0.1", "unknown", "unknown"),
        (NGINX, False, "not an address", "198.51.100.1", "not an address"),
    ],
)
def test_the_last_address_that_isnt_a_trusted_proxys_counts(
    proxies: tuple[str, ...], socket: bool, peer: str, named: str, address: str
) -> None:
    environ = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": named}
    assert Forwarded(proxies, socket=socket).address(environ) == address


@pytest.mark.parametrize(
    ("settings", "peer"), [({"trusted_proxies": "127.0.0.1"}, "127.0.0.1"), ({"bind": "unix:/api.sock"}, "")]
)
def test_a_runtime_is_refused_behind_a_trusted_proxy_too(settings: dict[str, str], peer: str) -> None:
    with in_memory_server(**settings) as server:
        server.client().start_runtime(image="busybox", command="sleep 100")
        key = {"HTTP_X_API_KEY": server.api_key}
        refused, body = ask(server, "/runtimes", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR="192.0.2.7", **key)
        assert refused.startswith("403")
        assert b"policy-refused" in body
        spoofed = "198.51.100.7, 192.0.2.7"
        assert ask(server, "/runtimes", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=spoofed, **key)[0].startswith("403")
        served, _ = ask(server, "/runtimes", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR="192.0.2.7, 198.51.100.7", **key)
        assert served.startswith("200")


@pytest.mark.parametrize("wrong", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "*"])
def test_trusted_proxies_are_addresses_and_subnets(wrong: str) -> None:
    with pytest.raises(ValueError, match="IP addresses and subnets"):
        Settings.model_validate({"trusted_proxies": wrong})
