// A person at a real browser, told by lines what to do: one JSON object a line, answered
// by one. Knows what people see of the portal (headings, labels, names of buttons), and
// nothing of its addresses or of how it is made. The lab runs it on a machine of its own:
// tests/lab/chromium.py.
import { createHash } from "node:crypto";
import path from "node:path";
import { createInterface } from "node:readline";

import { checkPage, DESKTOP, openBrowser, openPage, PHONE, shoot } from "./browser.mjs";

const WAIT_MS = 10_000;

// `resolve`: Chromium's rules for names; `url`: the portal; `out`: where pictures go;
// `full`: check each page in all looks, not in two.
const { resolve, url, out, full } = JSON.parse(process.argv[2]);
const LOOKS = [["phone", PHONE, "light"], ["desktop", DESKTOP, "dark"],
  ...(full ? [["phone", PHONE, "dark"], ["desktop", DESKTOP, "light"]] : [])];
const browser = await openBrowser([`--host-resolver-rules=${resolve}`]);
let person, page;

const button = (name) => page.getByRole("button", { name, exact: true });
const texts = (locator) => locator.evaluateAll((all) =>
  all.map((e) => e.textContent.replace(/\s+/g, " ").trim()));

// What is on the page, as one would tell somebody on the telephone.
async function seen() {
  return {
    path: new URL(page.url()).pathname,
    title: await page.title(),
    heading: await page.getByRole("heading", { level: 1 }).textContent(),
    problem: (await texts(page.getByRole("alert"))).join(" "),
  };
}

// Does what leads to another page, and waits for that; also when it is the same again.
async function go(act) {
  const [response] = await Promise.all([
    page.waitForResponse((r) => r.request().isNavigationRequest() &&
      !(r.status() >= 300 && r.status() < 400)),
    act(),
  ]);
  await response.finished();
  await page.waitForLoadState();
  return { status: response.status(), ...await seen() };
}

async function hasFocus(locator, what) {
  if (!await locator.evaluate((e) => e === document.activeElement))
    throw new Error(`the focus is not on ${what}`);
}

