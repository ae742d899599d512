"""Which path kind wins between every two NATs, and when: tables and a picture in docs/.

Run as `make matrix`; `--only HOST,CLIENT [--kind KIND]` prints one pair, `--short` takes
the first two tables only, `--networks N` prints the NATs in user space and N networks drawn
by seed alone. Every cell is a fresh network, 20 ms round trip between the
sites, with broker, host and client as root has them; what is measured is the time from
the relay's first byte to the direct path, as `connect --json` tells it. Four cells run
side by side, so that the times are rather too long than too short.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile

from . import nat, net
from .actors import Gate
from .proc import Programs
from .topology import Topology, Wire

KINDS = ("none", "fw", "eif", "ar", "masq", "cgn", "sym", "cgnsym")
WORDS = {"none": "no NAT", "fw": "firewall", "eif": "full cone", "ar": "address-restricted",
         "masq": "port-restricted", "cgn": "carrier-grade", "sym": "symmetric",
         "cgnsym": "carrier-grade, symmetric"}
VARIANTS = (("", ""), ("+udp_blocked", "UDP blocked"))
MORE = (("+reject", "RST and ICMP to the unwanted"), ("+icmp", "ICMP to the unwanted"),
        ("+invalid_drop", "invalid dropped"), ("+nosyn", "inbound SYN dropped"),
        ("+udp_blocked+reject", "UDP blocked, RST to the unwanted"),
        ("+udp_blocked+icmp", "UDP blocked, ICMP to the unwanted"),
        ("+udp_blocked+invalid_drop", "UDP blocked, invalid dropped"),
        ("+udp_blocked+nosyn", "UDP blocked, inbound SYN dropped"),
        ("+udp_blocked+nosyn+invalid_drop",
         "UDP blocked, SYN and invalid dropped"))
KINDS6 = ("none", "fw")
VARIANTS6 = (("", "IPv6"), ("+udp_blocked", "IPv6, UDP blocked"),
             ("+udp_blocked+reject", "IPv6, UDP blocked, RST to the unwanted"))
USER = ("fw", "full", "ar", "prc", "adm", "symseq", "symrange", "symlow", "sym")
USER_WORDS = {"adm": "address-dependent mapping", "symseq": "symmetric, counts up",
              "symrange": "symmetric, 512 ports a customer", "prc": "port-restricted",
              "symlow": "symmetric, random, low ports stay low",
              "sym": "symmetric, random ports", "full": "full cone"}
SEEDS = 200
ALONE = ("udp-punch", "tcp-punch", "jit-listen", "jit-listen-client", "udp-knock",
         "tcp-knock", "dial-out", "spoof")
COLOURS = {"udp-punch": "#2f7d4f", "tcp-punch": "#2b6cb0", "jit-listen": "#6b46c1",
           "jit-listen-client": "#97266d", "udp-knock": "#b7791f", "tcp-knock": "#c05621",
           "dial-out": "#285e61", "spoof": "#553c9a", "relay": "#9b9b9b"}
WORKERS = 4
SETTLED_S = 12
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _wait(proc, kind):
    """The direct path's event, or None when every kind that may be used has refused."""
    wanted = {kind} if kind else {"udp-punch", "tcp-punch", "jit-listen", "udp-knock",
                                  "jit-listen-client", "tcp-knock", "mapped"}

    def ended():
        proc.poll_output()
        paths = [e for e in proc.events
                 if e.get("event") == "path" and e["kind"] != "relay"]
        refused = {e["kind"] for e in proc.events if e.get("event") == "rejected"}
        return paths or wanted <= refused
    try:
        net.wait_until(ended, SETTLED_S, "a direct path")
    except AssertionError:
        return None
    paths = [e for e in proc.events if e.get("event") == "path" and e["kind"] != "relay"]
    return paths[0] if paths else None


def cell(host, client, kind=None, ipv6=False):
    """(kind, milliseconds after the relay's first byte)."""
    work = tempfile.mkdtemp(prefix="pmatrix-")
    programs = Programs(os.path.join(work, "log"))
    topo = None
    try:
        topo = Topology(programs, host=host, client=client, wire_host=Wire(5),
                        wire_client=Wire(5), ipv6=ipv6, ipv4=not ipv6)
        g = Gate(programs, topo, work)
        g.host.start_peer("tcp-server", 7000)
        g.start_broker()
        g.start_host("--dial-out", "--spoof", "7000")
        g.join()
        proc = g.connect("7000", None, *(["--paths", f"{kind},relay"] if kind else []))
        relay = proc.wait_event("path", 15, kind="relay")
        found = _wait(proc, kind)
        if not found:
            return "relay", 0.0
        return found["kind"], found["elapsed_ms"] - relay["elapsed_ms"]
    finally:
        programs.close()
        if topo:
            topo.net.close()
        shutil.rmtree(work, ignore_errors=True)


