"""A DNS server that makes IPv6 addresses of IPv4 ones (DNS64, RFC 6147), for the lab:
python3 dns64.py ADDRESS PREFIX NAME=IPV4...; PREFIX is a /96."""

import ipaddress
import socket
import struct
import sys

KNOWN = {"ipv4only.arpa": ["192.0.0.170", "192.0.0.171"]}
A, AAAA, REFUSED, NO_NAME = 1, 28, 5, 3


def question(packet):
    """The name, the type, and where it ends."""
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("ascii"))
        at += 1 + packet[at]
    return ".".join(labels).lower(), struct.unpack(">H", packet[at + 1:at + 3])[0], at + 5


def answer(packet, names, prefix):
    name, kind, end = question(packet)
    found = [ipaddress.IPv4Address(a) for a in names.get(name, [])]
    if kind == AAAA:
        found = [ipaddress.IPv6Address(prefix | int(a)) for a in found]
    elif kind != A:
        found = []
    rcode = 0 if name in names else NO_NAME
    head = packet[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, len(found), 0, 0)
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(a.packed)) + a.packed
        for a in found)
    return head + packet[12:end] + records


def main(address, prefix, *more):
    names = {**KNOWN, **{name: [a] for name, a in (m.split("=") for m in more)}}
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind((address, 53))
    print("ready", flush=True)
    while True:
        packet, sender = sock.recvfrom(2048)
        sock.sendto(answer(packet, names, int(ipaddress.IPv6Address(prefix))), sender)


main(*sys.argv[1:])