// Presses Tab until `locator` has the focus.
async function tabTo(locator) {
  for (let i = 0; i < 60; i++) {
    if (await locator.evaluate((e) => e === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error("the keyboard does not reach it");
}

// What another server's page says, and whose certificate the browser saw for it.
async function visited(other) {
  const cdp = await other.context().newCDPSession(other);
  const certificate = new Promise((found) =>
    cdp.on("Security.visibleSecurityStateChanged", ({ visibleSecurityState: state }) => {
      if (state.certificateSecurityState) found(state.certificateSecurityState.certificate);
    }));
  await cdp.send("Security.enable");
  const response = await other.reload();
  const [der] = await certificate;
  const result = {
    status: response.status(),
    url: other.url(),
    text: (await other.locator("body").textContent()).trim(),
    subject: (await response.securityDetails()).subjectName,
    sha256: createHash("sha256").update(Buffer.from(der, "base64")).digest("hex"),
  };
  await other.close();
  return result;
}

const verbs = {
  // A new person: no cookie, an empty history.
  async come() {
    await person?.close();
    person = await openPage(browser, { ignoreHTTPSErrors: true });
    page = person.page;
    page.setDefaultTimeout(WAIT_MS);
    return go(() => page.goto(url));
  },
  look: seen,
  open: ({ path: where }) => go(() => page.goto(new URL(where, url).href)),
  again: () => go(() => page.reload()),
  // Where Chromium would have to send a form again it shows a page of its own instead.
  async back() {
    await page.goBack().catch((e) => {
      if (!e.message.includes("ERR_CACHE_MISS")) throw e;
    });
    return { url: page.url(), text: await page.locator("body").textContent() };
  },

  async login({ name, password }) {
    await page.getByLabel("Name").fill(name);
    await page.getByLabel("Password").fill(password);
    return go(() => button("Log in").click());
  },
  async code({ code }) {
    await page.getByLabel("One-time code").fill(code);
    return go(() => button("Log in").click());
  },
  async typeCode({ code }) {
    await hasFocus(page.getByLabel("One-time code"), "the code");
    await page.keyboard.type(code);
    return go(() => page.keyboard.press("Enter"));
  },
  // The focus stands where one types; nothing but keys.
  async typeLogin({ name, password }) {
    await hasFocus(page.getByLabel("Name"), "the name");
    await page.keyboard.type(name);
    await page.keyboard.press("Tab");
    await page.keyboard.type(password);
    return go(() => page.keyboard.press("Enter"));
  },
  press: ({ name }) => go(() => button(name).click()),
  async pressByKeyboard({ name }) {
    await tabTo(button(name));
    return go(() => page.keyboard.press("Enter"));
  },
  follow: ({ name }) => go(() =>
    page.getByRole("link", { name, exact: true }).click()),

  services: () => page.locator(".service").evaluateAll((items) => items.map((item) => {
    const text = (which) => item.querySelector(which)?.textContent ?? "";
    return {
      name: text("h3").replace(/ on .*/, ""),
      host: text(".on").replace(/^on /, ""),
      port: text(".port"),
      state: text(".state"),
      why: text(".why"),
      address: text(".opened code"),
      used: text(".opened div:last-child dd"),
    };
  })),
  // In a new page, as with the middle button or Control and Enter.
  async openByName({ name, keyboard }) {
    const link = page.getByRole("link", { name, exact: true });
    if (keyboard) await tabTo(link);
    const [other] = await Promise.all([
      page.context().waitForEvent("page"),
      keyboard ? page.keyboard.press("Control+Enter")
        : link.click({ modifiers: ["Control"] }),
    ]);
    await other.waitForLoadState();
    return visited(other);
  },

  table: ({ name }) => page.getByRole("table", { name }).evaluateAll((tables) =>
    tables.flatMap((table) => [...table.tBodies[0].rows].map((row) =>
      [...row.cells].map((cell) => cell.textContent.trim())))),
  picture: () => texts(page.locator("svg.picture text")),
  // Without loading the page again: its script renews the picture.
  async pictureShows({ text, gone }) {
    await page.locator("svg.picture text", { hasText: text }).first()
      .waitFor({ state: gone ? "detached" : "attached" });
    return texts(page.locator("svg.picture text"));
  },
  async invite({ services }) {
    await page.getByLabel("Services").fill(services);
    const after = await go(() => button("Make an invite").click());
    const link = await page.locator(".fresh .copy code").textContent();
    await page.locator("svg.qr").screenshot({ path: path.join(out, "qr.png") });
    return { link, ...after };
  },
  async revoke({ device }) {
    await page.locator("summary", { hasText: device }).click();
    return go(() => button(`Revoke ${device}`).click());
  },

  // The page on phone and desktop, light and dark: pictures, and what all must keep to.
  async check({ name }) {
    await page.mouse.move(0, 0);
    for (const [size, viewport, colorScheme] of LOOKS) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await shoot(page, path.join(out, `${name}-${size}-${colorScheme}.png`));
      await checkPage(page, person.complaints);
    }
    await page.setViewportSize(DESKTOP);
    await page.emulateMedia({ colorScheme: "light" });
  },
  complaints: () => person.complaints.splice(0),
};

console.log(JSON.stringify({ event: "ready" }));
for await (const line of createInterface({ input: process.stdin })) {
  const { n, verb, ...fields } = JSON.parse(line);
  try {
    const result = await verbs[verb](fields);
    console.log(JSON.stringify({ event: "did", n, result: result ?? null }));
  } catch (e) {
    await page?.screenshot({ path: path.join(out, "failed.png") }).catch(() => {});
    console.log(JSON.stringify({ event: "failed", n, error: `${verb}: ${e.message}` }));
  }
}
await browser.close();
