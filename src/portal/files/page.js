// What the portal's pages can do better with a script; all works without it.
"use strict";

const REFRESH_MS = 2000;

function say(text) {
  const said = document.getElementById("said");
  if (said) said.textContent = text;
}

// Buttons that copy appear only where the browser lets us copy.
function offerCopies() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.classList.add("done");
        say("Copied.");
      } catch {
        say("The browser does not allow to copy; mark the text instead.");
      }
    });
  }
}

// True while somebody marks text in the picture's table: replacing it would take that.
function isMarked(element) {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && element.contains(selection.anchorNode);
}

async function refresh(live) {
  const answer = await fetch(live.dataset.picture, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) throw new Error("no picture");
  const text = await answer.text();
  if (text === live.shown || isMarked(live)) return;
  const parsed = new DOMParser().parseFromString(text, "text/html");
  live.replaceChildren(...parsed.body.childNodes);
  live.shown = text;
}

// A picture that stands still must not look alive.
function mark(live, stale) {
  const note = document.getElementById("live-note");
  if (stale === live.classList.contains("stale")) return;
  live.classList.toggle("stale", stale);
  if (note)
    note.textContent = stale
      ? `Not renewed since ${new Date().toLocaleTimeString()}. Load the page again.`
      : "";
}

// One request at a time, and none while nobody looks.
function keepFresh(live) {
  const next = async () => {
    if (!document.hidden) {
      try {
        await refresh(live);
        mark(live, false);
      } catch {
        mark(live, true);
      }
    }
    setTimeout(next, REFRESH_MS);
  };
  setTimeout(next, REFRESH_MS);
}

// An invite's link that was opened here, at /i/... or behind a #: what is there never
// left the browser, and stays there. "" where there is none.
function inviteOpened() {
  const found = /^(?:\/|#)i\/([a-z2-7]+)$/i;
  const [, payload] = found.exec(location.hash) ?? found.exec(location.pathname) ?? [];
  if (!payload) return "";
  const port = location.port || 443;
  return `postern://${location.hostname}:${port}/i/${payload}`;
}

// It stands in the command that takes it; other pages lead to the one with the command.
function showInvite() {
  const link = inviteOpened();
  if (link && location.hash && location.pathname !== "/join") {
    location.replace(`/join${location.hash}`);
    return;
  }
  const copy = document.querySelector('button[data-copy="postern join \'LINK\'"]');
  if (!copy) return;
  if (link) {
    copy.dataset.copy = copy.dataset.copy.replace("LINK", link);
    copy.previousElementSibling.textContent = copy.dataset.copy;
  }
  const agent = navigator.userAgent;
  const system = /Linux/.test(agent) && !/Android/.test(agent) ? "linux" : "other";
  document.getElementById(system).textContent += " (like this one)";
}

showInvite();
offerCopies();
for (const live of document.querySelectorAll("[data-picture]")) keepFresh(live);
