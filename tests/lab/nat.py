"""The kinds of NAT and firewall a path must pass, as real nftables rules.

Knows the rules of each kind (RFC 4787 and RFC 5382 words in the table below); knows
nothing of the addresses beyond the two devices `lan` and `wan` of the router it is put
on, save the one inside machine that a full cone must send everything back to.

  kind   mapping               filtering               Linux rule
  none   none                  none                    plain forwarding
  fw     none                  address and port        forward: established only
  masq   endpoint independent  address and port        masquerade (keeps the port)
  sym    address and port      address and port        masquerade fully-random
  symrange  the same         address and port        masquerade to 256 ports, random
  eif    endpoint independent  endpoint independent    masquerade + dnat everything
  ar     endpoint independent  address                 the same, seen addresses only
  cgn    masq behind another masq (a second router; topology.py places it)
  cgnsym masq behind sym, likewise

IPv6 is never translated: under every kind but `none` it passes a stateful firewall.

What no rule of Linux's does is done by a NAT in user space (usernat.c), in RFC 4787's
words: `user:PROFILE,OPTION=VALUE,FLAG`, as `user:sym,ports=sequential,ban-new-per-s=50`.
The options are usernat's own; `pool=N` gives it N outer addresses.
"""

import random
from dataclasses import dataclass

KINDS = ("none", "fw", "masq", "sym", "eif", "ar", "cgn")
MORE_KINDS = ("symrange",)
TRANSLATING = ("masq", "sym", "symrange", "eif", "ar", "cgn", "cgnsym")
CARRIERS = {"cgn": "masq", "cgnsym": "sym"}   # the second router's own kind


@dataclass(frozen=True)
class Nat:
    """A kind and its options; `inside` is the machine an open NAT forwards to."""

    kind: str = "masq"
    udp_blocked: bool = False   # no UDP passes, either way
    invalid_drop: bool = False  # also drops what conntrack calls invalid
    reject: bool = False        # answers the unwanted with RST or ICMP
    icmp: bool = False          # answers the unwanted with ICMP, TCP too
    nosyn: bool = False         # drops every inbound pure SYN

    def __str__(self):
        options = [name for name in ("udp_blocked", "invalid_drop", "reject", "icmp",
                                    "nosyn")
                   if getattr(self, name)]
        return "+".join([self.kind, *options])


_ENDPOINT, _ADDRESS, _PORT = ("endpoint-independent", "address-dependent",
                              "address-and-port-dependent")
PROFILES = {
    "full": {"mapping": _ENDPOINT, "filtering": _ENDPOINT},          # full cone
    "ar": {"mapping": _ENDPOINT, "filtering": _ADDRESS},             # address-restricted
    "prc": {"mapping": _ENDPOINT, "filtering": _PORT},               # port-restricted
    "cone": {"mapping": _ENDPOINT, "filtering": _PORT, "ports": "random"},
    "adm": {"mapping": _ADDRESS, "filtering": _PORT, "ports": "random"},
    "sym": {"mapping": _PORT, "filtering": _PORT, "ports": "random"},
    "symseq": {"mapping": _PORT, "filtering": _PORT, "ports": "sequential"},
    "symrange": {"mapping": _PORT, "filtering": _PORT, "ports": "range-random",
                 "range-size": "512"},
    "symlow": {"mapping": _PORT, "filtering": _PORT, "ports": "random", "keeps-low": ""},
    "fw": {"no-translation": "", "filtering": _PORT},
}


@dataclass(frozen=True)
class User:
    """A NAT in user space: usernat's options, and how many outer addresses it has."""

    profile: str
    options: tuple = ()
    pool: int = 1
    kind: str = "user"

    @property
    def translates(self):
        return ("no-translation", "") not in self.options

    def argv(self):
        for name, value in self.options:
            yield f"--{name}"
            if value:
                yield value

    def __str__(self):
        return ",".join([f"user:{self.profile}",
                         *(f"{n}={v}" if v else n for n, v in self.options)])

    def has(self, name, *values):
        given = dict(self.options)
        return name in given and (not values or given[name] in values)


def _user(words):
    profile, *options = words.split(",")
    given = dict(PROFILES[profile])
    for option in options:
        name, _, value = option.partition("=")
        given[name] = value
    pool = int(given.pop("pool", 1))
    return User(profile, tuple(given.items()), pool)


