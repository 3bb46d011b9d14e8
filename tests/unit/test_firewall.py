"""The firewall's rules as data, and the commands that lead from what is there to what should be."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime_server.cli.main import main
from runtime_server.engine import labels, networks
from runtime_server.network import firewall
from runtime_server.network.firewall import Firewall, FirewallFailed, Rules, chains, rules_of
from runtime_server.settings import Settings

INSTANCE = "0123456789abcdef"
RULES = rules_of(INSTANCE, ["8000", "5432/tcp", "53/udp", "8000/tcp"])
FWD, IN = chains(INSTANCE)
SYSTEM = [
    "-P INPUT ACCEPT",
    "-P FORWARD DROP",
    "-N DOCKER-USER",
    "-A FORWARD -j DOCKER-USER",
    "-A DOCKER-USER -j RETURN",
]


class Tables:
    """What iptables-restore does to a list of ``iptables -S`` lines."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = list(lines)

    def run(self, commands: list[str]) -> None:
        for command in commands:
            word, _, rest = command.partition(" ")
            if word.startswith(":"):
                self.lines = [line for line in self.lines if not line.startswith(f"-A {word[1:]} ")]
                if f"-N {word[1:]}" not in self.lines:
                    self.lines.append(f"-N {word[1:]}")
            elif word == "-A":
                self.lines.append(command)
            elif word == "-I":
                parent, one, rule = rest.split(" ", 2)
                assert one == "1"
                first = next(
                    (at for at, line in enumerate(self.lines) if line.startswith(f"-A {parent} ")), len(self.lines)
                )
                self.lines.insert(first, f"-A {parent} {rule}")
            elif word == "-D":
                self.lines.remove(f"-A {rest}")
            elif word == "-F":
                self.lines = [line for line in self.lines if not line.startswith(f"-A {rest} ")]
            else:
                assert word == "-X", command
                assert not any(line.endswith(f" -j {rest}") for line in self.lines)
                self.lines.remove(f"-N {rest}")


def apply(tables: Tables, rules: Rules = RULES) -> bool:
    commands = firewall._changes(tables.lines, rules, 4)
    tables.run(commands)
    return bool(commands)


def test_names_fit_the_kernel_and_are_the_instances_own() -> None:
    others = {networks.bridge_name(f"{number}") for number in range(100)}
    assert len(others) == 100
    assert all(len(name) == 15 for name in others)
    assert all(len(chain) <= 28 for chain in chains(INSTANCE))
    assert re.fullmatch(r"fd[0-9a-f]{2}:[0-9a-f:]+/64", networks.ula_subnet(INSTANCE))


def test_applying_is_idempotent_and_removal_leaves_nothing() -> None:
    tables = Tables(SYSTEM)
    assert apply(tables)
    assert not apply(tables)
    assert tables.lines.index(f"-A DOCKER-USER -i {RULES.bridge} -j {FWD}") < tables.lines.index(
        "-A DOCKER-USER -j RETURN"
    )
    tables.run(firewall._removal(tables.lines, INSTANCE))
    assert tables.lines == SYSTEM
    assert firewall._removal(tables.lines, INSTANCE) == []


def damage_flushed(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith(f"-A {IN} ")]


def damage_without_jump(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("-A DOCKER-USER -i ")]


def damage_jump_behind_return(lines: list[str]) -> list[str]:
    jump = next(line for line in lines if line.startswith("-A DOCKER-USER -i "))
    return [*(line for line in lines if line != jump), jump]


def damage_gone(_lines: list[str]) -> list[str]:
    return list(SYSTEM)


def damage_added(lines: list[str]) -> list[str]:
    return [*lines, f"-A {FWD} -j ACCEPT"]


def damage_other_bridge(lines: list[str]) -> list[str]:
    return [line.replace(RULES.bridge, "rs-elsewhere") for line in lines]


