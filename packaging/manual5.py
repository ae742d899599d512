#!/usr/bin/env python3
"""Writes postern-state(5) or postern-events(5) out of their section of docs/CLI.md.

Usage: manual5.py postern-state|postern-events VERSION DATE CLI.md"""
import re
import sys

PAGES = {
    "postern-state": ("The state directory", "files of Postern's state directory"),
    "postern-events": ("Events", "what Postern's commands report with --json"),
}


def roff(text):
    """A line of Markdown: code is bold, links are their text."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)
    text = re.sub(r"(?<!\w)\*([^*]+)\*", r"\\fI\1\\fR", text)
    return "\\&" + text if text.startswith(".") else text


def cells(row):
    return [c.strip() for c in row.strip().strip("|").split(" | ")]


def body(section):
    fresh, table = True, []
    for line in section.split("\n") + [""]:
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            names = cells(table[0])
            for row in map(cells, table[2:]):
                yield ".TP\n" + roff(row[0])
                yield roff(row[1] if len(row) == 2 else f"{names[1].capitalize()}: {row[1]}.")
                for name, cell in zip(names[2:], row[2:]):
                    yield ".br\n" + roff(f"{name.capitalize()}: {cell}.")
            table, fresh = [], False
        if not line.strip():
            fresh = False
            continue
        if not fresh:
            yield ".PP"
            fresh = True
        yield roff(line.strip())


def main():
    name, version, date, source = sys.argv[1:]
    title, summary = PAGES[name]
    text = open(source, encoding="utf-8").read()
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S).group(1)
    print(f'.TH {name.upper()} 5 {date} "Postern {version}" "Postern"')
    print(".SH NAME\n" + roff(f"{name}") + " \\- " + roff(summary))
    print(".SH DESCRIPTION")
    print("\n".join(body(section)).removesuffix("\n.PP"))
    print(".SH SEE ALSO\n.BR postern (1)")


main()
