// Looks at the page of `force-mfa status --format html` in a browser. Usage: node check.mjs BROWSER FILE
//
// The page is that of tests/organization_page.rs. An assertion that fails ends the program with exit code 1.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [executablePath, file] = process.argv.slice(2);
// The browser's sandbox does not work for root, as whom CI runs in a container.
const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath, args });
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  const troubles = [];
  page.on("console", message => ["error", "warning"].includes(message.type()) && troubles.push(message.text()));
  page.on("pageerror", error => troubles.push(error.message));
  page.on("dialog", dialog => {
    troubles.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  const requests = [];
  page.on("request", request => requests.push(request.url()));
  const url = pathToFileURL(file).href;
  await page.goto(url);

  const rows = () => page.locator("#table tbody tr:visible");
  const names = async () => (await rows().locator("th").evaluateAll(cells => cells.map(cell => cell.dataset.value)));
  const header = name => page.getByRole("columnheader", { name });
  const script = "<script>alert(1)</script>";
  const image = '"><img src=x onerror=alert(2)>';

  // Everything can be reached by keyboard, in the order in which it is read.
  const reached = [];
  for (let presses = 0; presses < 30; presses += 1) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.tagName));
  }
  for (const wanted of ["find", "state", "BUTTON", "INPUT", "SUMMARY"]) assert.ok(reached.includes(wanted), `${wanted}: ${reached}`);
  assert.ok(reached.indexOf("find") < reached.indexOf("BUTTON") && reached.indexOf("BUTTON") < reached.indexOf("SUMMARY"));

  // It shows what it is for.
  assert.match(await page.locator("h1").textContent(), /^Organization o-/);
  assert.match(await page.locator("header").textContent(), /Made \d{4}-\d\d-\d\d \d\d:\d\d UTC by arn:aws:sts::123456789012:/);
  assert.equal(await page.locator(".share strong").textContent(), "40 %");
  assert.equal(await page.getByRole("img").getAttribute("aria-label"), "2 covered, 1 exempt, 2 uncovered, 0 unknown");
  assert.equal(await rows().count(), 6);
  assert.match(await page.getByRole("row", { name: /forgotten/ }).textContent(), /not installed/);
  assert.match(await page.getByRole("row", { name: /closed/ }).textContent(), /suspended/);
  assert.match(await rows().first().textContent(), /refused.*failed.*deploy infra\/auditor\.yaml/s);
  assert.match(await page.getByRole("row", { name: /dev/ }).textContent(), /ok.*1\.2\.3/s);

  // A name is text, whatever it says.
  assert.ok((await names()).includes(script) && (await names()).includes(image));
  assert.equal(await page.locator("img, script:not(:last-child)").count(), 0);

  // Uncovered and exempt users are named, the exempt ones with the reason.
  const uncovered = page.getByRole("region", { name: "Uncovered users" });
  assert.deepEqual(await uncovered.locator("li").allTextContents(), ["bob no MFA", "carol no MFA"]);
  const exempt = page.getByRole("region", { name: "Exemptions" });
  assert.deepEqual(await exempt.locator("li").allTextContents(), ["ci-1 by name (FORCE_MFA_EXEMPT_USERS)"]);

  // It sorts by mouse and by keyboard; what is not known comes last either way.
  await header("Users").getByRole("button").click();
  assert.equal(await header("Users").getAttribute("aria-sort"), "descending");
  const users = () => rows().evaluateAll(all => all.map(row => (row.cells.length > 3 ? row.cells[3].textContent : "")));
  assert.deepEqual(await users(), ["2", "2", "1", "0", "", ""]);
  await header("Users").getByRole("button").focus();
  await page.keyboard.press("Enter");
  assert.equal(await header("Users").getAttribute("aria-sort"), "ascending");
  assert.deepEqual(await users(), ["0", "1", "2", "2", "", ""]);
  await header("Account").getByRole("button").click();
  const byName = await names();
  assert.ok(byName.indexOf("closed") < byName.indexOf("dev") && byName.indexOf("dev") < byName.indexOf("forgotten"));
  assert.equal(await page.locator("[aria-sort]").count(), 1);

  // It filters accounts by text and by state, and users.
  await page.locator("#find").fill("DEV");
  assert.deepEqual(await names(), ["dev"]);
  assert.equal(await page.locator("#shown").textContent(), "1 of 6 shown");
  await page.locator("#find").fill("");
  await page.locator("#state").selectOption("attention");
  assert.deepEqual((await names()).sort(), ["forgotten", "refused"]);
  await page.locator("#state").selectOption("");
  assert.equal(await rows().count(), 6);
  await uncovered.getByRole("searchbox").fill("carol");
  assert.deepEqual(await uncovered.locator("li:visible").allTextContents(), ["carol no MFA"]);
  assert.equal(await uncovered.locator("output").textContent(), "1 found");
  await uncovered.getByRole("searchbox").fill("nobody");
  assert.equal(await uncovered.locator("details:visible").count(), 0);
  await uncovered.getByRole("searchbox").fill("");

  // It has a dark form, a narrow one, and one for paper, where closed lists are open.
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.emulateMedia({ colorScheme: "dark" });
  assert.notEqual(await background(), light);
  await page.setViewportSize({ width: 360, height: 800 });
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360, "a narrow window scrolls down only");
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  assert.equal(await page.locator(".tools:visible").count(), 0);
  assert.equal(await background(), "rgb(255, 255, 255)");
  await page.evaluate(() => document.querySelector("details").removeAttribute("open"));
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  assert.equal(await page.locator("details:not([open])").count(), 0);

  // It loads nothing, and the browser has nothing to complain about.
  assert.deepEqual(requests, [url]);
  assert.deepEqual(troubles, []);
} finally {
  await browser.close();
}