@pytest.mark.parametrize(
    "damage",
    [
        damage_flushed,
        damage_without_jump,
        damage_jump_behind_return,
        damage_gone,
        damage_added,
        damage_other_bridge,
    ],
)
def test_what_was_damaged_is_mended(damage: object) -> None:
    tables = Tables(SYSTEM)
    apply(tables)
    whole = sorted(tables.lines)
    assert callable(damage)
    tables.lines = damage(tables.lines)
    assert sorted(tables.lines) != whole or damage is damage_jump_behind_return
    assert apply(tables)
    assert sorted(tables.lines) == whole
    assert not apply(tables)


def test_only_packets_from_our_own_bridge_meet_the_rules() -> None:
    other = rules_of("another", ["8000"])
    tables = Tables(SYSTEM)
    apply(tables)
    apply(tables, other)
    entering = [line for line in tables.lines if line.endswith((f" -j {FWD}", f" -j {IN}"))]
    assert len(entering) == 2
    assert all(f" -i {RULES.bridge} " in line for line in entering)
    assert all(line in tables.lines for line in SYSTEM)
    tables.run(firewall._removal(tables.lines, "another"))
    assert not apply(tables)


def test_the_settings_become_rules() -> None:
    assert RULES.services == ((8000, "tcp"), (5432, "tcp"), (53, "udp"))
    host = RULES.host_rules(4)
    assert host[-1] == "-j DROP"
    assert "-p tcp -m tcp --dport 5432 -j ACCEPT" in host
    assert host.index("-d 169.254.0.0/16 -j DROP") < host.index("-p tcp -m tcp --dport 8000 -j ACCEPT")
    assert "-j DROP" not in RULES.forward_rules(4)
    closed = rules_of(INSTANCE, egress="none").forward_rules(4)
    assert closed == [f"-o {RULES.bridge} -j DROP", "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN", "-j DROP"]
    # Without neighbour solicitation not even replies find their way by IPv6.
    assert "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT" in RULES.host_rules(6)


@pytest.mark.parametrize("wrong", ["0", "70000", "http", "80/sctp", "80 -j ACCEPT", "8000-8010", "80\n"])
def test_a_service_is_a_port(wrong: str) -> None:
    assert Settings(host_services="1, 65535/udp").host_services == ("1", "65535/udp")
    with pytest.raises(ValueError, match="port, port/tcp or port/udp"):
        Settings(host_services=(wrong,))


def test_where_iptables_is_missing_or_refuses_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "_FOLDERS", os.fspath(tmp_path))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    found = Firewall(tmp_path / "lock")
    with pytest.raises(FirewallFailed, match="not installed"):
        found.apply(RULES)
    program = tmp_path / "iptables"
    program.write_text("#!/bin/sh\necho 'Permission denied (you must be root)' >&2\nexit 4\n")
    program.chmod(0o700)
    with pytest.raises(FirewallFailed, match=r"iptables: Permission denied \(you must be root\)"):
        found.remove(INSTANCE)
    with pytest.raises(FirewallFailed, match="isn't on this machine"):
        Firewall(tmp_path / "lock", local=False).apply(RULES)


def test_the_rules_are_printed_for_an_administrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_SERVER_HOST_SERVICES", "8000")
    monkeypatch.setenv("RUNTIME_SERVER_EGRESS", "none")
    state = tmp_path / "state"
    done = CliRunner().invoke(main, ["firewall", "print", "--state-dir", os.fspath(state)])
    assert done.exit_code == 0, done.output
    rules = rules_of((state / "instance").read_text().strip(), ["8000"], "none")
    for version, program in zip(firewall.VERSIONS, ("iptables", "ip6tables"), strict=True):
        for line in rules.lines(version):
            assert f"\n{program} -w {line}\n" in done.output
    assert f"-I INPUT 1 -i {rules.bridge} -j {rules.to_host}\n" in done.output


def test_a_network_is_read_from_the_engines_json() -> None:
    found = networks.network(
        {
            "Name": "runtime-server",
            "Id": "62b605be0c84" + "0" * 52,
            "Labels": {labels.INSTANCE: "theirs"},
            "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}, {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::1/64"}]},
        },
        INSTANCE,
    )
    assert (found.foreign, found.ours, found.bridge) == (True, False, "br-62b605be0c84")
    assert found.gateways == ("172.18.0.1", "fd00:1::1")
