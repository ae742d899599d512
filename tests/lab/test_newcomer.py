"""What a newcomer stumbles over: two users on a machine, words that can be meant, and
what is said of it."""

import os
import shutil

import pytest

from .actors import HOST, postern
from .net import wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def stood(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("peer=7000")


# ------------------------------------------------------------------- root and a user

def by_default(g, actor, *args, wrapper=(), **env):
    """With the state directory that is the user's own where none is named; root's is empty."""
    inside = 'mount -t tmpfs tmpfs /var/lib; exec "$@"'
    return g.programs.run(actor.ns, args[0], "unshare", "--mount", "sh", "-c", inside, "sh", *wrapper, postern(), *args,
                          env={"POSTERN_STATE": "", "XDG_STATE_HOME": "", **env})


def users_home(g, work, name):
    """The home of a user whose state directory is a copy of that client's."""
    os.chmod(work, 0o755)
    state = f"{work}/{name}/.local/state/postern"
    shutil.copytree(g.client.state, state, ignore=shutil.ignore_patterns("*.sock"))
    for top, _, names in os.walk(f"{work}/{name}"):
        for path in (top, *(f"{top}/{n}" for n in names)):
            os.chown(path, NOBODY, NOBODY)
    return f"{work}/{name}", state


@pytest.mark.needs("setpriv")
def test_beside_roots_serve_a_user_is_told_whose_it_is(stood, work):
    g = stood
    os.chmod(work, 0o755)
    home = {"HOME": f"{work}/nothing"}
    for args in (("invite",), ("ls", "--devices"), ("access", "ls"), ("revoke", "laptop"), ("serve",),
                 ("serve", "--reload"), ("receive",)):
        done = by_default(g, g.host, *args, wrapper=AS_NOBODY, **home)
        says(done, 1, "you publish nothing here: on this machine root serves; run this with sudo and "
                      f"--state {g.host.state}")
    assert not os.path.exists(f"{work}/nothing"), "nothing was made"
    home, _ = users_home(g, work, "anna")
    says(by_default(g, g.client, "invite", wrapper=AS_NOBODY, HOME=home), 1, "nothing is published here yet")


@pytest.mark.needs("setpriv")
def test_beside_roots_up_a_user_is_told_whose_it_is(stood, work):
    g = stood
    os.chmod(work, 0o755)
    up = g.client.start("up", "--names", "off")
    up.wait_event("path", 20)
    for args in (("ping", HOST), ("nc", HOST, "peer"), ("up",), ("send", "/etc/hostname", HOST)):
        done = by_default(g, g.client, *args, wrapper=AS_NOBODY, HOME=f"{work}/nothing")
        says(done, 1, "you have joined no host: on this machine root's 'postern up' runs; run this with sudo and "
                      f"--state {g.client.state}, or join with an invite of your own")


@pytest.mark.needs("setpriv")
def test_with_sudo_the_users_own_state_is_named(stood, work):
    """Whether something of it runs, or it only stands in the home; no second device in silence."""
    g = stood
    home, state = users_home(g, work, "anna")
    users = f"{work}/passwd"
    with open(users, "w", encoding="ascii") as f:
        f.write(f"root:x:0:0::/root:/bin/sh\nanna:x:{NOBODY}:{NOBODY}::{home}:/bin/sh\n")
    known = ["sh", "-c", f'mount --bind {users} /etc/passwd; exec "$@"', "sh"]
    words = (f"root has joined no host: you have, with {state}; add '--state {state}', or "
             "'--state /var/lib/postern' to be another device")
    for args in (("up",), ("ping", HOST)):
        says(by_default(g, g.client, *args, wrapper=known, SUDO_UID=str(NOBODY)), 1, words)
    done = by_default(g, g.client, "ls", wrapper=known, SUDO_UID=str(NOBODY))
    assert done.status == 0 and f"warning: {words}" in done.stderr, done.stderr
    up = g.programs.start(g.client.ns, "up", *AS_NOBODY, postern(), "up", "--json",
                          env={"POSTERN_STATE": "", "XDG_STATE_HOME": "", "HOME": home})
    up.wait_event("path", 20)
    says(by_default(g, g.client, "up", SUDO_UID=str(NOBODY)), 1, words)
    # Nobody else's is named: who runs a program here might wish for it.
    for env in ({"SUDO_UID": "1234"}, {}):
        says(by_default(g, g.client, "ping", HOST, **env), 1, "none was joined yet")
    named = by_default(g, g.client, "ping", HOST, "--count", "1", "--state", state, SUDO_UID=str(NOBODY))
    assert named.status == 0, named.stderr
