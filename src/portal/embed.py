#!/usr/bin/env python3
"""Writes the files that the portal's pages ask for as one C file, page_files[].

Usage: embed.py OUTPUT FILE..."""
import os
import sys

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def array(name, data):
    lines = [f"static const unsigned char {name}[] = {{"]
    data += b"\0"  # not counted; a C string for whoever wants one
    for i in range(0, len(data), 16):
        lines.append("    " + " ".join(f"{b}," for b in data[i : i + 16]))
    return lines + ["};"]


def main(output, paths):
    lines = ["/* Written by embed.py. */", '#include "portal/pages.h"', ""]
    rows = []
    for path in paths:
        base = os.path.basename(path)
        name = base.replace(".", "_")
        kind = TYPES[os.path.splitext(base)[1]]
        with open(path, "rb") as f:
            lines += array(name, f.read())
        rows.append(f'    {{"/{base}", "{kind}", (const char *){name},'
                    f" sizeof({name}) - 1}},")
    lines += ["", "const struct page_file page_files[] = {", *rows, "    {0},", "};"]
    with open(output, "w", encoding="ascii") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
