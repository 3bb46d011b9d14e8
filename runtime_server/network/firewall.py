"""What packets from the runtimes' bridge may reach: rules as data, and iptables to apply them.

Everything is in two chains of the instance's own, entered only by packets that come in by its own bridge: one from
Docker's ``DOCKER-USER`` (``FORWARD`` where an engine has none) for what is forwarded, one from ``INPUT`` for the
host. Rules are written as ``iptables -S`` prints them, so that what is there can be compared with what should be.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime_server.engine.networks import bridge_name, instance_digest

Version = Literal[4, 6]
VERSIONS: tuple[Version, Version] = (4, 6)

METADATA: dict[Version, tuple[str, ...]] = {4: ("169.254.0.0/16",), 6: ("fd00:ec2::254/128", "fd20:ce::254/128")}
"""Where clouds tell a machine its credentials: all of IPv4's link-local addresses (169.254.169.254, and 169.254.170.2
of Amazon ECS), Amazon EC2's and Google Compute Engine's by IPv6."""

_NEIGHBOURS = (133, 134, 135, 136)
"""ICMPv6 without which there is no IPv6 on a link (RFC 4861): router and neighbour solicitation, advertisement."""
_REPLIES = "-m conntrack --ctstate RELATED,ESTABLISHED"
_PROGRAMS: dict[Version, tuple[str, ...]] = {
    4: ("iptables", "iptables-nft", "iptables-legacy"),
    6: ("ip6tables", "ip6tables-nft", "ip6tables-legacy"),
}
_KINDS = ("", "-nft", "-legacy")
_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"
_TIMEOUT = 20.0
_LOCK_WAIT = "5"
"""Seconds to wait for others that change rules (``xtables.lock``)."""
_BRIDGED = Path("/proc/sys/net/bridge")


class FirewallFailed(Exception):
    """iptables can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator's settings come to.

    Attributes:
        instance: whose chains.
        bridge: the interface by which its runtimes' packets come in.
        services: ports of the host that runtimes may reach, as port and protocol.
        egress: False: runtimes begin no connections beyond the host.
    """

    instance: str
    bridge: str
    services: tuple[tuple[int, str], ...] = ()
    egress: bool = True

    @property
    def forwarded(self) -> str:
        """The chain for what is forwarded."""
        return chains(self.instance)[0]

    @property
    def to_host(self) -> str:
        """The chain for what the host itself receives."""
        return chains(self.instance)[1]

    def forward_rules(self, version: Version) -> list[str]:
        """The rules of ``forwarded``, in order. ``RETURN`` leaves the rest to the administrator's and Docker's."""
        resolvers = [
            f"-d {address} -p {protocol} -m {protocol} --dport 53 -j RETURN"
            for address in METADATA[version]
            for protocol in ("udp", "tcp")
        ]
        # Google's metadata server is its machines' resolver, too. Without egress not even that is reached.
        beyond = [*resolvers, *(f"-d {each} -j DROP" for each in METADATA[version])] if self.egress else ["-j DROP"]
        return [f"-o {self.bridge} -j DROP", f"{_REPLIES} -j RETURN", *beyond]

    def host_rules(self, version: Version) -> list[str]:
        """The rules of ``to_host``, in order. DNS needs none: Docker's resolver is inside each container."""
        neighbours = [f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT" for kind in _NEIGHBOURS]
        return [
            f"{_REPLIES} -j ACCEPT",
            *(neighbours if version == 6 else ()),
            *(f"-d {each} -j DROP" for each in METADATA[version]),
            *(f"-p {protocol} -m {protocol} --dport {port} -j ACCEPT" for port, protocol in self.services),
            "-j DROP",
        ]

    def lines(self, version: Version) -> list[str]:
        """Both chains as ``iptables -S`` prints them."""
        forwarded = [f"-A {self.forwarded} {rule}" for rule in self.forward_rules(version)]
        return forwarded + [f"-A {self.to_host} {rule}" for rule in self.host_rules(version)]

    def jumps(self, user_chain: bool) -> dict[str, str]:
        """Which chains of the system lead to ours, and the rules that do; by chain."""
        parent = "DOCKER-USER" if user_chain else "FORWARD"
        return {parent: f"-i {self.bridge} -j {self.forwarded}", "INPUT": f"-i {self.bridge} -j {self.to_host}"}

    def script(self, version: Version) -> str:
        """Commands for an administrator's shell, which may be run again, of the kind that has Docker's rules."""
        run = f"{_name(version)} -w"
        made = [f"{run} -N {chain} 2>/dev/null || {run} -F {chain}" for chain in chains(self.instance)]
        filled = [f"{run} {line}" for line in self.lines(version)]
        # Docker has its chain for IPv6 only where it sets rules for IPv6.
        choice = f"parent=DOCKER-USER; {run} -n -L $parent >/dev/null 2>&1 || parent=FORWARD"
        entered = [
            f"{run} -C {at} {jump} 2>/dev/null || {run} -I {at} 1 {jump}"
            for at, jump in zip(("$parent", "INPUT"), self.jumps(user_chain=True).values(), strict=True)
        ]
        return "\n".join([*made, *filled, choice, *entered]) + "\n"


def rules_of(instance: str, services: Iterable[str] = (), egress: str = "open", bridge: str | None = None) -> Rules:
    """The rules for settings as they are written: services ``5432/tcp``, egress ``open`` or ``none``."""
    ports = []
    for each in services:
        port, _, protocol = each.partition("/")
        ports.append((int(port), protocol or "tcp"))
    return Rules(instance, bridge or bridge_name(instance), tuple(dict.fromkeys(ports)), egress != "none")


def chains(instance: str) -> tuple[str, str]:
    """The instance's chains, for what is forwarded and for the host; a chain's name has at most 28 characters."""
    digits = instance_digest(instance)[:8]
    return f"RUNTIME-SERVER-FWD-{digits}", f"RUNTIME-SERVER-IN-{digits}"


def here(bridge: str) -> bool:
    """Whether the bridge is in this process's network namespace: not so for a rootless or remote engine's."""
    # Not by /sys, which shows the interfaces of the namespace that it was mounted in.
    try:
        return socket.if_nametoindex(bridge) > 0
    except OSError:
        return False


class Firewall:
    """Applies rules and removes them; never touches a chain that isn't the instance's, but for the jumps into these.

    Args:
        lock: a file that keeps two processes from changing the same rules at once.
        local: whether the engine is on this machine.
    """

    def __init__(self, lock: Path, *, local: bool = True) -> None:
        self._lock = lock
        self._local = local

    def apply(self, rules: Rules) -> bool:
        """Make the rules hold, by IPv4 and IPv6, and say whether anything was missing or different.

        Raises:
            FirewallFailed: they may not hold.
        """
        if not self._local:
            raise FirewallFailed("The engine isn't on this machine.")
        changed = False
        with _locked(self._lock):
            _filter_bridged_frames()
            for version in VERSIONS:
                program = _program(version)
                commands = _changes(_list(program), rules, version)
                if commands:
                    changed = True
                    _restore(program, commands)
        return changed

    def holds(self, rules: Rules) -> bool:
        """Whether nothing of the rules is missing or different; changes nothing.

        Raises:
            FirewallFailed: nobody can tell.
        """
        return not any(_changes(_list(_program(version)), rules, version) for version in VERSIONS)

    def remove(self, instance: str) -> bool:
        """Remove the instance's chains and what leads to them; False where there were none.

        Raises:
            FirewallFailed: iptables can't be used.
        """
        changed = False
        with _locked(self._lock):
            for version in VERSIONS:
                program = _program(version)
                commands = _removal(_list(program), instance)
                if commands:
                    changed = True
                    _restore(program, commands)
        return changed


def _changes(present: Sequence[str], rules: Rules, version: Version) -> list[str]:
    """The commands that lead from ``present``, lines of ``iptables -S``, to the rules; none where they hold."""
    ours = chains(rules.instance)
    wanted = rules.jumps(user_chain="-N DOCKER-USER" in present)
    leading = {f"-A {parent} {jump}" for parent, jump in wanted.items()}
    stale = [line for line in _leading(present, ours) if line not in leading]
    late = [line for line in leading if line in present and _is_after_a_verdict(present, line)]
    missing = [line for line in leading if line not in present or line in late]
    content = [line for line in present if line.startswith(tuple(f"-A {chain} " for chain in ours))]
    declared = all(f"-N {chain}" in present for chain in ours)
    if not (stale or missing) and declared and content == rules.lines(version):
        return []
    # Naming a chain like this makes it, or empties it, within the same transaction.
    commands = [f":{chain} - [0:0]" for chain in ours] + rules.lines(version)
    commands += [line.replace("-A ", "-D ", 1) for line in (*stale, *late)]
    for line in sorted(missing):
        _, parent, jump = line.split(" ", 2)
        commands.append(f"-I {parent} 1 {jump}")
    return commands


def _removal(present: Sequence[str], instance: str) -> list[str]:
    ours = [chain for chain in chains(instance) if f"-N {chain}" in present]
    commands = [line.replace("-A ", "-D ", 1) for line in _leading(present, ours)]
    return commands + [f"-F {chain}" for chain in ours] + [f"-X {chain}" for chain in ours]


def _leading(present: Iterable[str], ours: Iterable[str]) -> list[str]:
    """The rules that lead to our chains."""
    ends = tuple(f" -j {chain}" for chain in ours)
    return [line for line in present if line.startswith("-A ") and line.endswith(ends)]


def _is_after_a_verdict(present: Sequence[str], line: str) -> bool:
    """Whether an unconditional rule before it keeps all packets from reaching it."""
    parent = line.split(" ", 2)[1]
    before = present[: present.index(line)]
    return any(f"-A {parent} -j {verdict}" in before for verdict in ("ACCEPT", "RETURN", "DROP"))


def _filter_bridged_frames() -> None:
    """Have frames between ports of one bridge pass iptables, as Docker does for IPv4, and for IPv6 only lately."""
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        switch = _BRIDGED / name
        try:
            if switch.read_text().strip() == "0":
                switch.write_text("1")
        except FileNotFoundError:
            continue  # without br_netfilter Docker keeps containers apart by port isolation, or not at all
        except OSError as error:
            raise FirewallFailed(f"{switch} can't be set: {error.strerror}.") from None


def _program(version: Version) -> str:
    """The iptables that has Docker's rules: a machine may have two kinds, one of which rules nothing."""
    names = _PROGRAMS[version]
    path = f"{os.environ.get('PATH', '')}:{_FOLDERS}"
    programs = {
        kind: found for kind, name in zip(_KINDS, names, strict=True) if (found := shutil.which(name, path=path))
    }
    if "" not in programs:
        raise FirewallFailed(f"{names[0]} is not installed.")
    return programs.get(_kind(path), programs[""])


def _name(version: Version) -> str:
    """The program's name, as far as it can be known: whoever prints rules may not be allowed to list them."""
    try:
        return Path(_program(version)).name
    except FirewallFailed:
        return _PROGRAMS[version][0]


def _kind(path: str) -> str:
    """The kind by which Docker's IPv4 rules are set, of ``_KINDS``."""
    for kind, name in zip(_KINDS, _PROGRAMS[4], strict=True):
        program = shutil.which(name, path=path)
        # Legacy tables come into being by being looked at.
        if program is None or (kind == "-legacy" and not _legacy_tables()):
            continue
        try:
            if "-N DOCKER-USER" in _list(program):
                return kind
        except FirewallFailed:
            if not kind:
                raise
    return ""


def _legacy_tables() -> bool:
    try:
        return "filter" in Path("/proc/net/ip_tables_names").read_text().split()
    except OSError:
        return False


def _list(program: str) -> list[str]:
    return _run([program, "-w", _LOCK_WAIT, "-S"]).splitlines()


def _restore(program: str, commands: Iterable[str]) -> None:
    """Run the commands as one transaction, leaving all other chains as they are."""
    text = "\n".join(["*filter", *commands, "COMMIT", ""])
    _run([f"{program}-restore", "--noflush", "-w", _LOCK_WAIT], text)


def _run(command: list[str], text: str | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, found in the system's folders
            command, input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallFailed(f"{Path(command[0]).name} can't be run: {type(error).__name__}.") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise FirewallFailed(f"{Path(command[0]).name}: {said}")
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
