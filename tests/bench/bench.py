"""Measures Postern beside its peers, in one run, interleaved; prints tables and, in the
full form, writes docs/BENCHMARKS.md. Knows what is measured; rig.py knows the network.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import rig as rigs
from rig import Rig, have, missing, kernel

TARGETS = {
    "direct": "at least 1.2 times stunnel at no more CPU a GB, ahead of wireguard-go",
    "relay": "at least 1.5 times stunnel over the same way (direct TCP: stunnel; relay: stunnel "
             "via HAProxy)",
    "latency": "p50 at most 1.6 times plain",
    "storm": "at least 5,000 new connections a second",
    "memory": "under 16 KiB an idle control connection",
    "setup": "first byte in at most 2 round trips warm, 4 cold; direct within 3 more",
    "lossy": "at least 85 % of the rate",
}


class Report:
    """What is printed is what is written."""

    def __init__(self):
        self.lines = []

    def say(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def table(self, head, rows):
        self.say("| " + " | ".join(head) + " |")
        self.say("|" + " --- |" * len(head))
        for row in rows:
            self.say("| " + " | ".join(str(c) for c in row) + " |")
        self.say()


def median(values):
    return statistics.median(values) if values else float("nan")


def start_all(rig, wanted, report):
    """Opens the tunnels that this machine has the programs for."""
    tunnels = []
    for name in wanted:
        why = missing(name)
        if why:
            report.say(f"{name}: not measured, {why}\n")
            continue
        try:
            tunnels.append(getattr(rig, name)())
        except Exception as e:  # a peer that does not start is told, and no more
            report.say(f"{name}: not measured, it did not start: {str(e)[:120]}\n")
    return tunnels


def interleave(rig, tunnels, verb, rounds, *args):
    """Every tunnel once a round, so that the machine's moods fall on all alike."""
    seen = {t.name: [] for t in tunnels}
    for _ in range(rounds):
        for t in tunnels:
            seen[t.name].append(rig.load(verb, t, *args, timeout=120))
    return seen


def throughput(report, work, rounds, span):
    report.say("## Throughput, application to application")
    report.say("One connection, client to host. CPU is that of the carrying processes on "
               "both sides, without the kernel's softirq and the applications.\n")
    with Rig(os.path.join(work, "bulk")) as rig:
        rig.deploy()
        tunnels = start_all(rig, ("plain", "postern_direct", "postern_tcp",
                                  "postern_relay", "ssh",
                                  "stunnel", "stunnel_relayed", "wireguard"), report)
        seen = interleave(rig, tunnels, "bulk", rounds, span)
        base = median([r["gbit_s"] for r in seen.get("stunnel", [])])
        rows = []
        for t in tunnels:
            rate = median([r["gbit_s"] for r in seen[t.name]])
            cpu = median([r["carrier_cpu_s"] / (r["bytes"] / 1e9) for r in seen[t.name]])
            rows.append((t.name, f"{rate:.2f}", f"{rate / base:.2f}",
                         f"{cpu:.2f}" if t.procs else "-"))
        report.table(("way", "Gbit/s", "of stunnel", "CPU s a GB"), rows)
        report.say(f"Targets: direct {TARGETS['direct']}; over a stream path {TARGETS['relay']}.\n")

        report.say("## Latency of a small request")
        seen = interleave(rig, tunnels, "echo", rounds, min(span, 2))
        plain = median([r["p50_us"] for r in seen.get("plain TCP", [])])
        rows = []
        for t in tunnels:
            p50 = median([r["p50_us"] for r in seen[t.name]])
            p99 = median([r["p99_us"] for r in seen[t.name]])
            rows.append((t.name, f"{p50:.0f}", f"{p99:.0f}", f"{p50 / plain:.2f}"))
        report.table(("way", "p50 us", "p99 us", "p50 of plain"), rows)
        report.say(f"Target: {TARGETS['latency']}.\n")

        report.say("## New connections a second through one warm session")
        rows = []
        for t in tunnels:
            if t.name in ("plain TCP", "postern direct", "postern relay", "ssh -L", "stunnel"):
                got = [rig.load("storm", t, min(span, 3), 64) for _ in range(rounds)]
                rows.append((t.name, f"{median([g['per_s'] for g in got]):.0f}",
                             sum(g["failed"] for g in got)))
        report.table(("way", "connections/s", "failed"), rows)
        report.say(f"Target: {TARGETS['storm']}.\n")


