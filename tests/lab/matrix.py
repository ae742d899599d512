"""Which path kind wins between every two NATs, and when: a table and a picture in docs/.

Run as `make matrix`; `--only HOST,CLIENT` prints one pair, `--variants` takes the rest of
the options too. Every cell is a fresh network, 20 ms round trip between the sites, with
broker, host and client; what is measured is the time from the relay's first byte to the
direct path, as `connect --json` tells it.
"""

import argparse
import os
import shutil
import sys
import tempfile

from . import net
from .actors import Gate
from .proc import Programs
from .topology import Topology, Wire

KINDS = ("none", "fw", "eif", "ar", "masq", "cgn", "sym", "cgnsym")
WORDS = {"none": "no NAT", "fw": "firewall", "eif": "full cone", "ar": "address-restricted",
         "masq": "port-restricted", "cgn": "carrier-grade", "sym": "symmetric",
         "cgnsym": "carrier-grade, symmetric"}
VARIANTS = (("", ""), ("+udp_blocked", "UDP blocked"))
MORE = (("+reject", "RST and ICMP to the unwanted"),
        ("+invalid_drop", "invalid dropped"), ("+nosyn", "inbound SYN dropped"),
        ("+udp_blocked+reject", "UDP blocked, RST"),
        ("+udp_blocked+nosyn", "UDP blocked, inbound SYN dropped"))
COLOURS = {"udp-punch": "#2f7d4f", "tcp-punch": "#2b6cb0", "jit-listen": "#6b46c1",
           "jit-listen-client": "#97266d", "relay": "#9b9b9b"}
SETTLED_S = 14
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cell(host, client):
    """(kind, milliseconds after the relay's first byte, reasons of the refused)."""
    work = tempfile.mkdtemp(prefix="pmatrix-")
    programs = Programs(os.path.join(work, "log"))
    topo = None
    try:
        topo = Topology(programs, host=host, client=client, wire_host=Wire(5),
                        wire_client=Wire(5))
        g = Gate(programs, topo, work)
        g.host.start_peer("tcp-server", 7000)
        g.up_and_joined("7000")
        proc = g.connect("7000")
        relay = proc.wait_event("path", 15, kind="relay")

        def direct():
            proc.poll_output()
            found = [e for e in proc.events
                     if e.get("event") == "path" and e["kind"] != "relay"]
            return found[0] if found else None
        try:
            net.wait_until(direct, SETTLED_S, "a direct path")
        except AssertionError:
            return "relay", 0.0
        return direct()["kind"], direct()["elapsed_ms"] - relay["elapsed_ms"]
    finally:
        programs.close()
        if topo:
            topo.net.close()
        shutil.rmtree(work, ignore_errors=True)


def careful_cell(host, client):
    """A cell; the lab's own fault gets another try, is told, and does not end the rest."""
    for _ in range(2):
        try:
            return cell(host, client)
        except Exception as e:
            print(f"{host} {client}: {str(e)[:200]}", file=sys.stderr)
    return "fault", 0.0


def measure(option, title):
    print(f"\n{title or 'plain'}: host down, client across", flush=True)
    rows = {}
    for host in KINDS:
        for client in KINDS:
            rows[host, client] = careful_cell(host + option, client + option)
        print(f"{host:8}" + "".join(f"{short(rows[host, c]):>16}" for c in KINDS),
              flush=True)
    return rows


def short(result):
    kind, ms = result
    return kind if kind in ("relay", "fault") else f"{kind} {ms:.0f}"


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))] if values else float("nan")


def markdown(tables):
    lines = ["# Which way between which NATs", "",
             "Made by `make matrix` on real nftables rules in network namespaces, 20 ms round trip "
             "between the two sites. A cell: the kind that won, and the milliseconds from the "
             "first byte through the relay to the direct path. Host down, client across.", "",
             "![The same as a picture](matrix.svg)", ""]
    for title, rows in tables:
        times = [ms for kind, ms in rows.values() if kind not in ("relay", "fault")]
        lines += [f"## {title or 'UDP allowed'}", "",
                  f"{len(times)} of {len(rows)} pairs direct; median {percentile(times, .5):.0f} ms, "
                  f"95 % within {percentile(times, .95):.0f} ms.", "",
                  "| | " + " | ".join(WORDS[c] for c in KINDS) + " |",
                  "|" + " --- |" * (len(KINDS) + 1)]
        for host in KINDS:
            lines.append(f"| **{WORDS[host]}** | " +
                         " | ".join(short(rows[host, c]) for c in KINDS) + " |")
        lines.append("")
    return "\n".join(lines)


def svg(tables):
    """A square a pair, coloured by kind, its time inside; one block a table."""
    size, left, top, gap = 62, 190, 70, 30
    block = len(KINDS) * size
    height = top + len(tables) * (block + gap + 40) + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + block + 20} {height}" '
           'font-family="sans-serif" font-size="12" role="img">',
           "<title>Which path kind wins between which NATs</title>",
           '<rect width="100%" height="100%" fill="#ffffff"/>']
    y = top
    for title, rows in tables:
        out.append(f'<text x="{left}" y="{y - 44}" font-size="15" font-weight="bold">'
                   f"{title or 'UDP allowed'}</text>")
        for i, c in enumerate(KINDS):
            out.append(f'<text x="{left + i * size + size / 2}" y="{y - 8}" '
                       f'text-anchor="middle" font-size="10">{c}</text>')
        for j, host in enumerate(KINDS):
            out.append(f'<text x="{left - 8}" y="{y + j * size + size / 2 + 4}" '
                       f'text-anchor="end">{WORDS[host]}</text>')
            for i, c in enumerate(KINDS):
                kind, ms = rows[host, c]
                x, yy = left + i * size, y + j * size
                out.append(f'<rect x="{x}" y="{yy}" width="{size - 2}" height="{size - 2}" '
                           f'rx="4" fill="{COLOURS.get(kind, "#c53030")}"/>')
                words = kind if kind in ("relay", "fault") else f"{ms:.0f} ms"
                out.append(f'<text x="{x + size / 2 - 1}" y="{yy + size / 2 + 3}" fill="#ffffff" '
                           f'text-anchor="middle">{words}</text>')
        y += block + gap + 40
    x = 20
    for kind, colour in COLOURS.items():
        out.append(f'<rect x="{x}" y="{height - 36}" width="12" height="12" fill="{colour}"/>'
                   f'<text x="{x + 17}" y="{height - 26}">{kind}</text>')
        x += 40 + 8 * len(kind)
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one pair: HOST,CLIENT, as in masq+reject,sym")
    parser.add_argument("--variants", action="store_true", help="all options, an hour")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("matrix: network namespaces need root; run it with sudo")
    if options.only:
        print(short(cell(*options.only.split(","))))
        return
    tables = [(title, measure(option, title))
              for option, title in VARIANTS + (MORE if options.variants else ())]
    with open(os.path.join(ROOT, "docs", "MATRIX.md"), "w", encoding="utf-8") as f:
        f.write(markdown(tables))
    with open(os.path.join(ROOT, "docs", "matrix.svg"), "w", encoding="utf-8") as f:
        f.write(svg(tables))


if __name__ == "__main__":
    main()
