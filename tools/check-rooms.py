#!/usr/bin/env python3
"""Looks for circles between the files of a floor: two or more that know one another,
directly or by way of others. A file is known by who includes its header or names a
function that it defines; so it does not help to declare everything in one header.

Files that are one machine over one private struct count as one room: they are listed
here, with the header that they share. What else goes round in a circle is printed.
Usage: tools/check-rooms.py [--graph FLOOR]
"""
import re
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"
FLOORS = ["core", "helper", "io", "path", "session", "client", "host", "broker",
          "portal", "cli"]
# Rooms of several files, by floor. Each is one machine: its files share its struct.
ROOMS = {
    "io": {
        # struct loop (io/loop_uv.h): libuv behind it.
        "loop": ["loop", "loop_uv"],
        # struct db (io/db_internal.h): its statements, its file, the copy of it.
        "db": ["db", "db_copy", "db_file", "db_internal"],
    },
    "path": {
        # struct approach (path/approach.c), as its kinds and what they send see it.
        "approach": ["accept", "approach", "kind", "target"],
        # struct uplink (path/uplink_internal.h).
        "uplink": ["uplink", "uplink_badge", "uplink_facts", "uplink_grants",
                   "uplink_internal", "uplink_prefix", "uplink_pulse", "uplink_words"],
    },
    # struct session (session/internal.h): what arrives, what leaves, streams, paths.
    "session": {"session": ["bundle", "copies", "flight", "internal", "meta", "opening", "output", "quic",
                            "round", "seal", "session", "size", "stall", "steer", "stream"],
                # session/gcm.h: by libipsec-mb, or its absence; a build has one of them.
                "gcm": ["gcm", "gcm_none"]},
    # struct peer (client/peer_internal.h): its Meta stream, silences and trials.
    "client": {"peer": ["peer", "peer_internal", "peer_meta", "peer_silence",
                        "peer_trial"]},
    # struct clients (host/clients_internal.h): each client, the whole of them, silences.
    "host": {"clients": ["clients", "clients_internal", "clients_silence",
                         "host_client"]},
    # struct shard (broker/shard.h): a thread, its devices, and what they say.
    "broker": {"shard": ["shard", "conn", "control", "control_grants", "control_internal",
                         "control_spoken"]},
}
# A definition as clang-format leaves it: the name and "(" on a line that begins at the
# margin, and the body's "{" alone at the margin after the parameters.
DEFINITION = re.compile(r"^(?!static\b)[a-z][\w \*]*?\b(\w+)\([^;{}]*?\)\n\{", re.M)
COMMENTS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def code_of(path):
    """Its text without comments and literals, but for what it includes."""
    text = path.read_text()
    includes = re.findall(r'^#include "(\w+)/(\w+)\.h"', text, re.M)
    return COMMENTS.sub(" ", text), includes


def graph_of(floor):
    """For each file of the floor, by name without ending: the others that it knows."""
    code, known = {}, {}
    for path in sorted((SRC / floor).glob("*.[ch]")):
        text, includes = code_of(path)
        code.setdefault(path.stem, {})[path.suffix] = text
        known.setdefault(path.stem, set()).update(
            name for where, name in includes if where == floor)
    owner = {f: stem for stem, parts in code.items()
             for f in DEFINITION.findall(parts.get(".c", ""))}
    for stem, parts in code.items():
        known[stem] |= {owner[word] for word in re.findall(r"\w+", parts.get(".c", ""))
                        if word in owner}
    # A header without a file of its own is known, and knows what it includes.
    return {stem: names & code.keys() - {stem} for stem, names in known.items()}


def join(graph, rooms):
    """The same between rooms: the files of one count as one."""
    room = {stem: stem for stem in graph}
    for name, stems in rooms.items():
        missing = set(stems) - graph.keys()
        if missing:
            print(f"room {name}: there is no {', '.join(sorted(missing))}")
        room.update(dict.fromkeys(stems, name))
    joined = {}
    for stem, names in graph.items():
        joined.setdefault(room[stem], set()).update(room[n] for n in names)
    return {name: names - {name} for name, names in joined.items()}


def circles(graph):
    """Strongly connected components of more than one (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in sorted(graph[v]):
            if w not in index:
                visit(w)
            if w in stack:
                low[v] = min(low[v], low[w])
        if low[v] == index[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return found


def main():
    if sys.argv[1:2] == ["--graph"]:
        for stem, names in sorted(graph_of(sys.argv[2]).items()):
            print(f"{stem}: {' '.join(sorted(names))}")
        return 0
    found = 0
    for floor in FLOORS:
        for circle in circles(join(graph_of(floor), ROOMS.get(floor, {}))):
            print(f"src/{floor}/: a circle: {' '.join(circle)}")
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
