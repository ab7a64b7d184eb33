"""Several hosts as one."""

import pytest
from sdk.hosts.processes import call

from agentflux.errors import ConfigError, ServerGone
from agentflux.hosts.local import LocalTools
from agentflux.hosts.many import Hosts
from agentflux.hosts.scripted import ScriptedHost


def test_each_call_goes_to_the_host_of_its_tool_set_only() -> None:
    mail, files = ScriptedHost({"mail.send": "sent"}), ScriptedHost({"files.read": "text"})

    result = Hosts([mail, files]).call(call("files", "read"), timeout_s=1)

    assert result.text == "text"
    assert (len(mail.calls), len(files.calls)) == (0, 1)


def test_a_tool_set_offered_twice_is_refused_with_its_name_and_both_hosts() -> None:
    def send() -> None: ...

    hosts = Hosts([ScriptedHost({"mail.send": "sent"}), LocalTools("mail", [send])])

    with pytest.raises(ConfigError, match="'mail' is offered twice, by ScriptedHost and by Local"):
        hosts.list_tools()


def test_closing_closes_every_host_also_when_one_fails() -> None:
    class Broken(ScriptedHost):
        def close(self) -> None:
            raise ServerGone("mail", "it died")

    first, last = ScriptedHost({"a.a": ""}), ScriptedHost({"b.b": ""})
    with pytest.raises(ServerGone):
        Hosts([first, Broken({"mail.send": ""}), last]).close()

    assert (first.closed, last.closed) == (True, True)
