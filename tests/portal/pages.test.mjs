// The portal's pages in a browser: how they look (screenshots in the build directory,
// portal-pages/), that they are accessible, and that forms and script do what they say.
// POSTERN_BUILD names the build directory.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { checkPage, DESKTOP, openBrowser, openPage, PHONE, shoot, SMALLEST,
  wideElements } from "./browser.mjs";
import { servePreview } from "./preview.mjs";

const build = path.resolve(process.env.POSTERN_BUILD ?? "build");
const out = path.join(build, "portal-pages");
const pages = path.join(out, "html");
let browser, preview;

before(async () => {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(pages, { recursive: true });
  execFileSync(path.join(build, "tests/portal/portal-preview"), [pages]);
  preview = await servePreview(pages);
  browser = await openBrowser();
});
after(async () => {
  await browser?.close();
  await preview?.close();
});

// Opens a page, hands it to `use`, closes it whatever happens.
async function visit(name, options, use) {
  const { page, complaints, close } = await openPage(browser, options);
  try {
    await page.goto(preview.url(name));
    return await use(page, complaints);
  } finally {
    await close();
  }
}

test("each page, light and dark, on phone and desktop", async (t) => {
  const names = readdirSync(pages)
    .filter((f) => f.endsWith(".html") && !f.startsWith("fragment-"))
    .map((f) => path.basename(f, ".html"));
  assert.ok(names.length > 15, "the preview wrote its pages");
  for (const name of names)
    for (const [size, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP }))
      for (const colorScheme of ["light", "dark"])
        await t.test(`${name} ${size} ${colorScheme}`, () =>
          visit(name, { viewport, colorScheme }, async (page, complaints) => {
            await shoot(page, path.join(out, `${name}-${size}-${colorScheme}.png`));
            await checkPage(page, complaints);
          }));
});
