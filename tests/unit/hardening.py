#!/usr/bin/env python3
"""Looks at the programs as they were linked: what makes an attacker's work harder has to
be in them, whatever the compiler does by itself. Usage: hardening.py PROGRAM..."""
import re
import subprocess
import sys


def said(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def lacks(path):
    head, parts = said("readelf", "-hW", path), said("readelf", "-lW", path)
    if not re.search(r"Type: +DYN", head):
        yield "no position-independent executable"
    if "GNU_RELRO" not in parts or "BIND_NOW" not in said("readelf", "-dW", path):
        yield "no full RELRO"
    stack = re.search(r"GNU_STACK .* (\S+) +0x\w+$", parts, re.M)
    if stack is None or "E" in stack[1]:
        yield "a stack that can be executed"
    symbols = said("readelf", "--dyn-syms", "-W", path)
    for symbol, what in (("__stack_chk_fail", "no stack protector"), (r"__\w+_chk\b", "no FORTIFY")):
        if not re.search(symbol, symbols):
            yield what
    if "X86-64" not in head:
        return
    notes = said("readelf", "-nW", path)
    if "IBT" not in notes or "SHSTK" not in notes:
        yield "no CET"
    if not re.search(r"\bor[a-z]* +\$0x0,(0x\w+)?\(%rsp", said("objdump", "-d", path)):
        yield "no stack clash protection"


found = [f"{path}: {what}" for path in sys.argv[1:] for what in lacks(path)]
print("\n".join(found) or f"{len(sys.argv) - 1} programs are hardened")
sys.exit(1 if found else 0)
