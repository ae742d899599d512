// The portal's pages in a browser: how they look (screenshots in the build directory,
// portal-pages/), that they are accessible, and that forms and script do what they say.
// POSTERN_BUILD names the build directory. POSTERN_SHORT=1 leaves most pages out, and
// all screenshots of the others.
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
const short = process.env.POSTERN_SHORT === "1";
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
  const some = ["home-hostile", "join", "login-code-problem", "message", "owner-24",
    "owner-hostile", "owner-invite"];
  const looks = [["phone", PHONE, ["light", "dark"]], ["desktop", DESKTOP, ["dark", "light"]]];
  for (const name of short ? some : names)
    for (const [size, viewport, schemes] of looks)
      await t.test(`${name} ${size}`, () =>
        visit(name, { viewport }, async (page, complaints) => {
          for (const colorScheme of short ? schemes.slice(0, 1) : schemes) {
            await page.emulateMedia({ colorScheme });
            if (!short) await shoot(page, path.join(out, `${name}-${size}-${colorScheme}.png`));
            await checkPage(page, complaints);
          }
        }));
});

test("on the smallest phone, and with text twice as large, nothing scrolls sideways", async () => {
  for (const name of ["join", "login-code-problem", "home-typical", "home-long", "owner-invite",
    "owner-24", "owner-long", "message"]) {
    await visit(name, { viewport: SMALLEST }, async (page) => {
      await shoot(page, path.join(out, `${name}-smallest-light.png`));
      assert.deepEqual(await wideElements(page), [], name);
    });
    await visit(name, { viewport: DESKTOP }, async (page) => {
      await page.evaluate(() => { document.documentElement.style.fontSize = "200%"; });
      assert.deepEqual(await wideElements(page), [], `${name}, large text`);
    });
  }
});