def careful_cell(args):
    """A cell; the lab's own fault gets another try, is told, and does not end the rest."""
    for _ in range(3):
        try:
            return cell(*args)
        except Exception as e:
            print(f"{args}: {str(e)[:200]}", file=sys.stderr)
    return "fault", 0.0


def user_cell(args):
    """A cell of profiles; `args` ends with what is the same in all."""
    host, client, more = args
    return careful_cell((f"user:{host},{more}", f"user:{client},{more}"))


def drawn_cell(seed):
    """(whether it must be direct, kind, milliseconds) of the network of that seed."""
    host, client = nat.draw(seed)
    return (nat.must_be_direct(host, client), *careful_cell((host, client)))


def networks(pool, seeds):
    """The square of the profiles, and what was drawn, as Markdown."""
    pairs = [(h, c, "delay-ms=5") for h in USER for c in USER]
    rows = {pair[:2]: result
            for pair, result in zip(pairs, pool.map(user_cell, pairs, chunksize=1))}
    drawn = pool.map(drawn_cell, range(1, seeds + 1), chunksize=1)
    must = [(kind, ms) for possible, kind, ms in drawn if possible]
    rest = [kind for possible, kind, _ in drawn if not possible]
    missed = [n for n, (possible, kind, _) in enumerate(drawn, 1)
              if possible and kind in ("relay", "fault")]
    times = [ms for kind, ms in must if kind not in ("relay", "fault")]
    return "\n".join([
        *table("NATs in user space", rows),
        "Mapping, filtering and ports as no rule of Linux's does them (`tests/lab/usernat.c`; the "
        "profiles are in `tests/lab/nat.py`).", "",
        "## Networks drawn by seed", "",
        f"{seeds} pairs of NATs with anything that `usernat` knows (`nat.draw`). Where anybody could be "
        f"direct, {len(times)} of {len(must)} were; median {percentile(times, .5):.0f} ms, 95 % within "
        f"{percentile(times, .95):.0f} ms" + (f"; not: seeds {missed}" if missed else "") +
        f". Of the other {len(rest)}, where both NATs are symmetric or one drops what TCP needs, "
        f"{sum(kind not in ('relay', 'fault') for kind in rest)} were.", ""])


def measure(pool, option, title, kinds=KINDS, kind=None, ipv6=False):
    print(f"\n{title or 'plain'}: host down, client across", flush=True)
    pairs = [(host, client) for host in kinds for client in kinds]
    results = pool.map(careful_cell, [(host + option, client + option, kind, ipv6)
                                      for host, client in pairs], chunksize=1)
    rows = dict(zip(pairs, results))
    for host in kinds:
        print(f"{host:8}" + "".join(f"{short(rows[host, c]):>16}" for c in kinds),
              flush=True)
    return rows


def short(result):
    kind, ms = result
    return kind if kind in ("relay", "fault") else f"{kind} {ms:.0f}"


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))] if values else float("nan")


def _kinds(rows):
    return list(dict.fromkeys(host for host, _ in rows))


def table(title, rows):
    times = [ms for kind, ms in rows.values() if kind not in ("relay", "fault")]
    words = {**WORDS, **USER_WORDS}
    lines = [f"## {title or 'UDP allowed'}", "",
             f"{len(times)} of {len(rows)} pairs direct; median {percentile(times, .5):.0f} ms, "
             f"95 % within {percentile(times, .95):.0f} ms.", "",
             "| | " + " | ".join(words[c] for c in _kinds(rows)) + " |",
             "|" + " --- |" * (len(_kinds(rows)) + 1)]
    for host in _kinds(rows):
        lines.append(f"| **{words[host]}** | " +
                     " | ".join(short(rows[host, c]) for c in _kinds(rows)) + " |")
    return [*lines, ""]