def draw(seed):
    """Two NATs in user space; the same seed draws the same."""
    rng = random.Random(seed)

    def one():
        words = (_ENDPOINT, _ADDRESS, _PORT)
        options = {"mapping": rng.choice(words[:1] + words), "filtering": rng.choice(words),
                   "ports": rng.choice(("preserved", "sequential", "random", "range",
                                        "range-random")),
                   "range-size": str(rng.choice((64, 512, 2048))),
                   "tcp-unknown": rng.choice(("drop", "drop", "rst", "icmp")),
                   "udp-unknown": rng.choice(("drop", "drop", "icmp")),
                   "delay-ms": str(rng.choice((0, 5, 10, 20))),
                   "udp-ms": str(rng.choice((30000, 60000, 180000))),
                   "loss-permille": str(rng.choice((0, 0, 10))), "seed": str(seed)}
        for flag, odds in (("keeps-low", 2), ("overloads", 3), ("hairpins", 2),
                           ("inbound-refreshes", 2), ("rst-closes", 3), ("drops-syn", 6),
                           ("drops-icmp", 3), ("alg", 4), ("no-udp", 8)):
            if rng.randrange(odds) == 0:
                options[flag] = ""
        pool = rng.choice((1, 1, 1, 4))
        return User("drawn", tuple(options.items()), pool)
    return one(), one()


def must_be_direct(a, b):
    """What any pair of devices without privileges can do, by UDP or by TCP."""
    easy = [n.has("mapping", _ENDPOINT) for n in (a, b)]
    if a.has("no-udp") or b.has("no-udp"):
        return all(easy) and not (a.has("drops-syn") or b.has("drops-syn"))
    return any(easy)


def nat(spec):
    """Reads `kind+option+option` or `user:...`, or passes a Nat through."""
    if isinstance(spec, (Nat, User)):
        return spec
    if spec.startswith("user:"):
        return _user(spec[5:])
    kind, *options = spec.split("+")
    if kind not in KINDS + MORE_KINDS and kind not in CARRIERS:
        raise ValueError(f"unknown NAT kind {kind}")
    return Nat(kind, **{option: True for option in options})


def rules(spec, inside):
    """The nftables script of one router; the carrier's own is that of CARRIERS."""
    n = nat(spec)
    if isinstance(n, User):
        return "flush ruleset\n" + _FILTER6
    base = "masq" if n.kind in CARRIERS else n.kind
    if base not in KINDS + MORE_KINDS:
        raise ValueError(f"unknown NAT kind {base}")
    return "\n".join(["flush ruleset", _filter(n, base), _translate(base, inside)])


def _filter(n, base):
    refuse = ["drop"]
    if n.reject:
        refuse = ["meta l4proto tcp reject with tcp reset",
                  "reject with icmpx type port-unreachable"]
    if n.icmp:
        refuse = ["reject with icmpx type port-unreachable"]
    early = []
    if n.udp_blocked:
        early.append("meta l4proto udp drop")
    if n.nosyn:
        early.append('iifname "wan" tcp flags & (fin|syn|rst|ack) == syn drop')
    if base == "none":
        return _table(early, early, [], [])
    if n.invalid_drop:
        early.append("ct state invalid drop")
    body = [*early, "ct state established,related accept"]
    neighbours = ["icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"]
    let_in, learn = [], []
    if base == "eif":
        let_in = ['iifname "wan" ct status dnat accept']
    if base == "ar":
        learn = ['oifname "wan" meta nfproto ipv4 update @seen { ip daddr }']
        let_in = ['iifname "wan" ct status dnat ip saddr @seen accept']
    forward = [*learn, *body, 'iifname "lan" accept', *let_in, *refuse]
    # An unwanted packet to the router itself must end before conntrack confirms it,
    # or its entry would push the next outgoing mapping off its port.
    local = [*early, 'iifname "lo" accept', "ct state established,related accept",
             *neighbours, 'iifname "lan" accept', *refuse]
    return _table(forward, local, learn, [])


# Behind a NAT in user space, which lets IPv6 pass.
_FILTER6 = """table ip6 box {
  chain forward { type filter hook forward priority 0; policy accept;
    ct state established,related accept
    iifname "lan" accept
    drop
  }
}"""


def _table(forward, local, learn, extra):
    seen = ["  set seen { type ipv4_addr; flags dynamic; timeout 10m; }"] if learn else []
    return "\n".join([
        "table inet box {", *seen,
        "  chain forward { type filter hook forward priority 0; policy accept;",
        *("    " + line for line in forward), "  }",
        "  chain input { type filter hook input priority 0; policy accept;",
        *("    " + line for line in local), "  }", *extra, "}"])


def _translate(base, inside):
    if base not in TRANSLATING:
        return ""
    how = {"sym": "masquerade fully-random",
           "symrange": "meta l4proto { tcp, udp } masquerade to :20000-20255 random"
           }.get(base, "masquerade")
    lines = ["table ip nat {",
             "  chain out { type nat hook postrouting priority 100;",
             f'    oifname "wan" {how}', "  }"]
    if base in ("eif", "ar"):
        lines += ["  chain in { type nat hook prerouting priority -100;",
                  f'    iifname "wan" meta l4proto {{ tcp, udp }} dnat to {inside}',
                  "  }"]
    return "\n".join([*lines, "}"])