test("an invite's link that was opened stands in the command, and leaves the browser never", async () => {
  await visit("home-typical#i/abc234", {}, async (page) => {
    await page.waitForURL(/\/join#i\/abc234$/);
    const port = new URL(page.url()).port;
    await page.getByText(`postern join 'postern://127.0.0.1:${port}/i/abc234'`).waitFor();
    assert.equal(await page.getByRole("heading", { name: "(like this one)" }).count(), 1);
    await shoot(page, path.join(out, "join-opened.png"));
  });
  await visit("join#i/%27%3Cb%3E", {}, async (page) => {
    await page.getByText("postern join 'LINK'", { exact: true }).waitFor();
  });
});

test("the tables stay tables for screen readers when they look like cards", () =>
  visit("owner-typical", { viewport: PHONE }, async (page) => {
    const devices = page.getByRole("table", { name: "Devices that may enter" });
    assert.equal(await devices.getByRole("row").count(), 6);
    assert.deepEqual(await devices.getByRole("columnheader").allTextContents(),
      ["Device", "State", "May use", "Key", "Access"]);
    const phone = devices.getByRole("row").filter({
      has: page.getByRole("rowheader", { name: "phone", exact: true }) });
    assert.equal(await phone.getByRole("cell").count(), 4);
  }));

test("the keyboard reaches everything, and one sees where it is", () =>
  visit("owner-typical", {}, async (page) => {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    const wanted = await page.evaluate(() =>
      [...document.querySelectorAll("a[href], button, input, select, summary")]
        .filter((e) => e.type !== "hidden" && e.checkVisibility()).length);
    const seen = new Set();
    for (let i = 0; i < wanted; i++) {
      const [id, ring, visible] = await page.evaluate(() => {
        const e = document.activeElement, style = getComputedStyle(e);
        const box = e.getBoundingClientRect();
        e.dataset.seen ??= String(Math.random());
        return [e.dataset.seen, parseFloat(style.outlineWidth), box.left >= 0];
      });
      assert.ok(ring >= 2 && visible, "the focus is seen");
      seen.add(id);
      await page.keyboard.press("Tab");
    }
    assert.equal(seen.size, wanted);
  }));

test("a device is revoked in two steps, with the keyboard and without a script", () =>
  visit("owner-typical", { javaScriptEnabled: false }, async (page) => {
    preview.state.posts.length = 0;
    const sure = page.getByRole("button", { name: "Revoke old-phone", exact: true });
    assert.equal(await sure.isVisible(), false);
    await page.locator("summary", { hasText: "old-phone" }).focus();
    await page.keyboard.press("Enter");
    await sure.waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/message");
    const [post] = preview.state.posts;
    assert.match(post.path, /^\/host\/[a-z0-9]+\/revoke$/);
    assert.deepEqual(Object.keys(post.fields).sort(), ["csrf", "device"]);
    assert.equal(post.fields.device, "rsjbfk5kqz3yh2vdmwxp7ne4ctgu6");
  }));

test("each form sends its fields without a script", async () => {
  const cases = [
    ["login", ["csrf", "name", "password"], async (page) => {
      await page.getByLabel("Name").fill("maria");
      await page.getByLabel("Password").fill("correct horse");
      await page.getByRole("button", { name: "Log in" }).click();
    }],
    ["login-code", ["code", "csrf", "name", "next", "step"], async (page) => {
      await page.getByLabel("One-time code").fill("123456");
      await page.getByRole("button", { name: "Log in" }).click();
    }],
    ["home-typical", ["csrf", "host", "service"], (page) =>
      page.getByRole("button", { name: "Open port 8080 of cam on home" }).click()],
    ["home-typical", ["csrf", "host", "service"], (page) =>
      page.getByRole("button", { name: "Close port 22 of ssh on home" }).click()],
    ["home-typical", ["csrf"], (page) =>
      page.getByRole("button", { name: "Log out" }).click()],
    ["owner-typical", ["csrf", "expires", "services"], async (page) => {
      await page.getByLabel("Services").fill("web, cam");
      await page.getByLabel("Valid for").selectOption("1 hour");
      await page.getByRole("button", { name: "Make an invite" }).click();
    }],
  ];
  const paths = [];
  for (const [name, fields, act] of cases)
    await visit(name, { javaScriptEnabled: false }, async (page) => {
      preview.state.posts.length = 0;
      await act(page);
      await page.waitForURL("**/message");
      assert.deepEqual(Object.keys(preview.state.posts[0].fields).sort(), fields);
      paths.push(preview.state.posts[0].path.replace(/host\/[^/]+/, "host/KEY"));
    });
  assert.deepEqual(paths,
    ["/login", "/login", "/open", "/close", "/logout", "/host/KEY/invite"]);
});

test("the picture renews itself, and says so when it cannot", () =>
  visit("owner-one", {}, async (page) => {
    const live = page.locator(".live");
    assert.equal(await live.getByText("maria-work").count(), 0);
    preview.state.picture = readFileSync(path.join(pages, "fragment-picture.html"), "utf8");
    await live.locator("svg text", { hasText: "maria-work" }).waitFor();
    await live.getByRole("rowheader", { name: "maria-work" }).waitFor();
    preview.state.picture = null;
    await page.locator(".live.stale").waitFor();
    await page.getByRole("status").filter({ hasText: "Not renewed since" }).waitFor();
    preview.state.picture = "<svg class=\"picture\"><title>x</title></svg>";
    await page.locator(".live:not(.stale)").waitFor();
    await page.getByText("Not renewed since").waitFor({ state: "detached" });
  }));

test("addresses are copied where the browser permits it", () =>
  visit("home-typical", { permissions: ["clipboard-read", "clipboard-write"] },
    async (page, complaints) => {
      const item = page.locator(".service").filter({ hasText: "ssh on home" });
      await item.getByRole("button", { name: "Copy the address" }).click();
      await page.getByRole("status").filter({ hasText: "Copied." }).waitFor({ state: "attached" });
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()),
        "meet.example.org:22");
      await item.getByRole("button", { name: "Copy what to type" }).click();
      await page.waitForFunction(async () =>
        await navigator.clipboard.readText() === "ssh -p 22 USER@meet.example.org");
      assert.deepEqual(complaints, []);
    }));

test("without a script nothing is offered that needs one", () =>
  visit("owner-invite", { javaScriptEnabled: false }, async (page) => {
    assert.equal(await page.getByRole("button", { name: /^Copy/ }).count(), 0);
  }));

test("colours that the system forces leave shapes and borders", () =>
  visit("home-typical", { forcedColors: "active" }, async (page, complaints) => {
    await shoot(page, path.join(out, "home-typical-forced-colours.png"));
    await checkPage(page, complaints);
  }));
