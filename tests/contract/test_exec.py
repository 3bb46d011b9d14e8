"""Commands through the client, on the whole service in memory."""

from __future__ import annotations

import pytest

from runtime_server import (
    CommandNotFound,
    ExecOutcomeUnknown,
    ExecRequest,
    IncompatibleServer,
    InvalidState,
    RetryPolicy,
    RuntimeServerClient,
    ServerUnreachable,
)
from runtime_server.testing import InMemoryServer
from tests.contract.conftest import FaultyAdapter

PROMPT = RetryPolicy(sleep=lambda _: None)


@pytest.fixture
def runtime(client: RuntimeServerClient) -> str:
    return client.start_runtime(image="busybox").runtime_id


def test_commands_as_words_shell_and_models(client: RuntimeServerClient, runtime: str) -> None:
    assert client.exec_in_runtime(runtime, ["echo", "a b"]).stdout == "a b\n"
    assert client.exec_in_runtime(runtime, ("echo", "a")).stdout == "a\n"
    assert client.exec_in_runtime(runtime, "echo a; exit 4").exit_code == 4
    assert client.exec_in_runtime(runtime, ExecRequest(command=["cat"], stdin="in")).stdout == "in"
    assert client.exec_in_runtime(runtime, {"command": ["cat"]}, stdin="more").stdout == "more"
    assert client.exec(runtime, ["false"]).exit_code == 1
    with pytest.raises(CommandNotFound):
        client.exec(runtime, ["nothing"])
    client.pause_runtime(runtime)
    with pytest.raises(InvalidState, match="paused"):
        client.exec(runtime, ["true"])


def test_a_stream(client: RuntimeServerClient, runtime: str) -> None:
    with client.exec(runtime, "echo oh >&2; exit 2", stream=True) as stream:
        assert [(each.stream, each.data) for each in stream] == [("stderr", "oh\n")]
        assert stream.result is not None
        assert (stream.result.exit_code, stream.result.timed_out) == (2, False)
    with client.exec(runtime, ["nothing"], stream=True) as stream, pytest.raises(CommandNotFound):
        next(stream)


def test_leaving_a_stream_ends_the_command(
    shared_server: InMemoryServer, client: RuntimeServerClient, runtime: str
) -> None:
    stream = client.exec(runtime, ["sleep", "100"], stream=True)
    stream.close()
    (command,) = [
        each for each in shared_server.engine._world.execs.values() if each.container.spec.runtime_id == runtime
    ]
    assert command.code == 137


def test_a_lost_answer_is_replayed(shared_server: InMemoryServer, client: RuntimeServerClient, key: str) -> None:
    patient = shared_server.client(api_key=key, retry=PROMPT)
    runtime = patient.start_runtime(image="busybox").runtime_id
    before = shared_server.engine.calls["exec"]
    adapter = FaultyAdapter(shared_server, iter(["lost", "cut", "cut"]))
    patient._transport.session.mount("http://testserver", adapter)
    assert patient.exec_in_runtime(runtime, ["echo", "once"]).stdout == "once\n"
    assert adapter.faults == 3
    assert shared_server.engine.calls["exec"] == before + 1


def test_a_stream_that_was_lost_is_not_begun_again(
    shared_server: InMemoryServer, client: RuntimeServerClient, key: str
) -> None:
    patient = shared_server.client(api_key=key, retry=PROMPT)
    runtime = patient.start_runtime(image="busybox").runtime_id
    patient._transport.session.mount("http://testserver", FaultyAdapter(shared_server, iter(["cut"])))
    with pytest.raises(ExecOutcomeUnknown):
        patient.exec(runtime, ["echo", "once"], stream=True)


def test_a_stream_that_breaks_off(client: RuntimeServerClient, runtime: str) -> None:
    stream = client.exec(runtime, ["echo", "a"], stream=True)
    read1 = stream._reply._response.raw.read1
    pieces = [read1(20), b""]
    stream._reply._response.raw.read1 = lambda _size: pieces.pop(0)  # type: ignore[method-assign]
    with pytest.raises(ServerUnreachable):
        list(stream)
    odd = client.exec(runtime, ["echo", "a"], stream=True)
    lines = [b'{"stream": "stdin", "data": 7}\n', b""]
    odd._reply._response.raw.read1 = lambda _size: lines.pop(0)  # type: ignore[method-assign]
    with pytest.raises(IncompatibleServer):
        list(odd)
