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
"""

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


def nat(spec):
    """Reads `kind+option+option`, or passes a Nat through."""
    if isinstance(spec, Nat):
        return spec
    kind, *options = spec.split("+")
    if kind not in KINDS + MORE_KINDS and kind not in CARRIERS:
        raise ValueError(f"unknown NAT kind {kind}")
    return Nat(kind, **{option: True for option in options})


def rules(spec, inside):
    """The nftables script of one router; the carrier's own is that of CARRIERS."""
    n = nat(spec)
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
