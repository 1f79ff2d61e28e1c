// How long the browser takes to open a page, until it has painted it. Usage: node open.mjs FILE [PICTURE.png]
import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const names = ["chromium", "chromium-browser", "google-chrome"];
const executablePath = execFileSync("sh", ["-c", `command -v ${names.join(" ")} | head -1`], { encoding: "utf8" }).trim();
const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath, args });
try {
  for (let time = 0; time < 3; time += 1) {
    const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    await page.goto("about:blank");
    const begun = performance.now();
    await page.goto(pathToFileURL(process.argv[2]).href);
    await page.evaluate(() => new Promise(done => requestAnimationFrame(() => setTimeout(done))));
    console.log(`  painted after ${Math.round(performance.now() - begun)} ms`);
    if (time === 2 && process.argv[3]) await page.screenshot({ path: process.argv[3] });
    await page.close();
  }
} finally {
  await browser.close();
}