def markdown(tables, drawn):
    lines = ["# Which way between which NATs", "",
             "Made by `make matrix` on real nftables rules in network namespaces, 20 ms round trip "
             "between the two sites, host and client run by root, four pairs measured side by side. "
             "A cell: the kind that won, and the milliseconds from the first byte through the relay "
             "to the direct path. Host down, client across. Below, each kind alone. `mapped` needs a "
             "router that maps; its tests are in `tests/lab/test_mapped.py`.", "",
             "![The same as a picture](matrix.svg)", ""]
    for title, rows in tables:
        lines += table(title, rows)
    return "\n".join([*lines, drawn])


def _block(title, rows, left, top, size):
    """One table: a square a pair, coloured by kind, its time inside."""
    out = [f'<text x="{left}" y="{top - 26}" font-size="14" font-weight="bold">'
           f"{title or 'UDP allowed'}</text>"]
    for i, c in enumerate(KINDS):
        out.append(f'<text x="{left + i * size + size / 2}" y="{top - 8}" '
                   f'text-anchor="middle" font-size="9">{c}</text>')
    for j, host in enumerate(KINDS):
        out.append(f'<text x="{left - 6}" y="{top + j * size + size / 2 + 4}" '
                   f'font-size="10" text-anchor="end">{host}</text>')
        for i, c in enumerate(KINDS):
            kind, ms = rows[host, c]
            x, y = left + i * size, top + j * size
            out.append(f'<rect x="{x}" y="{y}" width="{size - 2}" height="{size - 2}" '
                       f'rx="4" fill="{COLOURS.get(kind, "#c53030")}"/>')
            words = "" if kind == "relay" else kind if kind == "fault" else f"{ms:.0f}"
            out.append(f'<text x="{x + size / 2 - 1}" y="{y + size / 2 + 3}" fill="#ffffff" '
                       f'font-size="10" text-anchor="middle">{words}</text>')
    return out


def svg(tables):
    """The tables beside and below each other, and what the colours mean."""
    size, columns, margin, head, foot = 38, 3, 60, 50, 50
    tables = [t for t in tables if t[1].keys() >= {(k, k) for k in KINDS}]
    block = len(KINDS) * size
    lines = (len(tables) + columns - 1) // columns
    width = columns * (block + margin) + 20
    height = lines * (block + head + 20) + foot
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="12" role="img">',
           "<title>Which path kind wins between which NATs: host down, client across, "
           "milliseconds after the relay's first byte</title>",
           '<rect width="100%" height="100%" fill="#ffffff"/>']
    for n, (title, rows) in enumerate(tables):
        out += _block(title, rows, margin + n % columns * (block + margin),
                      head + n // columns * (block + head + 20), size)
    x = margin
    for kind, colour in COLOURS.items():
        out.append(f'<rect x="{x}" y="{height - 34}" width="12" height="12" fill="{colour}"/>'
                   f'<text x="{x + 17}" y="{height - 24}">{kind}</text>')
        x += 40 + 7 * len(kind)
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one pair: HOST,CLIENT, as in masq+reject,sym")
    parser.add_argument("--kind", help="with --only: this kind and the relay alone")
    parser.add_argument("--short", action="store_true", help="the first two tables only")
    parser.add_argument("--networks", type=int, metavar="N",
                        help="the NATs in user space and N seeds only")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("matrix: network namespaces need root; run it with sudo")
    if options.only:
        print(short(cell(*options.only.split(","), kind=options.kind)))
        return
    with multiprocessing.Pool(WORKERS) as pool:
        if options.networks is not None:
            print(networks(pool, options.networks))
            return
        tables = [(title, measure(pool, option, title))
                  for option, title in VARIANTS + (() if options.short else MORE)]
        if not options.short:
            tables += [(title, measure(pool, option, title, KINDS6, None, True))
                       for option, title in VARIANTS6]
            tables += [(f"{kind} alone", measure(pool, "", f"{kind} alone", KINDS, kind))
                       for kind in ALONE]
        drawn = networks(pool, SEEDS) if not options.short else ""
    with open(os.path.join(ROOT, "docs", "MATRIX.md"), "w", encoding="utf-8") as f:
        f.write(markdown(tables, drawn))
    with open(os.path.join(ROOT, "docs", "matrix.svg"), "w", encoding="utf-8") as f:
        f.write(svg(tables))


if __name__ == "__main__":
    main()
