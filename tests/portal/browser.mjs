// Chromium, axe-core and what every page must keep to. Knows no page and no server.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");

export const PHONE = { width: 360, height: 740 };
export const DESKTOP = { width: 1280, height: 800 };
export const SMALLEST = { width: 320, height: 640 };

// The distribution's browser; CHROMIUM names another. It runs as root in test machines,
// where its sandbox cannot. `args` are added to its command line.
export function openBrowser(args = []) {
  const root = process.getuid() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [...root, ...args],
  });
}

// A page in a context of its own, and `complaints`: what the console, the scripts and
// the network had to say. Playwright's own options (colorScheme, javaScriptEnabled,
// ignoreHTTPSErrors...) pass through `options`.
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (m) => {
    if (m.type() === "error" || m.type() === "warning") complaints.push(m.text());
  });
  page.on("pageerror", (e) => complaints.push(`script: ${e.message}`));
  page.on("requestfailed", (r) => complaints.push(`failed: ${r.url()}`));
  page.on("response", (r) => {
    if (r.status() >= 500) complaints.push(`${r.status()}: ${r.url()}`);
  });
  return { page, complaints, close: () => context.close() };
}

// Rules of WCAG 2.2 A and AA and axe's best practices that the page breaks.
export async function axeViolations(page) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(() => globalThis.axe.run(document));
  return found.violations.map(
    (v) => `${v.id}: ${v.help}\n    ` +
      v.nodes.map((n) => `${n.html}\n    ${n.failureSummary}`).join("\n    "));
}

// Elements that make the page scroll sideways.
export function wideElements(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > width + 0.5)
      .map((e) => `${e.tagName}.${e.className} "${e.textContent.slice(0, 30)}"`);
  });
}

// Buttons, links and fields that a finger would miss (WCAG 2.5.8: 24 by 24 pixels).
// Links within sentences are excepted there and here.
export function smallTargets(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, summary, a")]
      .filter((e) => e.checkVisibility() && !e.closest("p") && !e.matches(".skip"))
      .map((e) => [e, e.getBoundingClientRect()])
      .filter(([, r]) => r.width > 0 && (r.width < 24 || r.height < 24))
      .map(([e, r]) => `${e.tagName} "${e.textContent}" ${r.width} x ${r.height}`));
}

// All that a page must keep to, whatever it shows.
export async function checkPage(page, complaints) {
  assert.deepEqual(await wideElements(page), [], "scrolls sideways");
  assert.deepEqual(await smallTargets(page), [], "too small for a finger");
  assert.equal(await page.locator("h1").count(), 1, "one h1");
  assert.deepEqual(await axeViolations(page), [], "accessibility");
  assert.deepEqual(complaints, [], "console and network");
}

// A picture of the whole page, for people to look at.
export async function shoot(page, file) {
  mkdirSync(path.dirname(file), { recursive: true });
  await page.screenshot({ path: file, fullPage: true });
}