def relay_cost(report, work, rounds, span):
    report.say("## The relay's own CPU")
    with Rig(os.path.join(work, "relay")) as rig:
        rig.deploy()
        ways = [rig.postern_relay()]
        for name, start in (("haproxy", rig.haproxy), ("nginx", rig.nginx)):
            if have(name):
                try:
                    ways.append(rig.proxied(name, start))
                except Exception as e:
                    report.say(f"{name}: not measured: {str(e)[:120]}\n")
        rows = []
        for width in (1, 32):
            seen = {t.name: [] for t in ways}
            for _ in range(rounds):
                for t in ways:
                    seen[t.name].append(rig.load("bulk", t, span, width))
            for t in ways:
                cost = median([r["middle_cpu_s"] / (r["bytes"] / 1e9) for r in seen[t.name]])
                rows.append((t.name, width, f"{cost:.2f}"))
        report.table(("relay", "connections", "CPU s a GB"), rows)
        report.say("Target: no more than HAProxy's.\n")


def setup(report, work, delays):
    report.say("## Setting up, at a distance")
    rows = []
    for rtt_ms in delays:
        half = ["--delay-ms", str(rtt_ms / 4)] if rtt_ms else None
        with Rig(os.path.join(work, f"setup{rtt_ms}"), half, half) as rig:
            rig.deploy()
            begun = time.monotonic()
            p = rig.start_postern(rig.client, "client", "connect", "home:load", "127.0.0.1:0")
            relay = p.wait_event("path", 30, kind="relay")
            direct = p.wait_event("path", 30, kind="udp-punch")
            took = (time.monotonic() - begun) * 1000
            per = (lambda ms: f"{ms / rtt_ms:.1f}") if rtt_ms else (lambda ms: "-")
            rows.append((rtt_ms, f"{relay['elapsed_ms']:.0f}", per(relay["elapsed_ms"]),
                         f"{direct['elapsed_ms']:.0f}", per(direct["elapsed_ms"]),
                         f"{took:.0f}"))
            p.terminate()
    report.table(("round trip ms", "session open ms", "round trips", "direct ms",
                  "round trips", "all, with process start, ms"), rows)
    report.say("From cold: TCP, TLS and the session through the relay. "
               f"Target: {TARGETS['setup']}.\n")


def lossy(report, work, span):
    report.say("## 50 ms, 0.1 % loss, 500 Mbit/s")
    wire = ["--delay-ms", "12.5", "--loss", "0.001", "--rate-mbit", "500", "500"]
    clean = ["--delay-ms", "12.5"]
    with Rig(os.path.join(work, "lossy"), wire, clean) as rig:
        rig.deploy()
        rows = []
        for t in (rig.plain(), rig.postern_direct()):
            r = rig.load("bulk", t, span, timeout=span + 90)
            rows.append((t.name, f"{r['gbit_s'] * 1000:.0f}", f"{r['gbit_s'] / 0.5 * 100:.0f}"))
        report.table(("way", "Mbit/s", "% of the rate"), rows)
        report.say(f"plain is TCP with CUBIC. Target: {TARGETS['lossy']}.\n")


FAR = (("1 up", "bulk", 1), ("8 up", "bulk", 8), ("1 down", "pull", 1), ("8 down", "pull", 8))


def far(report, work, delays, rounds, span):
    """Every way at a distance, where windows decide."""
    report.say("## Throughput at a distance")
    report.say("1 and 8 connections, up (client to host) and down, Mbit/s from a connection's first "
               "byte on; the cables only delay. `tcp-punch` is the arranged form, for which both "
               "sides have the helper; `ordinary` the one without it.\n")
    for rtt_ms in delays:
        half = ["--delay-ms", str(rtt_ms / 4)]
        with Rig(os.path.join(work, f"far{rtt_ms}"), half, half) as rig:
            rig.deploy()
            tunnels = start_all(rig, ("plain", "postern_direct", "punch", "punch_plain",
                                      "postern_relay"), report)
            cells = {t.name: [] for t in tunnels}
            for _, verb, width in FAR:
                seen = interleave(rig, tunnels, verb, rounds, span, width)
                for t in tunnels:
                    cells[t.name].append(f"{median([r['gbit_s'] for r in seen[t.name]]) * 1000:.0f}")
        report.table((f"{rtt_ms} ms round trip", *(name for name, _, _ in FAR)),
                     [(name, *values) for name, values in cells.items()])
    report.say("The broker stands half-way, as far as these bytes go: the relay's round trip is the "
               "direct one's.\n")


