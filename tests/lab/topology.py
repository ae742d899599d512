"""The lab's one network, drawn here and built below.

      198.18.9.2        192.0.2.10, .11
      2001:db8:9::2     2001:db8::10, ::11
      stranger            broker
         |                  |
      +--+------- inet -----+--+   the internet: plain routing; cut_direct() drops
      |            |           |   what goes from site to site, the broker stays
      a            b           c
      |wan         |wan        |wan    198.51.100.2/30, 203.0.113.2/30, 198.18.3.2/30
     box-a        box-b       box-c    the NAT kind of nat.py  (cgn: carrier-X before it)
      |lan         |lan        |lan    bridges
    host .20     client .40    (where the client goes when it moves)
    service .30

A LAN has 192.168.10/20/30.0/24 behind a NAT that translates. Behind `none` and `fw` it
has public addresses: the upper half of the site's /24. With ipv6=True a LAN also has
2001:db8:a|b|c:1::/64 and its machines ::20, ::30, ::40. An open NAT (eif, ar) sends what
comes in to the one machine at .20 on site a and .40 elsewhere.

A cable of a site or of the broker to inet may be a Wire (delay, jitter, loss, rate) in
place of a veth.
"""

import os
import signal
from dataclasses import dataclass, field

from . import nat as natlib
from .net import Net, run

BROKER, BROKER2 = "192.0.2.10", "192.0.2.11"
BROKER6, BROKER6_2 = "2001:db8::10", "2001:db8::11"
STRANGER = "198.18.9.2"

_SITES = {
    "a": ("198.51.100", "192.168.10", 1),
    "b": ("203.0.113", "192.168.20", 2),
    "c": ("198.18.3", "192.168.30", 3),
}


def _both(rate):
    return rate if isinstance(rate, tuple) else (rate, rate)


@dataclass(frozen=True)
class Wire:
    """What a cable does to what it carries; see wire.c."""

    delay_ms: float = 0
    jitter_ms: float = 0
    reorder: bool = False   # jitter may change the order
    loss: float = 0         # probability, 0.001 is 0.1 %
    rate_mbit: float = 0    # 0: none; a pair: towards the site, and from it
    later_mbit: tuple = ()  # the pair from `Topology.slow_down` on
    queue_ms: float = 50    # what may wait before the rate limit
    seed: int = 1

    def argv(self, program, a, a_dev, b, b_dev):
        argv = [program, "--a", a.netns, a_dev, "--b", b.netns, b_dev,
                "--delay-ms", self.delay_ms, "--jitter-ms", self.jitter_ms,
                "--loss", self.loss, "--rate-mbit", *_both(self.rate_mbit),
                "--later-mbit", *_both(self.later_mbit or self.rate_mbit),
                "--queue-ms", self.queue_ms, "--seed", self.seed]
        return argv + (["--reorder"] if self.reorder else [])


@dataclass
class Machine:
    """An end machine: its namespace, and where it stands now."""

    name: str
    ns: object
    last: int
    site: object = None
    address: str = ""
    address6: str = ""


@dataclass
class Site:
    """One customer of the internet: a router with a NAT kind, and a LAN behind it."""

    letter: str
    kind: natlib.Nat
    box: object = None
    carrier: object = None
    public: str = ""
    machines: dict = field(default_factory=dict)

    @property
    def lan(self):
        """The LAN's first three numbers and its base in the last."""
        public, private, _ = _SITES[self.letter]
        return (private, 0, 24) if self.translates else (public, 128, 25)

    @property
    def translates(self):
        if isinstance(self.kind, natlib.User):
            return self.kind.translates
        return self.kind.kind in natlib.TRANSLATING

    def lan_address(self, last):
        net, base, _ = self.lan
        return f"{net}.{base + last}"

    def lan_address6(self, last):
        return f"2001:db8:{self.letter}:1::{last}"


class Topology:
    """Builds the drawing above; a context manager that unmakes it."""

    def __init__(self, programs, host="masq", client="masq", ipv6=False, ipv4=True,
                 wire_host=None, wire_client=None, third="masq", wire_third=None,
                 wire_broker=None):
        self.programs = programs
        self.ipv6, self.ipv4 = ipv6, ipv4
        self._wire_broker = wire_broker
        self.net = Net()
        self.sites, self.wires, self.usernats = {}, {}, {}
        try:
            self._third, self._wire_third = natlib.nat(third), wire_third
            self.net.add("inet", "broker", "stranger", "box-a", "box-b", "host",
                         "service", "client")
            with self.net.together():
                self._build_inet()
                self._add_site("a", natlib.nat(host), wire_host)
                self._add_site("b", natlib.nat(client), wire_client)
                self.host = self.machine("host", "a", 20)
                self.service = self.machine("service", "a", 30)
                self.client = self.machine("client", "b", 40)
        except BaseException:
            self.net.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.net.close()

    # ------------------------------------------------------------------- building

    def _build_inet(self):
        self.inet = self.net.namespace("inet")
        self.inet.forward()
        self.broker = self._public_machine(
            "broker", "192.0.2.1/24", "2001:db8::1/64",
            [f"{BROKER}/24", f"{BROKER2}/24"], [f"{BROKER6}/64", f"{BROKER6_2}/64"],
            self._wire_broker)
        self.stranger = self._public_machine(
            "stranger", "198.18.9.1/24", "2001:db8:9::1/64",
            [f"{STRANGER}/24"], ["2001:db8:9::2/64"])

    def _public_machine(self, name, gateway, gateway6, addresses, addresses6, wire=None):
        ns = self.net.namespace(name)
        self._cable(name, ns, wire, "eth0")
        self.inet.address(name, gateway)
        ns.address("eth0", *addresses)
        ns.default_route(gateway.split("/")[0])
        if self.ipv6:
            self.inet.address(name, gateway6)
            ns.address("eth0", *addresses6)
            ns.default_route(gateway6.split("/")[0])
        return ns

    def _add_site(self, letter, kind, wire=None):
        public, _, number = _SITES[letter]
        site = Site(letter, kind, public=f"{public}.2")
        site.box = self.net.namespace(f"box-{letter}")
        site.box.forward()
        edge = site.box
        if kind.kind in natlib.CARRIERS:
            edge = site.carrier = self.net.namespace(f"carrier-{letter}")
            edge.forward()
        if isinstance(kind, natlib.User):
            self._add_usernat(site, public)
        else:
            self._cable(letter, edge, wire)
            edge.address("wan", f"{public}.2/30")
            edge.default_route(f"{public}.1")
        self.inet.address(letter, f"{public}.1/30")
        if self.ipv6:
            self._route6(site, edge)
        if site.carrier:
            self._add_carrier(site, number)
        self._add_lan(site)
        inside = site.lan_address(20 if letter == "a" else 40)
        site.box.nft(natlib.rules(kind, inside))
        self.sites[letter] = site
        return site

    def _add_usernat(self, site, public):
        """Between the router's `wan` and inet; more outer addresses are from .64 on."""
        pool = [f"{public}.{63 + n}" for n in range(1, site.kind.pool)]
        addresses = [f"{public}.2", *pool] if site.translates else []
        argv = [word for a in addresses for word in ("--address", a)]
        proc = self.programs.start(
            None, f"usernat-{site.letter}", usernat_program(),
            "--inside", site.box.netns, "wan", "--outside", self.inet.netns, site.letter,
            *argv, *site.kind.argv())
        proc.wait_line("ready")
        self.usernats[site.letter] = proc
        # What a busy machine lets lie for a while is not lost, as in a router's hardware.
        site.box.tell("link set dev wan txqueuelen 10000 up")
        site.box.tell("route replace 0.0.0.0/0 dev wan")
        self.inet.tell(f"link set dev {site.letter} txqueuelen 10000 up")
        for address in pool:
            self.inet.tell(f"route add {address}/32 dev {site.letter}")

    def _cable(self, name, edge, wire, dev="wan"):
        if wire is None:
            self.net.link(self.inet, name, edge, dev)
            return
        argv = wire.argv(wire_program(), self.inet, name, edge, dev)
        proc = self.programs.start(None, f"wire-{name}", *argv)
        proc.wait_line("ready")
        self.wires[name] = proc

    def slow_down(self, machine):
        """From now on its site's wire has the rates `later_mbit`."""
        self.wires[machine.site.letter].signal(signal.SIGUSR1)

    def _route6(self, site, edge):
        base = f"2001:db8:{site.letter}"
        self.inet.address(site.letter, f"{base}::1/64")
        edge.address("wan", f"{base}::2/64")
        edge.default_route(f"{base}::1")
        self.inet.tell(f"route add {base}:1::/64 via {base}::2")

    def _add_carrier(self, site, number):
        self.net.link(site.carrier, "lan", site.box, "wan")
        site.carrier.address("lan", f"100.64.{number}.1/24")
        site.box.address("wan", f"100.64.{number}.2/24")
        site.box.default_route(f"100.64.{number}.1")
        if self.ipv6:
            base = f"2001:db8:{site.letter}:2"
            site.carrier.address("lan", f"{base}::1/64")
            site.carrier.tell(f"route add 2001:db8:{site.letter}:1::/64 via {base}::2")
            site.box.address("wan", f"{base}::2/64")
            site.box.default_route(f"{base}::1")
        site.carrier.nft(natlib.rules(natlib.CARRIERS[site.kind.kind], None))

    def _add_lan(self, site):
        net, base, bits = site.lan
        self.net.switch(site.box, "lan")
        site.box.address("lan", f"{net}.{base + 1}/{bits}")
        if self.ipv6:
            site.box.address("lan", f"2001:db8:{site.letter}:1::1/64")
        if not site.translates:
            to = f"dev {site.letter}" if isinstance(site.kind, natlib.User) else \
                f"via {site.public}"
            self.inet.tell(f"route add {net}.{base}/{bits} {to}")

    # ------------------------------------------------------------ machines and moves

    def machine(self, name, letter, last):
        """A new machine on a site's LAN, or one more beside those drawn."""
        with self.net.together():
            m = Machine(name, self.net.namespace(name), last)
            self.attach(m, letter)
        return m

    def attach(self, machine, letter):
        with self.net.together():
            self._attach(machine, letter)

    def _attach(self, machine, letter):
        site = self.sites[letter]
        ns, port = machine.ns, f"p-{machine.name}"
        self.net.link(site.box, port, ns, "eth0")
        self.net.plug(site.box, "lan", port)
        _, _, bits = site.lan
        machine.site = site
        if self.ipv4:
            machine.address = site.lan_address(machine.last)
            ns.address("eth0", f"{machine.address}/{bits}")
            ns.default_route(site.lan_address(1))
        if self.ipv6:
            machine.address6 = site.lan_address6(machine.last)
            ns.address("eth0", f"{machine.address6}/64")
            ns.default_route(site.lan_address6(1))
        site.machines[machine.name] = machine

    def detach(self, machine):
        """Pulls the machine's cable out: its device, addresses and routes are gone."""
        machine.ns.ip("link", "del", "eth0")
        machine.site.machines.pop(machine.name, None)
        machine.site = None

    def move(self, machine, letter="c"):
        """Takes the machine to another site: another LAN, NAT and public address."""
        self.open_site(letter)
        self.detach(machine)
        self.attach(machine, letter)

    def open_site(self, letter="c"):
        """The third site, when it is not there yet."""
        if letter not in self.sites:
            with self.net.together():
                self._add_site(letter, self._third, self._wire_third)
        return self.sites[letter]

    def cable(self, machine, letter, dev):
        """One more cable, without an address yet, from a machine to a site's LAN."""
        site, port = self.sites[letter], f"{dev}-{machine.name}"
        with self.net.together():
            self.net.link(site.box, port, machine.ns, dev)
            self.net.plug(site.box, "lan", port)

    # ----------------------------------------------------------------- disturbances

    def cut_direct(self):
        """No packet passes from site to site any more; the broker stays reachable."""
        self.inet.nft("table inet cut {\n"
                      "  chain forward { type filter hook forward priority 0;\n"
                      '    iifname { "a", "b", "c" } oifname { "a", "b", "c" } drop\n'
                      "  }\n}")

    def mend_direct(self):
        self.inet.nft("delete table inet cut")

    def cut_broker(self):
        """The broker is unreachable; what goes from site to site still passes."""
        self.inet.nft("table inet nobroker {\n"
                      "  chain forward { type filter hook forward priority 0;\n"
                      '    iifname "broker" drop\n    oifname "broker" drop\n  }\n}')

    def mend_broker(self):
        self.inet.nft("delete table inet nobroker")

    def block_udp(self, letter):
        """From now on the site's router passes no UDP."""
        site = self.sites[letter]
        site.box.nft("insert rule inet box forward meta l4proto udp drop")

    def flush_conntrack(self, letter):
        """The site's NAT forgets every mapping, as after a restart."""
        site = self.sites[letter]
        if letter in self.usernats:
            self.usernats[letter].signal(signal.SIGUSR1)
        for router in (site.box, site.carrier):
            if router:
                router.flush_conntrack()


def wire_program():
    return os.path.join(build_dir(), "tests", "lab", "wire")


def usernat_program():
    return os.path.join(build_dir(), "tests", "lab", "usernat")


def root_dir():
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build_dir():
    """POSTERN_BUILD, or `build` in the project's root."""
    return os.path.abspath(os.environ.get("POSTERN_BUILD", f"{root_dir()}/build"))


def have(program):
    return bool(run("sh", "-c", f"command -v {program}", check=False).strip())