def aead(report):
    report.say("## Encrypting a packet")
    done = subprocess.run([rigs.tool("aead")], capture_output=True, text=True, timeout=120, check=True)
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    report.table(("by", "bytes", "GB/s", "ns a packet"),
                 [(r["by"], r["bytes"], f"{r['gb_per_s']:.1f}", f"{r['ns']:.0f}") for r in seen])
    report.say("AES-128-GCM and the header's mask, one core, in cache. GnuTLS encrypts where the "
               "build or the processor is without libipsec-mb.\n")


def memory(report, work, devices):
    report.say("## The broker's memory and handshakes")
    with Rig(os.path.join(work, "memory")) as rig:
        done = rig.programs.run(rig.broker, "brokerload", rigs.tool("brokerload"), devices,
                                rigs.tool("brokerd"), "-s", os.path.join(work, "state"),
                                timeout=240)
        if done.status != 0:
            raise RuntimeError(done.stderr.strip())
        load, back = done.event("load"), done.event("restart")
    report.table(("idle devices", "bytes each", "handshakes/s", "all back after a restart, s"),
                 [(devices, f"{load['bytes_per_idle_device']:.0f}",
                   f"{load['handshakes_per_s']:.0f}", f"{back['all_back_s']:.1f}")])
    report.say(f"Bytes beyond the kernel's socket. Target: {TARGETS['memory']}.\n")


NOTES = """## What these figures are, and are not
Two cores carry the application, both ends of the tunnel and the load server: what costs less
processor time moves more. veth carries UDP segments whole, so a real card without UDP segmentation
offload gives less. A small request is answered faster through Postern than plain because both
ends wait awake, at most 60 us, for the next message of a quick conversation; the processors
then do not fall asleep in between. "first byte in round trips" is from cold, with TCP and TLS to the
broker, which stands half-way; a warm control connection saves both. gsocket is not measured: its
relay server is not packaged. wireguard-go runs with its default of 1,420 bytes, without offloads of
newer versions. On the lossy path the rate counts Ethernet and IP headers too: 97 % is all that an
application can see of it, and the first second goes into finding the rate. From run to run it was
80-89 % full: at the target of 85 %, not always above. The relay's p50 is about twice plain's, since
every request crosses the network twice; the target is the direct path's.
"""

PARTS = ("throughput", "aead", "relay", "memory", "setup", "lossy", "far")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, written nowhere")
    parser.add_argument("--only", default=",".join(PARTS), help="of " + ", ".join(PARTS))
    options = parser.parse_args()
    rounds, span = (1, 2) if options.quick else (3, 4)
    report = Report()
    rigs.remove_stale()
    report.say("# Benchmarks")
    report.say(f"Made by `make bench` on {os.cpu_count()} cores, {kernel()}: broker, host and "
               "client in network namespaces of one machine, veth between them, TCP with "
               f"CUBIC. Medians of {rounds} interleaved runs; the machine is shared and "
               "noisy: the ratios count.\n")
    with tempfile.TemporaryDirectory(prefix="pbench-") as work:
        for part in options.only.split(","):
            try:
                if part == "throughput":
                    throughput(report, work, rounds, span)
                elif part == "aead":
                    aead(report)
                elif part == "relay":
                    relay_cost(report, work, rounds, span)
                elif part == "memory":
                    memory(report, work, 500 if options.quick else 10000)
                elif part == "setup":
                    setup(report, work, (0, 20, 100))
                elif part == "lossy":
                    lossy(report, work, 10 if not options.quick else 6)
                elif part == "far":
                    far(report, work, (50, 200), 1, 3 if options.quick else 6)
            except Exception as e:  # one part's fault must not hide the others
                report.say(f"{part}: failed: {str(e)[:300]}\n")
    report.say(NOTES)
    if not options.quick:
        root = os.path.dirname(os.path.dirname(rigs.HERE))
        with open(os.path.join(root, "docs", "BENCHMARKS.md"), "w", encoding="utf-8") as f:
            f.write("\n".join(report.lines))


main()
